"""Everything that holds for all requests alike: allowance, size, deadline, faults, guard.

A request passes the allowance of its client, is read within bounds, checked against its route,
answered within a deadline; whatever goes wrong leaves as a refusal (`node.api.refusals`).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
import trio
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from node.api.allowance import client_key, refused
from node.api.faults import BodyLate, DeadlinePassed, Unexpected, UnsupportedMedia
from node.api.refusals import Refused, headers_of, refusal_of, status_of
from node.api.route import (
    NOTHING,
    Call,
    Route,
    Services,
    number_fields,
    read_body,
    read_parameters,
    respond,
)
from node.faults import BadRequest, BodyTooLarge, MethodNotAllowed, NotFound
from primitives.faults import RemoteFault

log = structlog.get_logger(__name__)

BODY_TIMEOUT_S: Final = 10.0  # a body that takes longer: E408
DRAIN_BYTES_MAX: Final = 16 << 20  # of a body that nobody wants; a longer one is cut off
DRAIN_TIMEOUT_S: Final = 1.0  # likewise
REQUEST_DEADLINE_S: Final = 15.0  # an answer that takes longer: E491
CONTENT_LENGTH_CHARS_MAX: Final = 12  # longer numbers there: E413
UNKNOWN_CLIENT: Final = "unknown"

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class DoorStatistics:
    """Answers since start: how many, by status, by fault code; `guarded` are mistakes of ours."""

    answers: int
    by_status: Mapping[str, int]
    by_code: Mapping[str, int]
    guarded: int


class Door:
    """Makes endpoints of routes and counts what leaves through them."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._by_status: Counter[str] = Counter()
        self._by_code: Counter[str] = Counter()
        self._guarded = 0

    def endpoint(self, routes: Mapping[str, Route]) -> Endpoint:
        """What Starlette calls for a path; `routes` by method."""
        numbers = {method: number_fields(route.parameters) for method, route in routes.items()}

        async def serve(request: Request) -> Response:
            method = request.method if request.method in routes else "GET"  # for HEAD
            try:
                return await self._serve(request, routes[method], numbers[method])
            except RemoteFault as fault:
                return self.refuse(fault)
            except ClientDisconnect:
                return self.refuse(BadRequest("the body broke off; send it whole"))
            except Exception:  # guard: a mistake in one route must not end the node
                log.exception("request_failed", path=request.url.path)
                return self.refuse(self.count_mistake())

        return serve

    async def _serve(self, request: Request, route: Route, numbers: frozenset[str]) -> Response:
        parameters = read_parameters(
            route.parameters, request.path_params, request.scope["query_string"], numbers
        )
        body = await _read_body(request, route)
        call = Call(self._services, parameters, body, client_of(request.scope))
        deadline_s = route.deadline_s or REQUEST_DEADLINE_S
        with trio.move_on_after(deadline_s):
            return respond(await route.handler(call))
        raise DeadlinePassed(deadline_s)

    def count_mistake(self) -> RemoteFault:
        """Count a mistake of ours that a guard has logged; what the client hears of it."""
        self._guarded += 1
        return Unexpected()

    def refuse(self, fault: RemoteFault) -> Response:
        """The answer to a request that was refused."""
        self._by_code[fault.code] += 1
        response = respond(Refused(refusal_of(fault)))
        response.status_code = status_of(fault)
        response.headers.update(headers_of(fault))
        return response

    async def refuse_http(self, request: Request, error: Exception) -> Response:
        """Starlette's own refusals, in our words."""
        if isinstance(error, HTTPException) and error.status_code == MethodNotAllowed.status:
            allowed = (error.headers or {}).get("Allow", "")
            response = self.refuse(
                MethodNotAllowed(f"{request.method} is not known here; use {allowed}")
            )
            response.headers["allow"] = allowed
            return response
        return self.refuse(NotFound("there is no such route; see /v1/openapi.json"))

    def admitting(self, app: ASGIApp) -> ASGIApp:
        """`app` behind the allowance; every answer says where its client stands."""

        async def admitted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            allowed, standing = self._services.allowance.spend_request(client_of(scope))

            body = _Body(scope, receive)

            async def send_with_headers(message: Message) -> None:
                if message["type"] == "http.response.start":
                    await body.drain()
                    self._by_status[str(message["status"])] += 1
                    headers = MutableHeaders(scope=message)
                    headers.raw.extend(standing.headers())
                    headers["x-content-type-options"] = "nosniff"
                    headers.setdefault("cache-control", "no-store")
                await send(message)

            inner = app if allowed else self.refuse(refused(standing, "requests"))
            await inner(scope, body.receive, send_with_headers)

        return admitted

    def statistics(self) -> DoorStatistics:
        return DoorStatistics(
            self._by_status.total(), dict(self._by_status), dict(self._by_code), self._guarded
        )


class _Body:
    """The body of a request that may be answered before it was read.

    What is left is read and dropped then: a connection that is closed over unread bytes is reset,
    and the client might lose the answer that tells it what was wrong.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        self._is_whole = length == b"0" and b"transfer-encoding" not in headers
        self._receive = receive

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_whole = True
        return message

    async def drain(self) -> None:
        """Drop what is left, up to a bound; beyond it the connection is closed."""
        dropped = 0
        with trio.move_on_after(DRAIN_TIMEOUT_S):
            while not self._is_whole and dropped <= DRAIN_BYTES_MAX:
                dropped += len((await self.receive()).get("body", b""))


def client_of(scope: Scope) -> str:
    """What counts as one client for the allowance."""
    peer = scope.get("client")
    return client_key(peer[0]) if peer else UNKNOWN_CLIENT


async def _read_body(request: Request, route: Route) -> Any:
    """The body that `route` takes. Errors: `BodyTooLarge`, `BodyLate`, `UnsupportedMedia`,
    `BadRequest`."""
    if route.body is None:
        return NOTHING
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in route.body:
        raise UnsupportedMedia(" or ".join(route.body))
    length = request.headers.get("content-length", "")
    if length.isdigit() and (
        len(length) > CONTENT_LENGTH_CHARS_MAX or int(length) > route.body_bytes_max
    ):
        raise _too_large(route)
    data = bytearray()
    try:
        with trio.fail_after(BODY_TIMEOUT_S):
            async for chunk in request.stream():
                data += chunk
                if len(data) > route.body_bytes_max:
                    raise _too_large(route)
    except trio.TooSlowError:
        raise BodyLate(BODY_TIMEOUT_S) from None
    return read_body(kind, route.body[kind], bytes(data))


def _too_large(route: Route) -> BodyTooLarge:
    return BodyTooLarge(f"at most {route.body_bytes_max} bytes are taken here; send less at once")
