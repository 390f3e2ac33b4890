"""EVM JSON-RPC over httpx, with failover and bounds. Nothing here knows what is called."""

from collections.abc import Sequence
from typing import Any

import httpx
import msgspec

from client.faults import ChainRefused, ChainUnreachable, Reverted

ANSWER_BYTES_MAX = 4 << 20  # a larger answer counts as no answer of that endpoint
CALL_TIMEOUT_S = 15.0  # the whole of one attempt
ENDPOINTS_ITEMS_MAX = 16  # more are not accepted
ROUNDS_MAX = 2  # how often all endpoints are tried for one call

_EXECUTION_REVERTED = 3
_REVERT_WORDS = "execution reverted"
_ERROR_SELECTOR = "0x08c379a0"  # Error(string)


class _Error(msgspec.Struct):
    code: int = 0
    message: str = ""
    data: Any = None


class _Answer(msgspec.Struct):
    result: Any = None
    error: _Error | None = None


class Rpc:
    """JSON-RPC calls to the first endpoint that answers; the one that did is tried first next."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        if not 0 < len(endpoints) <= ENDPOINTS_ITEMS_MAX:
            raise ValueError(f"1 to {ENDPOINTS_ITEMS_MAX} EVM endpoints")
        self._endpoints = list(endpoints)
        self._http = httpx.AsyncClient(timeout=CALL_TIMEOUT_S, trust_env=False)
        self._calls = 0
        self.failed = 0

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    @property
    def calls(self) -> int:
        """Calls made so far."""
        return self._calls

    async def call(self, method: str, *params: Any) -> Any:
        """The `result` of one call.

        Errors: `ChainUnreachable` when no endpoint gave a JSON-RPC answer, `Reverted`,
        `ChainRefused`.
        """
        reason = "no endpoint"
        for _ in range(ROUNDS_MAX):
            for endpoint in list(self._endpoints):
                self._calls += 1
                try:
                    answer = await self._ask(endpoint, method, params)
                except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError) as error:
                    self.failed += 1
                    reason = str(error) or type(error).__name__
                    continue
                self._endpoints.remove(endpoint)
                self._endpoints.insert(0, endpoint)
                if answer.error is not None:
                    raise _refusal(method, answer.error)
                return answer.result
        raise ChainUnreachable(", ".join(self._endpoints), reason)

    async def _ask(self, endpoint: str, method: str, params: Sequence[Any]) -> _Answer:
        body = {"jsonrpc": "2.0", "id": self._calls, "method": method, "params": list(params)}
        async with self._http.stream("POST", endpoint, json=body) as response:
            chunks, size = [], 0
            async for chunk in response.aiter_bytes():
                chunks.append(chunk)
                size += len(chunk)
                if size > ANSWER_BYTES_MAX:
                    raise httpx.DecodingError(f"more than {ANSWER_BYTES_MAX} bytes")
            # Some nodes send errors with 4xx and a JSON-RPC body; a proxy's page is no answer.
            return msgspec.json.decode(b"".join(chunks), type=_Answer)


def _refusal(method: str, error: _Error) -> ChainRefused | Reverted:
    words = error.message
    if error.code == _EXECUTION_REVERTED or words.startswith(_REVERT_WORDS):
        reason = _reason(error.data) or words.removeprefix(_REVERT_WORDS).removeprefix(":").strip()
        return Reverted(method, reason)
    return ChainRefused(f"{method}: {words or 'refused'} (code {error.code})")


def _reason(data: Any) -> str:
    """The text of Error(string) revert data, empty when it is something else."""
    if not isinstance(data, str) or not data.startswith(_ERROR_SELECTOR):
        return ""
    try:
        body = bytes.fromhex(data[10:])
    except ValueError:
        return ""
    length = int.from_bytes(body[32:64], "big")
    return body[64 : 64 + min(length, len(body))].decode(errors="replace")
