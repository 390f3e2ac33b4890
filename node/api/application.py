"""The ASGI application of a node: all routes and the stream, behind one door.

application = build_application(node)
await nursery.start(application.run)      # what the streams live from
await application(scope, receive, send)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route as StarletteRoute
from starlette.routing import WebSocketRoute
from starlette.types import Receive, Scope, Send

from node.api.accounts import ACCOUNT_ROUTES
from node.api.allowance import Allowance
from node.api.blocks import BLOCK_ROUTES, EXPORTS_MAX
from node.api.channels import make_channels
from node.api.chat import CHAT_ROUTES
from node.api.door import Door
from node.api.envelopes import ENVELOPE_ROUTES
from node.api.face import NodeFace
from node.api.hub import Hub
from node.api.markets import MARKET_ROUTES
from node.api.meta import META_ROUTES
from node.api.openapi import openapi_document
from node.api.route import QUERY_THREADS_MAX, Call, Nothing, Route, Services
from node.api.settlement import SETTLEMENT_ROUTES
from node.api.stream import Streams
from node.metrics import Metric, Shown, from_statistics

STREAM_PATH: Final = "/v1/stream"
_DOOR: Final = Shown(
    frozenset({"answers", "by_status", "by_code", "guarded"}),
    {"by_status": "status", "by_code": "code"},
)
_ALLOWANCE: Final = Shown(frozenset({"refused_requests", "refused_envelopes"}))
_STREAMS: Final = Shown(
    frozenset({"changes", "feeds_lost", "received", "ended"}), {"ended": "code"}
)

Source = Callable[[], Iterable[Metric]]


async def read_openapi(_call: Call[Nothing, Nothing]) -> Any:
    return DOCUMENT


ROUTES: Final[tuple[Route, ...]] = (
    *META_ROUTES,
    Route("GET", "/v1/openapi.json", "This description", read_openapi, dict[str, Any]),
    *MARKET_ROUTES,
    *ACCOUNT_ROUTES,
    *ENVELOPE_ROUTES,
    *BLOCK_ROUTES,
    *SETTLEMENT_ROUTES,
    *CHAT_ROUTES,
)
DOCUMENT: Final = openapi_document(ROUTES)


class Application:
    """See the module. `sources` give the numbers that /metrics shows beside the node's."""

    def __init__(self, node: NodeFace) -> None:
        api = node.config.api
        self.sources: list[Source] = [self._metrics]
        self.allowance = Allowance(api.requests_per_second, api.envelopes_per_second)
        services = Services(
            node=node,
            allowance=self.allowance,
            threads=trio.CapacityLimiter(QUERY_THREADS_MAX),
            exports=trio.CapacityLimiter(EXPORTS_MAX),
            metrics=lambda: (metric for source in self.sources for metric in source()),
        )
        self.door = Door(services)
        self.hub = Hub(node, make_channels(services))
        self.streams = Streams(services, self.hub, self.door)
        starlette = Starlette(
            routes=[
                *(
                    StarletteRoute(path, self.door.endpoint(by_method), methods=list(by_method))
                    for path, by_method in _by_path(ROUTES).items()
                ),
                WebSocketRoute(STREAM_PATH, self.streams.serve),
            ],
            exception_handlers={HTTPException: self.door.refuse_http},
        )
        starlette.router.redirect_slashes = False
        self._app = self.door.admitting(starlette)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Spread the node's updates to the streams until cancelled; then end the streams."""
        try:
            await self.hub.run(task_status=task_status)
        finally:
            self.streams.stop()

    def _metrics(self) -> Iterator[Metric]:
        yield from from_statistics("outcry_api", self.door.statistics(), _DOOR)
        yield from from_statistics("outcry_api_allowance", self.allowance.statistics(), _ALLOWANCE)
        yield from from_statistics("outcry_api_stream", self.streams.statistics(), _STREAMS)


def _by_path(routes: Sequence[Route]) -> dict[str, dict[str, Route]]:
    paths: dict[str, dict[str, Route]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method] = route
    return paths


def build_application(node: NodeFace) -> Application:
    """The ASGI application that serves `node`."""
    return Application(node)
