"""One route: what it takes, what it answers, and who does the work.

    Route("GET", "/v1/markets/{symbol}/book", "The best levels of a market", read_book,
          answer=Book, parameters=BookQuery)

Routes are data: the application is built from their table, and so is the OpenAPI document.
A handler gets a `Call` and returns its answer or raises a fault.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
import trio
from starlette.responses import Response

from node.api.allowance import Allowance
from node.api.face import NodeFace
from node.faults import BadRequest
from node.metrics import Metric

QUERY_FIELDS_MAX: Final = 16  # more parameters in one query: refused with E401
QUERY_THREADS_MAX: Final = 4  # reads of the index at once; further ones wait for their turn
NUMBER_CHARS_MAX: Final = 19  # longer numbers in a query are refused with E401
TOLD_CHARS_MAX: Final = 200  # the rest of a long complaint is cut off
JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

P = TypeVar("P")
B = TypeVar("B")
T = TypeVar("T")


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters, or no body."""


NOTHING: Final = Nothing()


@dataclass(frozen=True)
class Services:
    """What all requests share beside the node."""

    node: NodeFace
    allowance: Allowance
    threads: trio.CapacityLimiter
    exports: trio.CapacityLimiter
    metrics: Callable[[], Iterable[Metric]]

    async def read(self, query: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking read of storage in a thread; at a deadline it is left to finish alone."""
        return await trio.to_thread.run_sync(  # type: ignore[call-arg]
            query, *arguments, limiter=self.threads, abandon_on_cancel=True
        )


@dataclass(frozen=True)
class Call(Generic[P, B]):
    """One request, checked against its route's shapes. `client` is what rate limits count by."""

    services: Services
    parameters: P
    body: B
    client: str

    @property
    def node(self) -> NodeFace:
        return self.services.node


@dataclass(frozen=True)
class Media:
    """An answer that is not JSON; the handler returns a `Response` of this content type."""

    content_type: str


@dataclass(frozen=True)
class Route:
    """See the module. `body` gives the shape of the body for each content type it may have;
    `answer` is a shape, a `Media`, or several shapes of which one is answered."""

    method: str
    path: str
    summary: str
    handler: Callable[[Call[Any, Any]], Awaitable[Any]]
    answer: Any
    parameters: type[msgspec.Struct] = Nothing
    body: Mapping[str, Any] | None = None
    body_bytes_max: int = 0
    deadline_s: float | None = None

    @property
    def path_names(self) -> list[str]:
        """The names in braces."""
        return [part[1:-1] for part in self.path.split("/") if part.startswith("{")]


_encoder = msgspec.json.Encoder()


def respond(answer: Any) -> Response:
    """The HTTP response for what a handler returned."""
    if isinstance(answer, Response):
        return answer
    return Response(_encoder.encode(answer), media_type=JSON)


def read_parameters(
    shape: type[T], path: Mapping[str, str], query: bytes, numbers: frozenset[str]
) -> T:
    """The parameters of a request as `shape`. `numbers` are the names of integer fields.

    Errors: `BadRequest`, naming the parameter.
    """
    found: dict[str, Any] = dict(path)
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )
    except ValueError:
        raise BadRequest(
            f"the query is not UTF-8, or has more than {QUERY_FIELDS_MAX} parameters; correct it"
        ) from None
    for name, value in pairs:
        if name in found:
            raise BadRequest(f"parameter {name[:40]!r} is given twice; give it once")
        found[name] = value
    for name in numbers & found.keys():
        found[name] = _number(found[name])
    try:
        return msgspec.convert(found, shape)
    except msgspec.ValidationError as error:
        raise BadRequest(f"parameters: {_told(error)}; see /v1/openapi.json") from None


def _number(text: str) -> int | str:
    """An integer in its only form; anything else stays a text, which its shape refuses."""
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > NUMBER_CHARS_MAX:
        return text
    return int(text) if str(int(text)) == text else text


def number_fields(shape: type[msgspec.Struct]) -> frozenset[str]:
    """The names, as a query has them, of a shape's integer fields."""
    info = msgspec.inspect.type_info(shape)
    if not isinstance(info, msgspec.inspect.StructType):
        raise TypeError(f"{shape.__name__} is not a struct")
    return frozenset(field.encode_name for field in info.fields if _is_number(field.type))


def _is_number(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_is_number(item) for item in kind.types)
    return isinstance(kind, msgspec.inspect.IntType)


def read_body(kind: str, shape: Any, data: bytes) -> Any:
    """A body of content type `kind` as `shape`. Errors: `BadRequest`, naming the field."""
    decode = msgspec.json.decode if kind == JSON else msgspec.msgpack.decode
    try:
        return decode(data, type=shape)
    except msgspec.ValidationError as error:
        raise BadRequest(f"body: {_told(error)}; see /v1/openapi.json") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest(f"the body is not {kind}; see /v1/openapi.json") from None


def _told(error: msgspec.ValidationError) -> str:
    return str(error).replace(" - at `$.", " in `")[:TOLD_CHARS_MAX].replace(";", ",")
