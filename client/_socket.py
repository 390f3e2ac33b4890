"""One WebSocket to a node: text frames in and out, every way to end made one exception.

Imported only where a stream is opened: the libraries below take most of a second to load.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import httpx
import msgspec
from httpx_ws import AsyncWebSocketSession, HTTPXWSException, aconnect_ws

FRAME_BYTES_MAX = 4 << 20  # a longer frame ends the connection
FRAMES_WAITING_MAX = 512
CONNECT_TIMEOUT_S = 5.0
PING_INTERVAL_S = 15.0  # a connection whose other end is gone is noticed after two of these
PING_TIMEOUT_S = 15.0

_BROKEN = (httpx.HTTPError, httpx.InvalidURL, HTTPXWSException, OSError)


class SocketEnded(Exception):
    """The connection could not be made, or is over; the text says why."""


class Socket:
    """Sends and receives JSON. Errors of both: `SocketEnded`."""

    def __init__(self, connection: AsyncWebSocketSession) -> None:
        self._connection = connection

    async def send(self, value: Any) -> None:
        """Send `value` as one text frame."""
        try:
            await self._connection.send_text(msgspec.json.encode(value).decode())
        except _BROKEN as error:
            raise SocketEnded(_why(error)) from None

    async def receive(self) -> bytes:
        """The next text frame."""
        try:
            return (await self._connection.receive_text()).encode()
        except _BROKEN as error:
            raise SocketEnded(_why(error)) from None


@asynccontextmanager
async def open_socket(endpoint: str) -> AsyncIterator[Socket]:
    """A WebSocket to /v1/stream of the node at the http address `endpoint`.

    Errors: `SocketEnded`. An exception of the body comes out as itself, not in a group.
    """
    url = "ws" + endpoint.removeprefix("http") + "/v1/stream"
    async with httpx.AsyncClient(timeout=CONNECT_TIMEOUT_S, trust_env=False) as http:
        connecting: AbstractAsyncContextManager[AsyncWebSocketSession] = aconnect_ws(
            url,
            http,
            max_message_size_bytes=FRAME_BYTES_MAX,
            queue_size=FRAMES_WAITING_MAX,
            keepalive_ping_interval_seconds=PING_INTERVAL_S,
            keepalive_ping_timeout_seconds=PING_TIMEOUT_S,
        )
        try:
            async with connecting as connection:
                yield Socket(connection)
        except _BROKEN as error:
            raise SocketEnded(_why(error)) from None
        except BaseExceptionGroup as group:
            broken, others = group.split((SocketEnded, *_BROKEN))
            if others is not None:
                # The library's task group wraps what the body raised.
                raise _only(others) from None
            raise SocketEnded(_why(broken)) from None


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a group holds, when that is a single exception."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner


def _why(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    code = getattr(error, "code", None)
    reason = str(error) or type(error).__name__
    return reason if code is None else f"closed with {code} {getattr(error, 'reason', '') or ''}"
