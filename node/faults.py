"""What a client can do wrong at a node's door, and what can be wrong with a node itself.

RemoteFault
  RequestFault
    BadRequest        E401  a parameter or body is missing, malformed or out of range
    WrongActions      E402  the envelope holds other actions than this route takes
    NotFound          E404  no such route, market, order, block or account
    MethodNotAllowed  E405  the route exists, but not for this method
    NotABatch         E406  what a peer sent as a batch is none (`node.batch`)
    BodyTooLarge      E413  more bytes than this route accepts
    TooManyRequests   E429  this client or account sends faster than its allowance
    NotReady          E494  the node is catching up or its queue is full; try another node
LocalFault
  ConfigInvalid       E430  the configuration file cannot be used
  GenesisInvalid      E431  the genesis document cannot be used
  KeysMismatch        E432  the keystore is not that of the validator named in the configuration
  StorageMismatch     E434  stored blocks do not give the stored state
"""

from primitives.faults import LocalFault, RemoteFault


class RequestFault(RemoteFault):
    """A request was refused; `status` is the HTTP status that goes with it."""

    code = "E400"
    status = 400


class BadRequest(RequestFault):
    """A parameter or body is missing, malformed or out of range."""

    code = "E401"


class WrongActions(RequestFault):
    """The envelope holds other actions than this route takes."""

    code = "E402"


class NotFound(RequestFault):
    """No such route, market, order, block or account."""

    code = "E404"
    status = 404


class MethodNotAllowed(RequestFault):
    """The route exists, but not for this method."""

    code = "E405"
    status = 405


class BodyTooLarge(RequestFault):
    """More bytes than this route accepts."""

    code = "E413"
    status = 413


class TooManyRequests(RequestFault):
    """This client or account sends faster than its allowance."""

    code = "E429"
    status = 429


class NotReady(RequestFault):
    """The node is catching up, or its queue is full; try again soon or another node."""

    code = "E494"
    status = 503


class ConfigInvalid(LocalFault):
    """The configuration file cannot be used."""

    code = "E430"


class GenesisInvalid(LocalFault):
    """The genesis document cannot be used."""

    code = "E431"


class KeysMismatch(LocalFault):
    """The keystore is not that of the validator named in the configuration."""

    code = "E432"


class StorageMismatch(LocalFault):
    """Stored blocks do not give the stored state."""

    code = "E434"
