"""Several JSON-RPC endpoints of one chain as a single web3 provider.

A call goes to the endpoint that worked last; when that one fails to answer, or answers
nonsense, the next is asked. An endpoint is asked for its chain id, and for the vault's code,
before its first real call and again after each failure: a node of another chain behind a
familiar address is found out before it can say anything that matters. Every write is one
signed transaction, so repeating it elsewhere is harmless.
"""

import threading
import time
from collections.abc import Sequence
from typing import Any, cast

import httpx
import msgspec
import structlog
from web3.providers import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from settlement._json_nesting import is_shallow
from settlement.faults import ChainMismatch, ChainUnreachable

log = structlog.get_logger(__name__)

ENDPOINTS_MAX = 8
CONNECT_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 10.0  # for the whole answer, however slowly it trickles in
ANSWER_BYTES_MAX = 16_777_216  # longer: the endpoint has failed
CONNECTIONS_MAX = 8
ROUNDS_MAX = 2  # every endpoint is asked so often before a call fails
ROUND_PAUSE_S = 0.2
REST_AFTER_FAILURE_S = 2.0  # other endpoints go first for so long


class _Endpoint:
    """One address, and what is known of it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.verified = False
        self.rests_until = 0.0


class EndpointFailed(Exception):
    """One endpoint did not give a usable answer."""


class Endpoints(JSONBaseProvider):
    """A web3 provider over one to `ENDPOINTS_MAX` endpoints; safe to call from many threads."""

    def __init__(
        self, urls: Sequence[str], chain_id: int | None = None, vault: str | None = None
    ) -> None:
        """`chain_id` and `vault` (0x address) are what each endpoint must have; None: anything."""
        if not 1 <= len(urls) <= ENDPOINTS_MAX:
            raise ValueError(f"{len(urls)} endpoints; 1 to {ENDPOINTS_MAX} are possible")
        super().__init__()
        self._chain_id = chain_id
        self._vault = vault
        self._all = [_Endpoint(url) for url in urls]
        self._preferred = self._all[0]
        self._lock = threading.Lock()
        self._client = httpx.Client(
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
            trust_env=False,
            follow_redirects=False,
        )
        self.calls = 0
        self.failures = 0
        self.failovers = 0

    @property
    def current(self) -> str:
        """The address that is asked first."""
        return self._preferred.url

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Ask until one endpoint answers; an error object is an answer.

        Errors: `ChainUnreachable`, or `ChainMismatch` when those that answer are of another
        chain.
        """
        mismatch: ChainMismatch | None = None
        for attempt in range(ROUNDS_MAX):
            if attempt:
                time.sleep(ROUND_PAUSE_S)
            for endpoint in self._in_order():
                try:
                    return self._try(endpoint, method, params)
                except ChainMismatch as fault:
                    mismatch = fault
                    self._failed(endpoint, method, fault)
                except EndpointFailed as fault:
                    self._failed(endpoint, method, fault)
        if mismatch is not None:
            raise mismatch
        raise ChainUnreachable(method)

    def _try(self, endpoint: _Endpoint, method: RPCEndpoint, params: Any) -> RPCResponse:
        if not endpoint.verified:
            self._verify(endpoint)
        answer = self._ask(endpoint, method, params)
        self._worked(endpoint)
        return answer

    def _in_order(self) -> list[_Endpoint]:
        with self._lock:
            first, now = self._preferred, time.monotonic()
            return sorted(self._all, key=lambda one: (one.rests_until > now, one is not first))

    def _worked(self, endpoint: _Endpoint) -> None:
        with self._lock:
            self.calls += 1
            endpoint.rests_until = 0.0
            if endpoint is not self._preferred:
                self.failovers += 1
                log.warning("endpoint_switched", old=self._preferred.url, new=endpoint.url)
                self._preferred = endpoint

    def _failed(self, endpoint: _Endpoint, method: str, fault: Exception) -> None:
        with self._lock:
            self.failures += 1
            endpoint.verified = False
            endpoint.rests_until = time.monotonic() + REST_AFTER_FAILURE_S
        log.info("endpoint_failed", endpoint=endpoint.url, method=method, fault=str(fault))

    def _verify(self, endpoint: _Endpoint) -> None:
        if self._chain_id is not None:
            found = self._ask(endpoint, RPCEndpoint("eth_chainId"), []).get("result")
            if found != hex(self._chain_id):
                raise ChainMismatch(endpoint.url, f"chain id {found}, not {hex(self._chain_id)}")
        if self._vault is not None:
            code = self._ask(endpoint, RPCEndpoint("eth_getCode"), [self._vault, "latest"])
            if not isinstance(code.get("result"), str) or len(code["result"]) <= 2:
                raise ChainMismatch(endpoint.url, f"no vault at {self._vault}")
        endpoint.verified = True

    def _ask(self, endpoint: _Endpoint, method: RPCEndpoint, params: Any) -> RPCResponse:
        body = self.encode_rpc_request(method, params)
        try:
            received = self._post(endpoint.url, body)
            if not is_shallow(received):
                raise EndpointFailed("the answer is nested too deeply")
            answer = msgspec.json.decode(received)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError, RecursionError) as fault:
            raise EndpointFailed(f"{type(fault).__name__}: {fault}") from None
        except UnicodeDecodeError:
            raise EndpointFailed("the answer is not text") from None
        if not isinstance(answer, dict) or not _is_answer(answer):
            raise EndpointFailed("the answer is not JSON-RPC 2.0")
        return cast(RPCResponse, answer)

    def _post(self, url: str, body: bytes) -> bytes:
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        headers = {"Content-Type": "application/json"}
        with self._client.stream("POST", url, content=body, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                raise EndpointFailed(f"HTTP status {response.status_code}")
            received = bytearray()
            for chunk in response.iter_bytes():
                received += chunk
                if len(received) > ANSWER_BYTES_MAX:
                    raise EndpointFailed(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
                if time.monotonic() > deadline:
                    raise EndpointFailed(f"no whole answer in {ANSWER_TIMEOUT_S} s")
            return bytes(received)


def _is_answer(answer: dict[str, Any]) -> bool:
    error = answer.get("error")
    if answer.get("jsonrpc") != "2.0" or not ("result" in answer or error is not None):
        return False
    return error is None or (
        isinstance(error, dict)
        and isinstance(error.get("code"), int)
        and isinstance(error.get("message"), str)
    )
