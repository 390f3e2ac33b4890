"""What can go wrong between a trader's program, a node and the EVM chain.

RemoteFault
  ClientFault           E440  the root of what a trader's program meets
    RefusedByNode       E441  a node refused; `code`, `sentence` and `advice` are the node's
    NodeUnreachable     E442  no endpoint answered
    NodeMisbehaved      E443  an answer is not what the API promises
    NetworkMismatch     E444  the genesis is that of another network
    ReceiptInvalid      E445  a receipt does not carry the node's signature
    OutcomeUnknown      E446  sent, but nobody said what became of it
    NotExecuted         E447  not executed within the deadline
    StreamBroken        E448  a subscription could not be resumed
    BookDiverged        E449  the book's checksum differs from the node's
    ChainUnreachable    E450  no EVM endpoint answered
    ChainRefused        E451  the EVM endpoint refused a call or a transaction
    Reverted            E452  a contract refused, with its reason
    Unmined             E453  a transaction was not mined within the deadline
    WrongChain          E454  the EVM endpoint serves another chain
    AmountOffGrid       E460  a price, size or amount does not fit the market's or token's grid
    UnknownSymbol       E461  the network has no such token or market
    InvalidKey          E463  not a private key or an address
    NoChain             E464  this needs an EVM endpoint and none was given
LocalFault
  WalletInvalid         E462  the file is a keystore, but not a wallet's
  WalletExists          E465  a wallet would be overwritten
"""

from primitives.faults import LocalFault, RemoteFault


class ClientFault(RemoteFault):
    """Something between this program, a node and the EVM chain went wrong."""

    code = "E440"


class RefusedByNode(ClientFault):
    """A node refused the request; the code and the sentence are the node's."""

    code = "E441"

    def __init__(self, code: str, message: str, advice: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.advice = advice
        self.status = status
        self.repeated = False  # whether an earlier attempt of the same request may have arrived


class NodeUnreachable(ClientFault):
    """No endpoint of the network answered."""

    code = "E442"

    def __init__(self, endpoints: str, reason: str) -> None:
        super().__init__(f"no node answered at {endpoints} ({reason}); is the address right?")


class Unanswered(ClientFault):
    """The request may have arrived, but no endpoint answered it."""

    code = "E455"


class NodeMisbehaved(ClientFault):
    """An answer is not what the API promises."""

    code = "E443"

    def __init__(self, endpoint: str, what: str) -> None:
        super().__init__(f"{endpoint} answered {what}; is this an Outcry node? Try another one")


class NetworkMismatch(ClientFault):
    """The genesis that a node shows is that of another network."""

    code = "E444"

    def __init__(self, endpoint: str, found: bytes, expected: bytes) -> None:
        super().__init__(
            f"{endpoint} belongs to network {found.hex()[:16]}, expected {expected.hex()[:16]}; "
            "connect to a node of the right network"
        )


class ReceiptInvalid(ClientFault):
    """A receipt does not carry the signature of the node that it names."""

    code = "E445"

    def __init__(self, endpoint: str, what: str) -> None:
        super().__init__(f"the receipt of {endpoint} {what}; do not rely on it, use another node")


class OutcomeUnknown(ClientFault):
    """The envelope was sent, but no node said what became of it."""

    code = "E446"

    def __init__(self, envelope: bytes, reason: str) -> None:
        super().__init__(
            f"envelope 0x{envelope.hex()} was sent and nobody answered ({reason}); "
            "ask for its state before sending anything in its place"
        )
        self.envelope = envelope


class NotExecuted(ClientFault):
    """The envelope was not executed within the deadline."""

    code = "E447"

    def __init__(self, envelope: bytes, state: str) -> None:
        super().__init__(
            f"envelope 0x{envelope.hex()} is still {state}; "
            "ask again later, it is dropped once its last valid height has passed"
        )
        self.envelope = envelope


class NotCredited(ClientFault):
    """The exchange has not credited a deposit within the deadline."""

    code = "E456"

    def __init__(self, number: int, deadline_s: float) -> None:
        super().__init__(
            f"deposit {number} is on chain but was not credited within {deadline_s:g} s; "
            "the validators wait for the confirmed depth, look at the balance later"
        )


class ForgedMessage(ClientFault):
    """A node shows a message that its author did not sign."""

    code = "E457"

    def __init__(self, endpoint: str, cid: str) -> None:
        super().__init__(f"{endpoint} shows a forged message {cid[:80]}; use another node")


class StreamBroken(ClientFault):
    """A subscription could not be resumed."""

    code = "E448"

    def __init__(self, channel: str, attempts: int, reason: str) -> None:
        super().__init__(
            f"the {channel} stream broke and {attempts} attempts to resume it failed ({reason}); "
            "try another node"
        )


class BookDiverged(ClientFault):
    """The book kept here is not the node's: its checksum differs."""

    code = "E449"

    def __init__(self, market: str, sequence: int) -> None:
        super().__init__(
            f"the book of {market} differs from the node's at sequence {sequence}; "
            "begin again from a snapshot"
        )


class ChainUnreachable(ClientFault):
    """No EVM endpoint answered."""

    code = "E450"

    def __init__(self, endpoints: str, reason: str) -> None:
        super().__init__(
            f"no EVM endpoint answered at {endpoints} ({reason}); check --evm or OUTCRY_EVM"
        )


class ChainRefused(ClientFault):
    """The EVM endpoint refused a call or a transaction."""

    code = "E451"


class Reverted(ClientFault):
    """A contract refused, with its reason."""

    code = "E452"

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} was refused by the contract: {reason or 'no reason given'}")
        self.reason = reason


class Unmined(ClientFault):
    """A transaction was not mined within the deadline."""

    code = "E453"

    def __init__(self, tx: bytes, deadline_s: float) -> None:
        super().__init__(
            f"transaction 0x{tx.hex()} was not mined within {deadline_s:g} s; "
            "it may still be: look it up before sending another"
        )
        self.tx = tx


class WrongChain(ClientFault):
    """The EVM endpoint serves another chain than the one that holds the network's money."""

    code = "E454"

    def __init__(self, found: int, expected: int) -> None:
        super().__init__(
            f"the EVM endpoint serves chain {found}, the network's money is on chain {expected}; "
            "give an endpoint of that chain"
        )


class AmountOffGrid(ClientFault):
    """A price, size or amount does not fit the grid of its market or token."""

    code = "E460"


class UnknownSymbol(ClientFault):
    """The network has no such token or market."""

    code = "E461"

    def __init__(self, kind: str, symbol: str, known: list[str]) -> None:
        super().__init__(f"no {kind} {symbol!r} here; there are {', '.join(known)}")


class InvalidKey(ClientFault):
    """Not a private key, or not an address."""

    code = "E463"


class NoChain(ClientFault):
    """This needs an EVM endpoint and none was given."""

    code = "E464"

    def __init__(self) -> None:
        super().__init__("no EVM endpoint was given; pass evm=..., --evm URL or set OUTCRY_EVM")


class WalletInvalid(LocalFault):
    """The file is a keystore, but not a wallet's."""

    code = "E462"


class WalletExists(LocalFault):
    """A wallet would be overwritten."""

    code = "E465"

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} exists; choose another file, or move it away first")
