"""What streams say and hear, as shapes; and what can be subscribed to.

{"op": "subscribe", "channel": "book", "market": "BTC-USD", "id": 1}
{"type": "snapshot", "channel": "book", "market": "BTC-USD", "id": 1, "sequence": 0, ...}
{"type": "update", "channel": "book", "market": "BTC-USD", "sequence": 1, ...}
"""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from exchange.network import NetworkGenesis
from node.api.envelopes import Result
from node.api.markets import Interval, market_id
from node.api.refusals import Refusal
from node.api.texts import GivenHex, GivenHex20, GivenSymbol, Number
from node.faults import BadRequest

SUBMIT_ITEMS_MAX: Final = 64  # more envelopes in one message: refused with E401
ID_CHARS_MAX: Final = 64  # longer ids of requests: refused with E401

ChannelName = Literal["book", "trades", "candles", "account", "chat", "blocks"]
RequestId = (
    Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
    | Annotated[str, msgspec.Meta(max_length=ID_CHARS_MAX)]
    | None
)

# The fields that name a subscription, by channel.
TOPIC_FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "book": ("market",),
    "trades": ("market",),
    "candles": ("market", "interval"),
    "account": ("account",),
    "chat": ("room",),
    "blocks": (),
}


class _Named(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    channel: ChannelName
    market: GivenSymbol | None = None
    interval: Interval | None = None
    account: GivenHex20 | None = None
    room: GivenSymbol | None = None
    id: RequestId = None


class Subscribe(_Named, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="subscribe"):
    """Begin with a snapshot, go on with numbered updates."""


class Unsubscribe(
    _Named, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="unsubscribe"
):
    """End a subscription; name it as before."""


class Ping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="ping"):
    """Ask for a pong."""

    id: RequestId = None


class Submit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="submit"):
    """Take envelopes, as POST /v1/envelopes does."""

    envelopes: Annotated[list[GivenHex], msgspec.Meta(min_length=1, max_length=SUBMIT_ITEMS_MAX)]
    id: RequestId = None


Request = Subscribe | Unsubscribe | Ping | Submit


class Topic(NamedTuple):
    """One thing to subscribe to; two requests for the same thing are equal."""

    channel: str
    market: str | None = None
    interval: str | None = None
    account: str | None = None
    room: str | None = None

    def fields(self) -> dict[str, str]:
        """What names it, for messages."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def topic_of(request: _Named, genesis: NetworkGenesis, rooms: Collection[str]) -> Topic:
    """What a request names. Errors: `BadRequest`, `UnknownMarket`."""
    wanted = TOPIC_FIELDS[request.channel]
    given: dict[str, Any] = {
        name: getattr(request, name)
        for name in ("market", "interval", "account", "room")
        if getattr(request, name) is not None
    }
    if request.channel == "candles":
        given.setdefault("interval", "1m")
    if set(given) != set(wanted):
        needed = ", ".join(wanted) or "nothing else"
        raise BadRequest(f"channel {request.channel} is named by {needed}; correct the fields")
    if "market" in given:
        market_id(genesis, given["market"])
    if "room" in given and given["room"] not in rooms:
        raise BadRequest(f"there is no room {given['room']}; rooms are the markets' symbols")
    if "account" in given:
        given["account"] = given["account"].lower()
    return Topic(request.channel, **given)


class _About(msgspec.Struct, frozen=True, omit_defaults=True):
    channel: str
    market: str | msgspec.UnsetType = msgspec.UNSET
    interval: str | msgspec.UnsetType = msgspec.UNSET
    account: str | msgspec.UnsetType = msgspec.UNSET
    room: str | msgspec.UnsetType = msgspec.UNSET


class SnapshotMessage(_About, frozen=True, kw_only=True, tag_field="type", tag="snapshot"):
    """The state after the block at `height`; `data` is the channel's own."""

    id: RequestId
    sequence: Number
    height: Number
    data: Any


class UpdateMessage(_About, frozen=True, kw_only=True, tag_field="type", tag="update"):
    """What changed; `sequence` is one more than that of the message before."""

    sequence: Number
    height: Number
    data: Any


class UnsubscribedMessage(_About, frozen=True, kw_only=True, tag_field="type", tag="unsubscribed"):
    id: RequestId


class PongMessage(msgspec.Struct, frozen=True, tag_field="type", tag="pong"):
    id: RequestId


class ReceiptsMessage(msgspec.Struct, frozen=True, tag_field="type", tag="receipts"):
    id: RequestId
    results: list[Result]


class ErrorMessage(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """A request was refused; the stream goes on."""

    id: RequestId
    error: Refusal


StreamMessage = (
    SnapshotMessage
    | UpdateMessage
    | UnsubscribedMessage
    | PongMessage
    | ReceiptsMessage
    | ErrorMessage
)
