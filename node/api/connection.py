"""One client's TCP connection, held to its bounds whatever the protocol above it does.

The HTTP server awaits every write to its end, shielded from cancellation; so the write itself
must end: a client that takes nothing for SEND_TIMEOUT_S loses its connection. Only HTTP/1.1 and
WebSocket are spoken: what would turn a connection into HTTP/2 closes it. And a client that
keeps talking after this side has closed its WebSocket is cut off, instead of being collected.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
import trio
from anyio.abc import ByteStream, SocketAttribute

SEND_TIMEOUT_S: Final = 10.0  # one write that takes longer: the connection is dropped
CLOSING_TIMEOUT_S: Final = 5.0  # from our close frame to the end of the connection
CLOSING_BYTES_MAX: Final = 65_536  # received after our close frame: more ends it at once
LINGER_TIMEOUT_S: Final = 0.25  # what works for a client that left gets this long to notice
RECEIVE_BYTES_MAX: Final = 65_536  # taken from the socket at a time
_HTTP: Final = b"HTTP/1."
_SWITCHING: Final = b"HTTP/1.1 101"
_OTHER_PROTOCOL: Final = b"upgrade: h2c"
_CLOSE_FRAME: Final = 0x88  # FIN and opcode 8, RFC 6455 section 5.2


class Connection(ByteStream):
    """A socket stream with bounds; `abort` ends it at once from any task.

    Whatever works for the client runs in `scope`, which is cancelled soon after the client left:
    the server's timers would otherwise hold on to the connection until they run out.
    """

    def __init__(self, stream: trio.SocketStream, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        self._stream = stream
        self._send_timeout_s = send_timeout_s
        self._answered = False
        self._upgraded = False
        self._receive_until = math.inf
        self._receiving: trio.CancelScope | None = None
        self._after_close = 0
        self.scope = trio.CancelScope()
        self.timed_out = False

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return {SocketAttribute.raw_socket: lambda: self._stream.socket}

    async def receive(self, max_bytes: int = RECEIVE_BYTES_MAX) -> bytes:
        """Bytes of the client. Errors: those of anyio's streams."""
        try:
            with trio.CancelScope(deadline=self._receive_until) as self._receiving:
                data: bytes = await self._translated(self._stream.receive_some, max_bytes)
                if self._receive_until != math.inf:
                    self._after_close += len(data)
                if data and self._after_close <= CLOSING_BYTES_MAX:
                    return data
            raise anyio.EndOfStream
        except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self.scope.deadline = min(self.scope.deadline, trio.current_time() + LINGER_TIMEOUT_S)
            raise

    async def send(self, item: bytes) -> None:
        """Write all of `item`. Errors: BrokenResourceError, also when it takes too long."""
        self._watch(item)
        with trio.move_on_after(self._send_timeout_s):
            await self._translated(self._stream.send_all, item)
            return
        self.timed_out = True
        self.abort()
        raise anyio.BrokenResourceError

    async def send_eof(self) -> None:
        await self._translated(self._stream.send_eof)

    async def aclose(self) -> None:
        await self._stream.aclose()

    def abort(self) -> None:
        """Close the socket now; whoever reads or writes gets an error."""
        self._stream.socket.close()

    def _watch(self, item: bytes) -> None:
        """Note what the server turns the connection into."""
        if not self._answered:
            self._answered = True
            if not item.startswith(_HTTP):  # HTTP/2 begins with its settings
                self._refuse()
        if item.startswith(_SWITCHING):
            if _OTHER_PROTOCOL in item.lower():
                self._refuse()
            self._upgraded = True
        elif self._upgraded and item[:1] and item[0] == _CLOSE_FRAME:
            self._receive_until = min(self._receive_until, trio.current_time() + CLOSING_TIMEOUT_S)
            if self._receiving is not None:
                self._receiving.deadline = min(self._receiving.deadline, self._receive_until)

    def _refuse(self) -> None:
        self.abort()
        raise anyio.BrokenResourceError

    async def _translated(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Trio's errors as anyio's, which the server knows."""
        try:
            return await call(*arguments)
        except trio.ClosedResourceError:
            raise anyio.ClosedResourceError from None
        except (trio.BrokenResourceError, trio.BusyResourceError):
            raise anyio.BrokenResourceError from None  # busy: it is being closed at this moment
