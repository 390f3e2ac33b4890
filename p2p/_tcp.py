"""TCP that reads ahead.

Noise reads two bytes and then a packet, so libp2p's own TCP stream pays at least two system
calls, and trio's bookkeeping for each, where one brings many packets.
"""

from typing import Final

import trio
from libp2p.abc import IRawConnection
from libp2p.custom_types import THandler
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.tcp.tcp import TCP, TCPListener
from multiaddr.multiaddr import Multiaddr

READ_AHEAD_BYTES: Final = 131_072  # most that waits here; more stays in the kernel


class ReadAheadStream(TrioTCPStream):
    """libp2p's TCP stream with a buffer in front of `read`, and without its two locks.

    There is one reader, the muxer's, and writers hold the muxer's own lock.
    """

    def __init__(self, stream: trio.SocketStream) -> None:
        super().__init__(stream)
        self._ahead = memoryview(b"")

    async def read(self, n: int | None = None) -> bytes:
        """At most `n` bytes, at least one; nothing at the end of the stream.

        Errors: `ConnectionClosedError` when the peer reset the connection.
        """
        if not self._ahead:
            data = await self._receive()
            if n is None or len(data) <= n:
                return data
            self._ahead = memoryview(data)
        taken = bytes(self._ahead[:n])
        self._ahead = self._ahead[len(taken) :]
        return taken

    async def _receive(self) -> bytes:
        try:
            return bytes(await self.stream.receive_some(READ_AHEAD_BYTES))
        except trio.BrokenResourceError as error:
            raise _reset(error) from error
        except trio.ClosedResourceError:
            return b""

    async def write(self, data: bytes) -> None:
        """Send all of `data`; nothing when this end has closed the connection.

        Errors: `ConnectionClosedError` when the peer reset the connection.
        """
        try:
            await self.stream.send_all(data)
        except trio.BrokenResourceError as error:
            raise _reset(error) from error
        except trio.ClosedResourceError:
            return


def _reset(error: Exception) -> ConnectionClosedError:
    return ConnectionClosedError(f"connection reset by the peer: {error}", transport="tcp")


class ReadAheadTCP(TCP):
    """libp2p's TCP transport over `ReadAheadStream`."""

    async def _dial_resolved(
        self, maddr: Multiaddr, source: tuple[str, int] | None = None
    ) -> IRawConnection:
        raw = await super()._dial_resolved(maddr, source)
        if isinstance(raw, RawConnection):
            raw.stream = _reading_ahead(raw.stream)
        return raw

    def create_listener(self, handler_function: THandler) -> TCPListener:
        async def handle(stream: ReadWriteCloser) -> None:
            await handler_function(_reading_ahead(stream))

        return super().create_listener(handle)


def _reading_ahead(stream: ReadWriteCloser) -> ReadWriteCloser:
    return ReadAheadStream(stream.stream) if isinstance(stream, TrioTCPStream) else stream
