"""HTTP/1.1 on the loopback for the embedded chain: POST only, everything bounded."""

import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog

from settlement._evm_rpc import Rpc

log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
BODY_BYTES_MAX = 1_048_576  # larger: 413, and the connection is closed
CONNECTIONS_MAX = 128  # more are closed at once
IDLE_TIMEOUT_S = 30.0  # a silent connection is closed
BODY_TIMEOUT_S = 10.0  # a body that trickles in longer than this is dropped
READ_CHUNK_BYTES = 65_536


class EvmServer(ThreadingHTTPServer):
    """One thread a connection; `serve_forever` until `shutdown`."""

    daemon_threads = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(self, rpc: Rpc, port: int) -> None:
        self.rpc = rpc
        self._slots = threading.BoundedSemaphore(CONNECTIONS_MAX)
        super().__init__((HOST, port), _Handler)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, or close it when there are too many."""
        if not self._slots.acquire(blocking=False):
            log.warning("connection_refused", connections_max=CONNECTIONS_MAX)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection to its end."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A connection that breaks costs itself only."""
        log.info("connection_broke", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "outcry-evm"
    sys_version = ""
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = IDLE_TIMEOUT_S
    server: EvmServer

    def do_POST(self) -> None:
        """Answer one JSON-RPC body."""
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
            return
        if len(length) > 10 or int(length) > BODY_BYTES_MAX:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        body = self._read(int(length))
        if body is None:
            self.close_connection = True
            return
        answer = self.server.rpc.answer(body)
        self.send_response(HTTPStatus.OK if answer else HTTPStatus.NO_CONTENT)
        if answer:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
        self.wfile.flush()

    def do_GET(self) -> None:
        """There is nothing to get."""
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)

    def _read(self, length: int) -> bytes | None:
        chunks, missing = [], length
        deadline = time.monotonic() + BODY_TIMEOUT_S
        while missing:
            chunk = self.rfile.read1(min(missing, READ_CHUNK_BYTES))
            if not chunk or time.monotonic() > deadline:
                return None
            chunks.append(chunk)
            missing -= len(chunk)
        return b"".join(chunks)

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.flush()
        # What is still unread would turn the close into a reset that eats the answer.
        self.connection.shutdown(socket.SHUT_WR)

    def log_message(self, *_: Any) -> None:
        """Requests are not logged one by one."""
