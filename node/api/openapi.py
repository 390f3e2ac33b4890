"""The OpenAPI 3.1 document, generated from the table of routes: it cannot say anything else."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from node.api.refusals import Refused
from node.api.route import JSON, Media, Route

_VERSION: Final = "3.1.0"
_API_VERSION: Final = "1"
_PREFIX: Final = "#/components/schemas/"
_ABOUT: Final = (
    "A node of an Outcry network. Integers are JSON numbers below 2^63, bytes are 0x hex, CIDs "
    "base32 text. Refusals carry a stable code. WebSocket: /v1/stream, see the documentation."
)


def openapi_document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document for these routes, ready for JSON."""
    shapes = _Shapes(routes)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, shapes)
    return {
        "openapi": _VERSION,
        "info": {"title": "Outcry node", "version": _API_VERSION, "description": _ABOUT},
        "paths": paths,
        "components": {"schemas": shapes.components},
    }


class _Shapes:
    """The schemas of all shapes, and references to them."""

    def __init__(self, routes: Sequence[Route]) -> None:
        shapes: list[Any] = [Refused]
        for route in routes:
            shapes += [*answers(route), *(route.body or {}).values(), route.parameters]
        schemas, self.components = msgspec.json.schema_components(
            shapes, ref_template=_PREFIX + "{name}"
        )
        self._schemas = [(shape, schema) for shape, schema in zip(shapes, schemas, strict=True)]
        for route in routes:  # parameters are written out where they are used
            self.components.pop(route.parameters.__name__, None)
        self._parameters = {
            route.parameters: msgspec.json.schema_components([route.parameters])[1]
            for route in routes
        }

    def of(self, shape: Any) -> Mapping[str, Any]:
        """The schema of a shape."""
        for known, schema in self._schemas:
            if known is shape:
                return schema
        raise KeyError(shape)

    def parameters(self, shape: type[msgspec.Struct]) -> Mapping[str, Any]:
        """The object schema of a parameter struct."""
        found: Mapping[str, Any] = self._parameters[shape][shape.__name__]
        return found


def answers(route: Route) -> list[Any]:
    """The shapes of which a route answers one; none for other media than JSON."""
    if isinstance(route.answer, Media):
        return []
    return list(route.answer) if isinstance(route.answer, tuple) else [route.answer]


def _operation(route: Route, shapes: _Shapes) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": route.handler.__name__
        + route.path.replace("/", "_").replace("{", "").replace("}", ""),
        "tags": [route.path.split("/")[2] if route.path.count("/") > 1 else "node"],
        "parameters": _parameters(route, shapes.parameters(route.parameters)),
        "responses": {
            "200": {"description": "OK", "content": _content(route, shapes)},
            "default": {
                "description": "Refused",
                "content": {JSON: {"schema": shapes.of(Refused)}},
            },
        },
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": shapes.of(shape)} for kind, shape in route.body.items()},
        }
    return operation


def _content(route: Route, shapes: _Shapes) -> dict[str, Any]:
    if isinstance(route.answer, Media):
        return {route.answer.content_type: {"schema": {"type": "string", "format": "binary"}}}
    schemas = [shapes.of(shape) for shape in answers(route)]
    return {JSON: {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}}}


def _parameters(route: Route, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    in_path = set(route.path_names)
    required = set(schema.get("required", []))
    return [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in in_path or name in required,
            "schema": described,
        }
        for name, described in schema.get("properties", {}).items()
    ]
