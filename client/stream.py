"""Subscriptions: a snapshot, then numbered updates, for as long as anybody listens.

    async with viewer.stream("book", market="BTC-USD") as updates:
        async for update in updates:
            print(update.book.bids[0])

A missing number, a checksum that differs, a lost connection: the stream reconnects, to another
node when there is one, and begins again with a snapshot. The listener sees that as an update
with `is_snapshot`, after which all that it knew before is to be forgotten.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import structlog
import trio

from client._http import Nodes
from client.book import BookChange, LocalBook
from client.faults import BookDiverged, ClientFault, RefusedByNode, StreamBroken
from client.views import BookView

if TYPE_CHECKING:
    from client._socket import Socket

log = structlog.get_logger(__name__)

UPDATES_WAITING_ITEMS_MAX = 256  # unread updates; then the socket is not read further
ATTEMPTS_MAX = 8  # connections in a row that brought no update: `StreamBroken`
PAUSE_S_MIN = 0.1  # between two connections, doubled each time
PAUSE_S_MAX = 3.0
STEADY_S_MIN = 30.0  # a connection that lasted so long counts as a good one, updates or not
SNAPSHOT_TIMEOUT_S = 10.0  # a node that does not send one counts as lost

_PASSING = frozenset({"E483", "E484", "E485", "E487", "E494"})  # reconnecting helps


@dataclass(frozen=True, slots=True)
class Update:
    """One message of a channel; `data` is as the API documents it for that channel.

    `height` is that of the block that caused it. `book` is the whole book after it, in ticks
    and lots, on channel "book" only.
    """

    channel: str
    is_snapshot: bool
    sequence: int
    height: int
    data: dict[str, Any]
    book: BookView | None = None


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """What a stream went through: connections, snapshots and updates taken, gaps noticed."""

    connections: int
    snapshots: int
    updates: int
    gaps: int


class _Frame(msgspec.Struct):
    type: str
    sequence: int = 0
    height: int = 0
    data: dict[str, Any] = {}
    error: dict[str, str] = {}


class _Lost(Exception):
    """The connection has to be made again."""


class Stream:
    """An asynchronous iterator of `Update`."""

    def __init__(self, nodes: Nodes, channel: str, key: Mapping[str, str]) -> None:
        self._endpoints = list(nodes.endpoints)
        self._channel = channel
        self._key = dict(key)
        self._sender, self._receiver = trio.open_memory_channel[Update](UPDATES_WAITING_ITEMS_MAX)
        self._book = LocalBook(key.get("market", "")) if channel == "book" else None
        self._fault: ClientFault | None = None
        self._idle = 0
        self._connections = self._snapshots = self._updates = self._gaps = 0

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Update:
        """The next update. Errors: `RefusedByNode`, `StreamBroken`."""
        try:
            return await self._receiver.receive()
        except trio.EndOfChannel:
            if self._fault is not None:
                raise self._fault from None
            raise StopAsyncIteration from None

    def statistics(self) -> StreamStatistics:
        return StreamStatistics(self._connections, self._snapshots, self._updates, self._gaps)

    async def pump(self) -> None:
        """Keep the subscription alive; ends when it cannot be, with the reason for listeners."""
        # Most of a second to import, and most programs open no stream.
        from client._socket import SocketEnded, open_socket

        pause = PAUSE_S_MIN
        async with self._sender:
            while True:
                self._idle += 1
                self._connections += 1
                began = trio.current_time()
                try:
                    async with open_socket(self._endpoints[0]) as socket:
                        await self._follow(socket)
                except (SocketEnded, _Lost) as lost:
                    reason = str(lost)
                except ClientFault as fault:
                    self._fault = fault
                    return
                if trio.current_time() - began > STEADY_S_MIN:
                    self._idle = 0
                if self._idle >= ATTEMPTS_MAX:
                    self._fault = StreamBroken(self._channel, self._idle, reason)
                    return
                log.info("stream_lost", channel=self._channel, reason=reason)
                self._endpoints.append(self._endpoints.pop(0))
                pause = PAUSE_S_MIN if self._idle <= 1 else min(pause * 2, PAUSE_S_MAX)
                await trio.sleep(pause)

    async def _follow(self, socket: "Socket") -> None:
        """One connection's life. Errors: `_Lost`, `SocketEnded`, `RefusedByNode`."""
        await socket.send({"op": "subscribe", "channel": self._channel, **self._key})
        expected: int | None = None
        with trio.move_on_after(SNAPSHOT_TIMEOUT_S) as waiting:
            while True:
                frame = _read(await socket.receive())
                if frame.type == "error":
                    _refuse(frame.error)
                elif frame.type == "snapshot":
                    waiting.deadline = float("inf")
                    expected = frame.sequence + 1
                    self._snapshots += 1
                    await self._hand_on(frame, is_snapshot=True)
                elif frame.type == "update":
                    if frame.sequence != expected:
                        self._gaps += 1
                        raise _Lost(f"update {frame.sequence} where {expected} was due")
                    expected += 1
                    self._updates += 1
                    self._idle = 0
                    await self._hand_on(frame, is_snapshot=False)
        raise _Lost(f"no snapshot within {SNAPSHOT_TIMEOUT_S:g} s")

    async def _hand_on(self, frame: _Frame, *, is_snapshot: bool) -> None:
        book = None
        if self._book is not None:
            try:
                change = msgspec.convert(frame.data, BookChange)
                take = self._book.begin if is_snapshot else self._book.change
                book = take(change, frame.height)
            except (BookDiverged, msgspec.ValidationError) as error:
                self._gaps += 1
                raise _Lost(str(error)) from None
        await self._sender.send(
            Update(self._channel, is_snapshot, frame.sequence, frame.height, frame.data, book)
        )


@asynccontextmanager
async def open_stream(nodes: Nodes, channel: str, key: Mapping[str, str]) -> AsyncIterator[Stream]:
    """A subscription that lives as long as the body; see the module."""
    stream = Stream(nodes, channel, key)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.pump)
            yield stream
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The body's exception, which the nursery wrapped; the pump raises none of its own.
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


def _read(data: bytes) -> _Frame:
    try:
        return msgspec.json.decode(data, type=_Frame)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _Lost(f"a frame that cannot be read: {error}") from None


def _refuse(error: dict[str, str]) -> None:
    """Errors: `_Lost` for what will pass, `RefusedByNode` for all else."""
    code, message = error.get("code", ""), error.get("message", "")
    if code in _PASSING:
        raise _Lost(message)
    raise RefusedByNode(code, message, error.get("next", ""))
