"""HTTP to the nodes of a network: failover, retries of what may be repeated, bounds.

Every request of the API may be repeated: reading changes nothing, and an envelope is known by
the hash of its bytes. So what a node did not answer goes to the next one with the same bytes,
and the answer says whether an earlier attempt may have had an effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import msgspec
import structlog
import trio

from client.faults import NodeMisbehaved, NodeUnreachable, RefusedByNode, Unanswered

log = structlog.get_logger(__name__)

ANSWER_BYTES_MAX = 16 << 20  # a larger answer is refused with E443
ATTEMPT_TIMEOUT_S = 10.0  # the whole of one attempt
CONNECT_TIMEOUT_S = 3.0
ENDPOINTS_ITEMS_MAX = 32  # more are not accepted
ROUNDS_MAX = 3  # how often every endpoint is tried for one request
PAUSE_S_MIN = 0.1  # between two rounds, doubled each time
RETRY_AFTER_S_MAX = 5.0  # a node that asks for a longer pause counts as refusing
CONNECTIONS_MAX = 64

_NOT_READY = "E494"  # the node's own word that it did nothing
_DEADLINE_PASSED = 408  # the node gave up on it; what was sent may have had its effect
_TOO_MANY = 429
_SERVER_ERRORS = 500

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)

T = TypeVar("T")


class _Error(msgspec.Struct):
    code: str
    message: str
    next: str = ""


class _Refusal(msgspec.Struct):
    error: _Error


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx body and who sent it. `repeated`: an earlier attempt may have had its effect."""

    body: bytes
    endpoint: str
    repeated: bool

    def read(self, shape: type[T]) -> T:
        """The JSON value of type `shape`. Errors: `NodeMisbehaved`."""
        try:
            return msgspec.json.decode(self.body, type=shape)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NodeMisbehaved(self.endpoint, f"something else than the API ({error})") from None


@dataclass(frozen=True, slots=True)
class HttpStatistics:
    """What was asked since the start: attempts, those that failed, and changes of endpoint."""

    attempts: int
    failed: int
    failovers: int


class _Lost(Exception):
    """One attempt brought nothing; `sent` when it may have had an effect."""

    def __init__(self, reason: str, *, sent: bool, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.sent = sent
        self.pause_s = pause_s


class Nodes:
    """The endpoints of one network. The one that answered last is asked first."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        if not 0 < len(endpoints) <= ENDPOINTS_ITEMS_MAX:
            raise ValueError(f"1 to {ENDPOINTS_ITEMS_MAX} endpoints")
        self.endpoints = [endpoint.rstrip("/") for endpoint in endpoints]
        for endpoint in self.endpoints:
            if not endpoint.startswith(("http://", "https://")):
                raise NodeUnreachable(endpoint, "an address begins with http:// or https://")
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(ATTEMPT_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            trust_env=False,
        )
        self._attempts = self._failed = self._failovers = 0

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def statistics(self) -> HttpStatistics:
        return HttpStatistics(self._attempts, self._failed, self._failovers)

    async def get(self, path: str, shape: type[T], **parameters: Any) -> T:
        """Read `path`. Parameters that are None are left out.

        Errors: `RefusedByNode`, `NodeUnreachable`, `NodeMisbehaved`.
        """
        given = {name: value for name, value in parameters.items() if value is not None}
        try:
            return (await self.ask("GET", path, parameters=given)).read(shape)
        except Unanswered as fault:
            raise NodeUnreachable(", ".join(self.endpoints), fault.sentence) from None

    async def post(self, path: str, body: Any) -> Answer:
        """Send `body` as JSON. Errors: as `get`, and `Unanswered`."""
        return await self.ask("POST", path, body=body)

    async def ask(
        self,
        method: str,
        path: str,
        *,
        parameters: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Answer:
        """One request to the first endpoint that answers it.

        A refusal that comes after an unanswered attempt carries `repeated`.
        Errors: `RefusedByNode`, `NodeMisbehaved`, `NodeUnreachable` when nothing can have
        arrived, `Unanswered` when it may have.
        """
        sent, reason = False, "nothing was tried"
        pause_s = PAUSE_S_MIN
        content = None if body is None else msgspec.json.encode(body)
        for attempt in range(ROUNDS_MAX):
            wanted_s = 0.0
            for endpoint in list(self.endpoints):
                try:
                    answered = await self._attempt(method, endpoint, path, parameters, content)
                except _Lost as lost:
                    self._failed += 1
                    sent, reason = sent or lost.sent, str(lost)
                    wanted_s = max(wanted_s, lost.pause_s)
                    self._demote(endpoint)
                    log.debug("attempt_failed", endpoint=endpoint, path=path, reason=reason)
                    continue
                except RefusedByNode as fault:
                    fault.repeated = sent
                    raise
                return Answer(answered, endpoint, sent)
            if attempt + 1 < ROUNDS_MAX:
                await trio.sleep(max(pause_s, wanted_s))
                pause_s *= 2
        if sent:
            raise Unanswered(reason)
        raise NodeUnreachable(", ".join(self.endpoints), reason)

    async def _attempt(
        self,
        method: str,
        endpoint: str,
        path: str,
        parameters: Mapping[str, Any] | None,
        content: bytes | None,
    ) -> bytes:
        self._attempts += 1
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            async with self._http.stream(
                method, endpoint + path, params=parameters, content=content, headers=headers
            ) as response:
                data = await _bounded(response, endpoint)
        except _NOT_SENT as error:
            raise _Lost(str(error) or type(error).__name__, sent=False) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _Lost(str(error) or type(error).__name__, sent=True) from None
        if response.is_success:
            return data
        raise _refusal(response, data, endpoint)

    def _demote(self, endpoint: str) -> None:
        """Ask another endpoint first next time. Tasks that run side by side may have done so."""
        if self.endpoints[0] == endpoint and len(self.endpoints) > 1:
            self.endpoints.append(self.endpoints.pop(0))
            self._failovers += 1


async def _bounded(response: httpx.Response, endpoint: str) -> bytes:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        chunks.append(chunk)
        size += len(chunk)
        if size > ANSWER_BYTES_MAX:
            raise NodeMisbehaved(endpoint, f"more than {ANSWER_BYTES_MAX} bytes")
    return b"".join(chunks)


def _refusal(response: httpx.Response, data: bytes, endpoint: str) -> Exception:
    """What an answer other than 2xx means for the attempt."""
    status = response.status_code
    try:
        error = msgspec.json.decode(data, type=_Refusal).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        error = None
    if status >= _SERVER_ERRORS or status == _DEADLINE_PASSED:
        refused = error is not None and error.code == _NOT_READY
        reason = error.message if error else f"status {status}"
        return _Lost(reason, sent=not refused, pause_s=_pause(response))
    if error is None:
        return NodeMisbehaved(endpoint, f"status {status} without a reason")
    if status == _TOO_MANY and 0 < _pause(response) <= RETRY_AFTER_S_MAX:
        return _Lost(error.message, sent=False, pause_s=_pause(response))
    return RefusedByNode(error.code, error.message, error.next, status)


def _pause(response: httpx.Response) -> float:
    """Seconds of a Retry-After header, 0 without one."""
    try:
        return max(0.0, float(response.headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0
