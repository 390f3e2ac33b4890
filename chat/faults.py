"""What can be wrong with a message, or with what others ask of a room.

RemoteFault
  ChatFault
    MalformedMessage   E801  not the canonical record, or heads out of order
    WrongNetwork       E802  signed for another network
    MessageTooLong     E803  more bytes than a text or a message may have
    TextRefused        E804  an empty text, or control characters in it
    BadSignature       E805  the key named in it did not sign it
    UnknownRoom        E806  no such room here
    KeyNotAuthorized   E807  the account's owner did not allow this key to chat
    RateLimited        E808  the account posts too much
    ClockSkew          E809  its time is too far from the clock
    DuplicateSequence  E810  this key used the sequence number for another message
    UnknownCursor      E811  the page would begin at a message that is not kept
    MalformedSync      E812  not a request or response of the synchronisation
    PageInvalid        E813  a page size out of its range
    TooOld             E814  older than all that a full room keeps
LocalFault
  HistoryDamaged       E820  a kept message cannot be read back
"""

from primitives.cid import to_text
from primitives.faults import LocalFault, RemoteFault


class ChatFault(RemoteFault):
    """A message or a question that a room does not take."""

    code = "E800"


class MalformedMessage(ChatFault):
    """Not the canonical record, or heads out of order."""

    code = "E801"


class WrongNetwork(ChatFault):
    """Signed for another network."""

    code = "E802"

    def __init__(self, found: bytes, expected: bytes) -> None:
        super().__init__(
            f"signed for network {found.hex()[:16]}, this is {expected.hex()[:16]}; "
            "take the network id from /v1/status"
        )


class MessageTooLong(ChatFault):
    """More bytes than a text or a message may have."""

    code = "E803"

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"{size} bytes, at most {size_max}; split it into several messages")


class TextRefused(ChatFault):
    """An empty text, or control characters in it."""

    code = "E804"


class BadSignature(ChatFault):
    """The key named in it did not sign it."""

    code = "E805"


class UnknownRoom(ChatFault):
    """No such room here."""

    code = "E806"

    def __init__(self, room: str) -> None:
        super().__init__(f"no room {room[:32]!r}; choose the symbol of a market")


class KeyNotAuthorized(ChatFault):
    """The account's owner did not allow this key to chat."""

    code = "E807"


class RateLimited(ChatFault):
    """The account posts too much."""

    code = "E808"

    def __init__(self, retry_ms: int) -> None:
        self.retry_ms = retry_ms
        super().__init__(f"too many messages of this account; post again in {retry_ms} ms")


class ClockSkew(ChatFault):
    """Its time is too far from the clock."""

    code = "E809"

    def __init__(self, time_ms: int, now_ms: int, skew_ms_max: int) -> None:
        super().__init__(
            f"{abs(time_ms - now_ms)} ms from this node's clock, at most {skew_ms_max}; "
            "set the clock, then sign it again"
        )


class DuplicateSequence(ChatFault):
    """This key used the sequence number for another message."""

    code = "E810"

    def __init__(self, sequence: int) -> None:
        super().__init__(f"sequence {sequence} was used for another message; choose a larger one")


class UnknownCursor(ChatFault):
    """The page would begin at a message that is not kept."""

    code = "E811"


class MalformedSync(ChatFault):
    """Not a request or response of the synchronisation."""

    code = "E812"


class PageInvalid(ChatFault):
    """A page size out of its range."""

    code = "E813"

    def __init__(self, limit: int, messages_max: int) -> None:
        super().__init__(f"a page of {limit} messages; ask for 1 to {messages_max}")


class TooOld(ChatFault):
    """Older than all that a full room keeps."""

    code = "E814"


class HistoryDamaged(LocalFault):
    """A kept message cannot be read back."""

    code = "E820"

    def __init__(self, cid: bytes, what: str) -> None:
        super().__init__(
            f"message {to_text(cid)}: {what}; move the index away and let the node build it again"
        )
