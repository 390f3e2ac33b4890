"""Routes about the public rooms: history, and posting."""

from typing import Annotated, Final

import msgspec

from chat import PAGE_MESSAGES_MAX, ChatService, KeptMessage, admit_message
from node.api.route import JSON, Call, Nothing, Route
from node.api.texts import (
    Cid,
    GivenCid,
    GivenHex,
    GivenSymbol,
    Hex20,
    Hex32,
    Hex64,
    Number,
    cid_bytes,
    hexed,
    unhexed,
)
from node.faults import BadRequest
from primitives.cid import to_text

MESSAGES: Final = 50
POST_BYTES_MAX: Final = 16_384  # a larger body: E413


class MessageView(msgspec.Struct, frozen=True):
    """A message; `heads` are those that it follows, `time_ms` is its author's clock."""

    cid: Cid
    room: str
    account: Hex20
    key: Hex32
    sequence: Number
    time_ms: Number
    heads: list[Cid]
    text: str
    signature: Hex64


class Messages(msgspec.Struct, frozen=True):
    """Oldest first; go back with `before` = the first CID. A new message follows `heads`."""

    room: str
    messages: list[MessageView]
    heads: list[Cid]


class Said(msgspec.Struct, frozen=True):
    cid: Cid


class MessagesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    room: GivenSymbol
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MESSAGES_MAX)] = MESSAGES
    before: GivenCid | None = None


class RoomQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    room: GivenSymbol


class Post(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed message, its canonical bytes in hex."""

    message: GivenHex


def message_view(kept: KeptMessage) -> MessageView:
    message = kept.message
    return MessageView(
        cid=to_text(kept.cid),
        room=message.room,
        account=hexed(message.account),
        key=hexed(message.key),
        sequence=message.sequence,
        time_ms=message.time_ms,
        heads=[to_text(head) for head in message.heads],
        text=message.text,
        signature=hexed(message.signature),
    )


def read_room(chat: ChatService, room: str, limit: int, before: bytes | None) -> Messages:
    """A page of a room. Blocks: call it in a thread. Errors: `UnknownRoom`, `UnknownCursor`."""
    messages = [message_view(kept) for kept in chat.history(room, limit, before)]
    return Messages(room, messages, [to_text(head) for head in chat.heads(room)])


async def list_messages(call: Call[MessagesQuery, Nothing]) -> Messages:
    """Errors: `UnknownRoom`, `UnknownCursor`."""
    query = call.parameters
    before = None if query.before is None else cid_bytes(query.before)
    return await call.services.read(read_room, call.node.chat, query.room, query.limit, before)


async def post_message(call: Call[RoomQuery, Post]) -> Said:
    """Take a signed message.

    From: whoever holds a key with the scope to chat.
    Checks: that it names the room of the path, then all that the room checks.
    Effects: it is kept and gossiped.
    Errors: `BadRequest`, and every `ChatFault` of posting.
    """
    wire = unhexed(call.body.message)
    call.services.allowance.spend_envelopes(call.client, 1)
    admitted = await call.services.read(admit_message, wire, call.node.network)
    if admitted.message.room != call.parameters.room:
        raise BadRequest("the message is for another room; post it to /v1/chat/ and that room")
    return Said(to_text(await call.node.say(wire)))


_ROOM = "/v1/chat/{room}"
CHAT_ROUTES = [
    Route("GET", _ROOM, "A room's messages, oldest first", list_messages, Messages, MessagesQuery),
    Route(
        "POST",
        _ROOM,
        "Post a signed message",
        post_message,
        Said,
        RoomQuery,
        body={JSON: Post},
        body_bytes_max=POST_BYTES_MAX,
    ),
]
