"""Routes about the node itself: status, health, genesis, metrics."""

from typing import Any

import msgspec
from starlette.responses import Response

from node.api.route import Call, Media, Nothing, Route
from node.api.texts import Number
from node.faults import NotReady
from node.metrics import METRICS_CONTENT_TYPE, exposition
from node.status import Status
from primitives import document


class Health(msgspec.Struct, frozen=True):
    """The node takes orders; one that does not answers E494."""

    ready: bool
    height: Number
    time_ms: Number


async def read_status(call: Call[Nothing, Nothing]) -> Status:
    return call.node.status()


async def read_health(call: Call[Nothing, Nothing]) -> Health:
    """Errors: `NotReady`."""
    if not call.node.is_ready:
        raise NotReady("this node is catching up; wait, or try another one")
    exchange = call.node.exchange
    return Health(ready=True, height=exchange.height, time_ms=exchange.time_ms)


async def read_genesis(call: Call[Nothing, Nothing]) -> Any:
    return document.render(call.node.genesis)


async def read_metrics(call: Call[Nothing, Nothing]) -> Response:
    metrics = [*await call.node.metrics(), *call.services.metrics()]
    return Response(exposition(metrics), media_type=METRICS_CONTENT_TYPE)


META_ROUTES = [
    Route("GET", "/v1/status", "What this node is and how it stands", read_status, Status),
    Route("GET", "/v1/health", "Whether this node takes orders", read_health, Health),
    Route("GET", "/v1/genesis", "The genesis document", read_genesis, dict[str, Any]),
    Route("GET", "/metrics", "Prometheus metrics", read_metrics, Media(METRICS_CONTENT_TYPE)),
]
