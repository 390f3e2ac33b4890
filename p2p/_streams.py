"""Bytes over libp2p streams: bounded reads, whole writes, and the credit between them."""

import struct
from typing import Any, Final

import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.security.noise.io import MAX_PLAINTEXT_LENGTH
from libp2p.stream_muxer.exceptions import MuxedStreamEOF
from libp2p.stream_muxer.yamux.yamux import (
    DEFAULT_WINDOW_SIZE,
    HEADER_SIZE,
    TYPE_DATA,
    YAMUX_HEADER_FORMAT,
)

from p2p.faults import StreamBroken, WriteStalled

READ_BYTES: Final = 262_144  # most that one read returns
STREAM_WINDOW_BYTES: Final = 1_048_576  # credit of a long-lived stream
WRITE_MS_MAX: Final = 6_000  # longer without progress: the connection is closed (E510)
CLOSE_MS_MAX: Final = 1_000  # a stream that takes longer to close is forgotten

PACKET_BYTES_MAX: Final = MAX_PLAINTEXT_LENGTH - HEADER_SIZE  # most that one Noise packet holds

_YAMUX_HEADER = struct.Struct(YAMUX_HEADER_FORMAT)

# What libp2p raises when a stream or its connection is gone.
STREAM_ERRORS: Final = (
    BaseLibp2pError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    OSError,
)


class CreditReader:
    """Reads a yamux stream, giving back credit once per half window.

    libp2p's own `read` sends a window update for every read, which doubles the packets of a
    stream of small frames, and takes three locks to look into a buffer.
    """

    def __init__(self, stream: INetStream, window_bytes: int = DEFAULT_WINDOW_SIZE) -> None:
        self._muxed: Any = stream.muxed_stream  # type: ignore[attr-defined]
        self._window_bytes = window_bytes
        self._owed = window_bytes - DEFAULT_WINDOW_SIZE

    async def receive_some(self) -> bytes:
        """At least one byte, at most READ_BYTES; nothing when the stream has ended.

        Errors: `StreamBroken`, or any of STREAM_ERRORS when it was reset.
        """
        try:
            data = await self._take()
        except MuxedStreamEOF:
            return b""
        except STREAM_ERRORS:
            raise
        except Exception as error:  # guard: libp2p raises any type
            raise _broken("reading", error) from error
        self._owed += len(data)
        if self._owed >= self._window_bytes // 2:
            owed, self._owed = self._owed, 0
            self._muxed.recv_window += owed
            await self._muxed.send_window_update(owed)
        return data

    async def _take(self) -> bytes:
        """What the muxer has received; it changes buffers only between our checkpoints."""
        connection, number = self._muxed.conn, self._muxed.stream_id
        while True:
            buffer: bytearray | None = connection.stream_buffers.get(number)
            if buffer:
                data = bytes(buffer[:READ_BYTES])
                del buffer[: len(data)]
                return data
            event = connection.stream_events.get(number)
            if event is None or event.is_set():
                if event is not None and not self._has_ended():
                    connection.stream_events[number] = trio.Event()
                    continue
                # libp2p knows how the stream ended.
                return bytes(await connection.read_stream(number, READ_BYTES))
            await event.wait()

    def _has_ended(self) -> bool:
        muxed = self._muxed
        return bool(muxed.closed or muxed.recv_closed or muxed.reset_received)

    async def receive_exactly(self, size: int, buffer: bytearray) -> bytes:
        """The next `size` bytes, of which `buffer` may already hold some; it keeps the rest.

        Errors: `StreamBroken` when the stream ends before, any of STREAM_ERRORS.
        """
        while len(buffer) < size:
            data = await self.receive_some()
            if not data:
                raise StreamBroken(f"the stream ended after {len(buffer)} of {size} bytes")
            buffer += data
        taken = bytes(buffer[:size])
        del buffer[:size]
        return taken


async def open_stream(host: BasicHost, peer: ID, protocol: TProtocol) -> INetStream:
    """A new stream for `protocol`; the caller sets the deadline.

    Errors: `StreamBroken`, any of STREAM_ERRORS.
    """
    try:
        return await host.new_stream(peer, [protocol])
    except STREAM_ERRORS:
        raise
    except Exception as error:  # guard: libp2p raises any type
        raise _broken("opening", error) from error


async def send_all(stream: INetStream, data: bytes) -> None:
    """Write `data` whole.

    A write that was cut off leaves half an encrypted packet behind, so its connection is of no
    use any more and is closed.

    Errors: `WriteStalled` after WRITE_MS_MAX, `StreamBroken`, any of STREAM_ERRORS.
    """
    done = False
    try:
        with trio.move_on_after(WRITE_MS_MAX / 1_000):
            if not await _send_at_once(stream, data):
                await stream.write(data)
            done = True
    except trio.Cancelled:
        await close_connection(stream)
        raise
    except STREAM_ERRORS:
        raise
    except Exception as error:  # guard: libp2p raises any type
        raise _broken("writing", error) from error
    if not done:
        await close_connection(stream)
        raise WriteStalled(WRITE_MS_MAX)


async def _send_at_once(stream: INetStream, data: bytes) -> bool:
    """Write `data` as one packet when credit and size allow; False when they do not.

    The straight way through libp2p: the other takes four more locks, each a turn of the
    scheduler. Nothing here runs between the look at the window and taking from it.
    """
    muxed: Any = stream.muxed_stream  # type: ignore[attr-defined]
    size = len(data)
    if size > PACKET_BYTES_MAX or size > muxed.send_window or muxed.closed or muxed.send_closed:
        return False
    muxed.send_window -= size
    packet = _YAMUX_HEADER.pack(0, TYPE_DATA, 0, muxed.stream_id, size) + data
    async with muxed.conn._write_lock:
        await muxed.conn.secured_conn.write(packet)
    return True


async def close_connection(stream: INetStream) -> None:
    """Close the connection under `stream`, however busy it is."""
    muxed: Any = stream.muxed_conn
    with trio.move_on_after(CLOSE_MS_MAX / 1_000) as scope:
        scope.shield = True
        try:
            # First the socket: a polite goodbye would wait for the write that is stuck.
            await muxed.secured_conn.close()
        except STREAM_ERRORS:
            return


async def reset(stream: INetStream) -> None:
    """End `stream` in both directions at once; it may be gone already."""
    with trio.move_on_after(CLOSE_MS_MAX / 1_000) as scope:
        scope.shield = True
        try:
            await stream.reset()
        except STREAM_ERRORS:
            return


async def finish(stream: INetStream, reader: CreditReader) -> None:
    """Say that nothing follows and let the other end go first, so that it has read it all."""
    with trio.move_on_after(CLOSE_MS_MAX / 1_000):
        try:
            await stream.close()
            while await reader.receive_some():
                pass
        except STREAM_ERRORS:
            pass
    await reset(stream)


def _broken(doing: str, error: Exception) -> StreamBroken:
    """libp2p's muxer, handshake and negotiation let exceptions of any type out."""
    return StreamBroken(f"{doing} failed with {type(error).__name__}")
