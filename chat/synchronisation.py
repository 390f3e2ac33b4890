"""How two nodes find out which messages of a room one of them lacks.

The one who asks cuts what it shows into ranges by (time, CID) and sends a digest of each. The
one who answers sends all messages of the ranges whose digest differs from its own, in pages: a
response that ends with a cursor is followed by another request from there. Heads alone would not
do: a node may show a message without some that it follows, and would never be offered those.
A digest is a plain hash over the sorted CIDs: sums of hashes can be made to collide.
"""

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Final, TypeVar

import msgspec

from chat._retention import Key
from chat.faults import MalformedSync
from chat.message import Cid, RoomName
from primitives import codec
from primitives.codec import Bytes32, Malformed, Oversized, Record, Unsigned

SYNC_RANGES_ITEMS_MAX: Final = 64  # more in a request: MalformedSync
SYNC_MESSAGES_MAX: Final = 256  # more to send: in further pages; more received: MalformedSync
SYNC_PAGES_MAX: Final = 64  # pages that one synchronisation may take; then ask somebody else
SYNC_REQUEST_BYTES_MAX: Final = 8_192  # longer requests: MalformedSync
SYNC_RESPONSE_BYTES_MAX: Final = 1_048_576  # longer responses: MalformedSync


Shape = TypeVar("Shape", bound=Record)


class Cursor(Record):
    """A place among the messages of a room: after this one."""

    time_ms: Unsigned
    cid: Cid


class Range(Record):
    """The messages after `start` (None: from the first) up to the next range's start, hashed."""

    start: Cursor | None
    digest: Bytes32


Ranges = Annotated[list[Range], msgspec.Meta(min_length=1, max_length=SYNC_RANGES_ITEMS_MAX)]


class SyncRequest(Record):
    """What one node shows of a room; messages up to `after` are not wanted again."""

    network: Bytes32
    room: RoomName
    ranges: Ranges
    after: Cursor | None


class SyncResponse(Record):
    """Messages on the wire, ascending by (time, CID); `after` is set when there are more."""

    network: Bytes32
    room: RoomName
    messages: Annotated[list[bytes], msgspec.Meta(max_length=SYNC_MESSAGES_MAX)]
    after: Cursor | None


def request_for(
    network: bytes, room: str, keys: Sequence[Key], after: Cursor | None
) -> SyncRequest:
    """A request from a node that shows `keys` (ascending)."""
    width = max(1, -(-len(keys) // SYNC_RANGES_ITEMS_MAX))
    ranges = [
        Range(
            Cursor(*keys[at - 1]) if at else None,
            _digest(keys[at : at + width]),
        )
        for at in range(0, max(1, len(keys)), width)
    ]
    return SyncRequest(network, room, ranges, after)


def wanted(request: SyncRequest, keys: Sequence[Key]) -> tuple[list[Key], bool]:
    """Of `keys` (ascending) the next page that the request asks for, and whether more follow."""
    starts = [_after(item.start, keys) for item in request.ranges]
    ends = [*starts[1:], len(keys)]
    first = _after(request.after, keys)
    found: list[Key] = []
    for item, start, end in zip(request.ranges, starts, ends, strict=True):
        if end > first and _digest(keys[start:end]) != item.digest:
            found += keys[max(start, first) : end]
        if len(found) > SYNC_MESSAGES_MAX:
            break
    return found[:SYNC_MESSAGES_MAX], len(found) > SYNC_MESSAGES_MAX


def decode_request(data: bytes, network: bytes) -> SyncRequest:
    """The request in `data`.

    Errors: `MalformedSync`.
    """
    request = _decode(SyncRequest, data, SYNC_REQUEST_BYTES_MAX)
    if request.network != network:
        raise MalformedSync("for another network; ask the peers of this one")
    starts = [item.start for item in request.ranges]
    if starts[0] is not None or None in starts[1:]:
        raise MalformedSync("the first range, and only that, begins at the first message")
    keys = [(start.time_ms, start.cid) for start in starts if start is not None]
    if any(left >= right for left, right in pairwise(keys)):
        raise MalformedSync("the ranges do not ascend")
    return request


def decode_response(data: bytes, network: bytes) -> SyncResponse:
    """The response in `data`; its messages are not yet looked at.

    Errors: `MalformedSync`.
    """
    response = _decode(SyncResponse, data, SYNC_RESPONSE_BYTES_MAX)
    if response.network != network:
        raise MalformedSync("for another network; ask the peers of this one")
    if response.after is not None and not response.messages:
        raise MalformedSync("a page without messages that promises more")
    return response


def _decode(shape: type[Shape], data: bytes, bytes_max: int) -> Shape:
    try:
        return codec.decode(shape, data, bytes_max=bytes_max)
    except (Malformed, Oversized) as fault:
        raise MalformedSync(fault.sentence) from None


def _after(cursor: Cursor | None, keys: Sequence[Key]) -> int:
    """The position of the first key after `cursor`."""
    if cursor is None:
        return 0
    position = bisect_left(keys, (cursor.time_ms, cursor.cid))
    return position + (position < len(keys) and keys[position] == (cursor.time_ms, cursor.cid))


def _digest(keys: Sequence[Key]) -> bytes:
    return sha256(b"".join(cid for _, cid in keys)).digest()
