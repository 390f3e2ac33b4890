"""Serving the API on a TCP port: anycorn's HTTP and WebSocket protocols, under our own bounds.

    url = await nursery.start(serve_api, node, "127.0.0.1", 0)    # "http://127.0.0.1:54321"

Connections are accepted here rather than by anycorn, because each runs under its own guard (one
that fails never touches another), their number is bounded, and their writes end
(`node.api.connection`). Cancel the task to stop: streams are closed with code 1001 first.
"""

import logging
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import anyio
import msgspec
import structlog
import trio
from anycorn.app_wrappers import ASGIWrapper
from anycorn.config import Config
from anycorn.logging import Logger
from anycorn.tcp_server import TCPServer
from anycorn.typing import ConnectionState
from anycorn.worker_context import WorkerContext

from node.api.allowance import client_key
from node.api.application import Application, build_application
from node.api.connection import Connection
from node.api.door import UNKNOWN_CLIENT
from node.api.face import NodeFace
from node.api.refusals import Refused, headers_of, refusal_of
from node.api.route import JSON
from node.faults import ConfigInvalid, NotReady
from node.metrics import Metric, Shown, from_statistics

log = structlog.get_logger(__name__)

CONNECTIONS_MAX: Final = 1_024  # more: answered with E494 and closed
CONNECTIONS_PER_CLIENT_MAX: Final = 256  # likewise
BACKLOG_CONNECTIONS_MAX: Final = 512  # waiting in the kernel; more are refused there
HEADERS_BYTES_MAX: Final = 16_384  # larger: 431
MESSAGE_BYTES_MAX: Final = 262_144  # larger WebSocket messages: closed with 1009
IDLE_TIMEOUT_S: Final = 15.0  # headers not complete, or nothing asked for, after this: closed
READ_TIMEOUT_S: Final = 60  # not one byte from the client for this long: closed
PING_INTERVAL_S: Final = 20.0  # so a live WebSocket always says something
REQUESTS_PER_CONNECTION_MAX: Final = 100_000  # then it is closed after the answer
APP_EVENTS_MAX: Final = 16  # chunks or messages waiting for the application; more wait unread
STOP_GRACE_S: Final = 1.0  # requests that run when the server stops get this long
SEND_BUFFER_BYTES: Final = 262_144  # in the kernel per connection: a slow reader shows early


@dataclass(frozen=True)
class ServerStatistics:
    """Connections now, and since start: all, those turned away, slow readers cut, mistakes."""

    connections: int
    accepted: int
    turned_away: int
    timed_out: int
    guarded: int


_SHOWN: Final = Shown(frozenset({"accepted", "turned_away", "timed_out", "guarded"}))


class _ServerLog(Logger):
    """What anycorn has to say, in our log: only what is wrong; requests are not logged."""

    async def log(self, level: int, message: str, *args: Any, **kwargs: Any) -> None:
        if level >= logging.WARNING:
            log.log(level, "http_server", told=message % args if args else message, **kwargs)

    async def warning(self, message: str, *args: Any, **kwargs: Any) -> None:
        await self.log(logging.WARNING, message, *args, **kwargs)

    async def error(self, message: str, *args: Any, **kwargs: Any) -> None:
        await self.log(logging.ERROR, message, *args, **kwargs)

    async def exception(self, message: str, *args: Any, **kwargs: Any) -> None:
        await self.log(logging.ERROR, message, *args, exc_info=True, **kwargs)


def _configuration() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.logger_class = _ServerLog
    config.include_server_header = False
    config.h11_max_incomplete_size = HEADERS_BYTES_MAX
    config.keep_alive_timeout = IDLE_TIMEOUT_S
    config.keep_alive_max_requests = REQUESTS_PER_CONNECTION_MAX
    config.read_timeout = READ_TIMEOUT_S
    config.max_app_queue_size = APP_EVENTS_MAX
    config.websocket_max_message_size = MESSAGE_BYTES_MAX
    config.websocket_ping_interval = PING_INTERVAL_S
    config.websocket_permessage_deflate = False  # a small frame must not become a large message
    return config


class Server:
    """Accepts connections for one application."""

    def __init__(self, application: Application) -> None:
        self._app = ASGIWrapper(cast(Any, application))
        self._config = _configuration()
        self._context = WorkerContext(None)
        self._live: set[Connection] = set()
        self._by_client: Counter[str] = Counter()
        self._connections: trio.Nursery | None = None
        self._opened = trio.Event()
        self._stopping = trio.Event()
        self._left = trio.Event()
        self._counts = {"accepted": 0, "turned_away": 0, "timed_out": 0, "guarded": 0}

    async def serve(self, listeners: list[trio.SocketListener]) -> None:
        """Serve until cancelled; then streams hear of it, and requests get a little time."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hold_connections)
            try:
                await self._opened.wait()
                await trio.serve_listeners(
                    self._serve_one, listeners, handler_nursery=self._connections
                )
            finally:
                self._stopping.set()

    async def _hold_connections(self) -> None:
        """The nursery of all connections: it outlives a cancellation by STOP_GRACE_S."""
        async with trio.open_nursery() as connections:
            connections.cancel_scope.shield = True
            self._connections = connections
            self._opened.set()
            await self._stopping.wait()
            await self._context.terminated.set()
            with trio.move_on_after(STOP_GRACE_S):
                while self._live:
                    await self._left.wait()
            for connection in list(self._live):
                connection.abort()
            connections.cancel_scope.cancel()

    def metrics(self) -> Iterator[Metric]:
        yield from from_statistics("outcry_api_server", self.statistics(), _SHOWN)

    def statistics(self) -> ServerStatistics:
        counts = self._counts
        return ServerStatistics(
            len(self._live),
            counts["accepted"],
            counts["turned_away"],
            counts["timed_out"],
            counts["guarded"],
        )

    async def _serve_one(self, stream: trio.SocketStream) -> None:
        """Serve one connection; whatever happens in it stays in it."""
        self._counts["accepted"] += 1
        connection = Connection(stream)
        try:
            with self._counted(connection, _peer(stream)) as is_admitted:
                if is_admitted:
                    state: Any = ConnectionState({})
                    server = TCPServer(self._app, self._config, self._context, state, connection)  # type: ignore[arg-type]
                    with connection.scope:
                        await server.run()
                else:
                    await self._turn_away(connection)
        except* Exception:  # guard: one connection must not end the others
            self._counts["guarded"] += 1
            log.exception("connection_failed")
        finally:
            connection.abort()
            self._counts["timed_out"] += connection.timed_out

    @contextmanager
    def _counted(self, connection: Connection, client: str) -> Iterator[bool]:
        """Whether the connection is within the bounds; it counts until the end of the block."""
        if (
            len(self._live) >= CONNECTIONS_MAX
            or self._by_client[client] >= CONNECTIONS_PER_CLIENT_MAX
        ):
            yield False
            return
        self._live.add(connection)
        self._by_client[client] += 1
        try:
            yield True
        finally:
            self._live.discard(connection)
            self._left.set()
            self._left = trio.Event()
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]

    async def _turn_away(self, connection: Connection) -> None:
        """Say in one write why this connection is not served."""
        self._counts["turned_away"] += 1
        fault = NotReady("this node has as many connections as it takes; try another node")
        body = msgspec.json.encode(Refused(refusal_of(fault)))
        fields = {
            **headers_of(fault),
            "content-type": JSON,
            "content-length": str(len(body)),
            "connection": "close",
        }
        lines = ["HTTP/1.1 503 Service Unavailable", *(f"{k}: {v}" for k, v in fields.items())]
        head = "\r\n".join(lines).encode() + b"\r\n\r\n"
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await connection.send(head + body)


def _peer(stream: trio.SocketStream) -> str:
    """What counts as one client; a connection that is gone already has no name."""
    try:
        return client_key(stream.socket.getpeername()[0])
    except OSError:
        return UNKNOWN_CLIENT


async def serve_api(
    node: NodeFace,
    host: str,
    port: int,
    *,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the API of `node` until cancelled; reports the URL, also for port 0.

    Errors: `ConfigInvalid` when the port cannot be had.
    """
    application = build_application(node)
    server = Server(application)
    application.sources.append(server.metrics)
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG_CONNECTIONS_MAX)
    except OSError as error:
        raise ConfigInvalid(
            f"cannot listen on {host}:{port} ({error.strerror or error}); change [api] listen"
        ) from None
    for listener in listeners:
        listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    url = _url(host, listeners[0].socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        await nursery.start(application.run)
        nursery.start_soon(server.serve, listeners)
        log.info("api_listening", url=url)
        task_status.started(url)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
