"""What can go wrong between peers.

RemoteFault
  PeerFault
    FrameTooLarge        E501  a frame's length is above FRAME_BYTES_MAX
    FrameMalformed       E502  the messages inside a frame do not add up to its length
    FrameCrowded         E503  more messages in one frame than FRAME_MESSAGES_MAX
    StrangerStream       E504  a validator stream from a peer that is no validator
    StreamsExceeded      E505  too many streams, open or per second
    FlowViolated         E506  bytes sent beyond what the receive windows allow
    PeerSilent           E507  neither a heartbeat nor the answer to a ping in time
    StrangersExceeded    E508  no room for another peer that is no validator
    StreamBroken         E509  a stream ended inside a frame, or its handler gave up on it
    WriteStalled         E510  the peer stopped reading
    OutboxFull           E511  the peer reads more slowly than we must send
  GossipFault
    GossipMalformed      E521  not a gossip message that this network uses
    GossipUnsigned       E522  the signature does not belong to the sender
    GossipRateExceeded   E523  more messages than a peer may pass on per topic
    GossipRefused        E524  the topic's own check refused the payload
  RequestFault
    RequestRefused       E531  the peer answered with a refusal; it carries the peer's code
    RequestTimeout       E532  no answer before the deadline
    RequestTooLarge      E533  the request is above what the protocol takes
    ResponseTooLarge     E534  the response is above what the requester takes
    ResponseMalformed    E535  the response is not framed as PROTOCOL says
    RequestRateExceeded  E536  more requests than a peer may make
    RequestUnanswered    E537  the handler failed for reasons of its own
  AddressFault
    AddressMalformed     E541  not a TCP multiaddr that ends in /p2p/<peer id>
    PeerUnreachable      E542  no connection, and no known address answers
    AddressesExceeded    E543  no room for another address
LocalFault
  HostFailed             E551  the libp2p host stopped by itself
  ListenFailed           E552  the listening address cannot be had
  MessageTooLarge        E553  a message of ours is above the size that peers accept
  NameTaken              E554  a protocol or topic of that name is already in use
"""

import re
from typing import Final

from primitives.faults import LocalFault, RemoteFault

SENTENCE_BYTES_MAX: Final = 512  # longer sentences of a peer are cut

_CODE = re.compile(r"[A-Z][0-9]{3}")


class PeerFault(RemoteFault):
    """A connected peer broke a rule of the transport."""


class FrameTooLarge(PeerFault):
    """A frame's length is above FRAME_BYTES_MAX."""

    code = "E501"

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(f"a frame of {length} bytes is above the limit of {limit}; split it")


class FrameMalformed(PeerFault):
    """The messages inside a frame do not add up to its length."""

    code = "E502"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}; both ends must speak the same version")


class FrameCrowded(PeerFault):
    """More messages in one frame than FRAME_MESSAGES_MAX."""

    code = "E503"

    def __init__(self, limit: int) -> None:
        super().__init__(f"a frame holds more than {limit} messages; send several frames")


class StrangerStream(PeerFault):
    """A validator stream from a peer that is no validator."""

    code = "E504"

    def __init__(self) -> None:
        super().__init__("validator streams are for the validators that genesis names")


class StreamsExceeded(PeerFault):
    """Too many streams, open or per second."""

    code = "E505"

    def __init__(self, limit: float, unit: str) -> None:
        super().__init__(f"more than {limit:g} streams {unit}; close some and slow down")


class FlowViolated(PeerFault):
    """Bytes sent beyond what the receive windows allow."""

    code = "E506"

    def __init__(self, held: int, limit: int) -> None:
        super().__init__(f"{held} unread bytes exceed the windows' {limit}; wait for credit")


class PeerSilent(PeerFault):
    """Neither a heartbeat nor the answer to a ping in time."""

    code = "E507"

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"nothing arrived for {limit_ms} ms; send heartbeats, then reconnect")


class StrangersExceeded(PeerFault):
    """No room for another peer that is no validator."""

    code = "E508"

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} peers that are no validators are connected; try another node")


class StreamBroken(PeerFault):
    """A stream ended inside a frame, or its handler gave up on it."""

    code = "E509"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}; open the stream again")


class WriteStalled(PeerFault):
    """The peer stopped reading."""

    code = "E510"

    def __init__(self, limit_ms: int) -> None:
        super().__init__(f"the peer took no bytes for {limit_ms} ms; the stream was dropped")


class OutboxFull(PeerFault):
    """The peer reads more slowly than we must send."""

    code = "E511"

    def __init__(self, messages: int, size: int) -> None:
        super().__init__(f"{messages} messages ({size} bytes) wait; the stream was dropped")


class GossipFault(RemoteFault):
    """A gossip message that goes no further."""


class GossipMalformed(GossipFault):
    """Not a gossip message that this network uses."""

    code = "E521"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}; send one signed message for one topic of this network")


class GossipUnsigned(GossipFault):
    """The signature does not belong to the sender."""

    code = "E522"

    def __init__(self) -> None:
        super().__init__("the signature does not match the sender; sign with the network key")


class GossipRateExceeded(GossipFault):
    """More messages than a peer may pass on per topic."""

    code = "E523"

    def __init__(self, per_second: float) -> None:
        super().__init__(f"more than {per_second:g} messages per second and topic; slow down")


class GossipRefused(GossipFault):
    """The topic's own check refused the payload."""

    code = "E524"

    def __init__(self) -> None:
        super().__init__("the topic's check refused the payload; do not pass such payloads on")


class RequestFault(RemoteFault):
    """A request that was not answered."""


class RequestRefused(RequestFault):
    """The peer's refusal: `code` and `sentence` are the peer's own words.

    A code that is no code becomes E531.
    """

    code = "E531"

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        if _CODE.fullmatch(code):
            self.code = code

    def __str__(self) -> str:
        return f"refused with {self.code}: {self.sentence}"


class RequestTimeout(RequestFault):
    """No answer before the deadline."""

    code = "E532"

    def __init__(self, deadline_ms: int) -> None:
        super().__init__(f"no answer within {deadline_ms} ms; ask another peer")


class RequestTooLarge(RequestFault):
    """The request is above what the protocol takes."""

    code = "E533"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a request of {size} bytes is above the limit of {limit}; ask for less")


class ResponseTooLarge(RequestFault):
    """The response is above what the requester takes."""

    code = "E534"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a response of {size} bytes is above the limit of {limit}; ask for less")


class ResponseMalformed(RequestFault):
    """The response is not framed as PROTOCOL says."""

    code = "E535"

    def __init__(self, detail: str) -> None:
        super().__init__(f"{detail}; ask another peer")


class RequestRateExceeded(RequestFault):
    """More requests than a peer may make."""

    code = "E536"

    def __init__(self, limit: float, unit: str) -> None:
        super().__init__(f"more than {limit:g} requests {unit}; slow down")


class RequestUnanswered(RequestFault):
    """The handler failed for reasons of its own."""

    code = "E537"

    def __init__(self) -> None:
        super().__init__("this node could not answer; ask another peer")


class AddressFault(RemoteFault):
    """An address that leads nowhere."""


class AddressMalformed(AddressFault):
    """Not a TCP multiaddr that ends in /p2p/<peer id>."""

    code = "E541"

    def __init__(self, address: str) -> None:
        shown = address[:128]
        super().__init__(f"{shown!r} is no address; write /ip4/HOST/tcp/PORT/p2p/PEER-ID")


class PeerUnreachable(AddressFault):
    """No connection, and no known address answers."""

    code = "E542"

    def __init__(self, peer: str, detail: str) -> None:
        super().__init__(f"peer {peer} does not answer ({detail}); check its address")


class AddressesExceeded(AddressFault):
    """No room for another address."""

    code = "E543"

    def __init__(self, limit: int, unit: str) -> None:
        super().__init__(f"already {limit} addresses {unit}; remove some from the configuration")


class HostFailed(LocalFault):
    """The libp2p host stopped by itself."""

    code = "E551"

    def __init__(self, detail: str) -> None:
        super().__init__(f"the libp2p host stopped: {detail}; restart the node")


class ListenFailed(LocalFault):
    """The listening address cannot be had."""

    code = "E552"

    def __init__(self, host: str, port: int, detail: str) -> None:
        super().__init__(f"cannot listen on {host}:{port}: {detail}; choose another port")


class MessageTooLarge(LocalFault):
    """A message of ours is above the size that peers accept."""

    code = "E553"

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a message of {size} bytes is above the limit of {limit}; split it")


class NameTaken(LocalFault):
    """A protocol or topic of that name is already in use."""

    code = "E554"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name!r} is already in use; use it once")
