"""The JSON-RPC 2.0 methods of the embedded chain, strict about what they are given.

`answer(body)` takes the bytes of one HTTP body and returns the bytes of the answer; nothing
that a body holds makes it raise. Errors carry the codes of JSON-RPC 2.0 and, for executions,
of geth: 3 with the revert data, -32000 with the reason of a refusal.
"""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

import msgspec
import structlog

from settlement._evm_chain import (
    CALL_GAS_MAX,
    TIP_WEI,
    CallRequest,
    EmbeddedChain,
    Refused,
    Reverted,
)
from settlement._evm_rendering import data, quantity
from settlement._evm_store import LOGS_ANSWERED_MAX, LogQuery, TooManyLogs
from settlement._json_nesting import is_shallow

log = structlog.get_logger(__name__)

BATCH_CALLS_MAX = 100  # more: the whole batch is refused
TRANSACTION_BYTES_MAX = 131_072  # as geth's pool
FEE_HISTORY_BLOCKS_MAX = 1_024
FILTER_OPTIONS_MAX = 64  # addresses, or alternatives for one topic
TOPICS_MAX = 4

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
LIMIT_EXCEEDED = -32005
EXECUTION_REVERTED = 3

_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_NULL = msgspec.Raw(b"null")
_ERROR_SELECTOR = bytes.fromhex("08c379a0")  # Error(string)


class RpcError(Exception):
    """An error object of JSON-RPC."""

    def __init__(self, code: int, message: str, error_data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.error_data = error_data


class Rpc:
    """The methods over one chain, and counters of what was asked."""

    def __init__(self, chain: EmbeddedChain) -> None:
        self._chain = chain
        self._methods: dict[str, Callable[[list[Any]], Any]] = {
            "web3_clientVersion": self._client_version,
            "net_version": lambda _: str(chain.chain_id),
            "net_listening": lambda _: True,
            "eth_chainId": lambda _: quantity(chain.chain_id),
            "eth_syncing": lambda _: False,
            "eth_accounts": lambda _: [data(a) for a in chain.accounts],
            "eth_blockNumber": lambda _: quantity(chain.head_number),
            "eth_gasPrice": lambda _: quantity(chain.next_base_fee + TIP_WEI),
            "eth_maxPriorityFeePerGas": lambda _: quantity(TIP_WEI),
            "eth_feeHistory": self._fee_history,
            "eth_getBlockByNumber": self._block_by_number,
            "eth_getBlockByHash": self._block_by_hash,
            "eth_getBalance": self._balance,
            "eth_getTransactionCount": self._transaction_count,
            "eth_getCode": self._code,
            "eth_getStorageAt": self._storage,
            "eth_sendRawTransaction": self._send_raw,
            "eth_getTransactionByHash": self._transaction,
            "eth_getTransactionReceipt": self._receipt,
            "eth_call": self._call,
            "eth_estimateGas": self._estimate,
            "eth_getLogs": self._logs,
            "evm_mine": lambda _: quantity(chain.mine()),
        }

    def answer(self, body: bytes) -> bytes:
        """The answer to one HTTP body; empty when it held notifications only."""
        if not is_shallow(body):
            return _encode(_failed(None, RpcError(PARSE_ERROR, "nested too deeply")))
        try:
            request = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _encode(_failed(None, RpcError(PARSE_ERROR, "not JSON")))
        if not isinstance(request, list):
            answer = self._answer(request)
            return b"" if answer is None else _encode(answer)
        if not 0 < len(request) <= BATCH_CALLS_MAX:
            fault = RpcError(INVALID_REQUEST, f"a batch holds 1 to {BATCH_CALLS_MAX} calls")
            return _encode(_failed(None, fault))
        answers = [answer for one in request if (answer := self._answer(one)) is not None]
        return _encode(answers) if answers else b""

    def _answer(self, request: Any) -> dict[str, Any] | None:
        """None for a notification, which is carried out all the same."""
        answer = self._carry_out(request)
        return None if _is_notification(request) else answer

    def _carry_out(self, request: Any) -> dict[str, Any]:
        call_id = request.get("id") if isinstance(request, dict) else None
        if not isinstance(call_id, str | int | float | None) or isinstance(call_id, bool):
            call_id = None
        try:
            method, params = _validated(request)
            if method not in self._methods:
                raise RpcError(METHOD_NOT_FOUND, f"{method[:64]} is not served here")
            result = self._methods[method](params)
        except RpcError as fault:
            return _failed(call_id, fault)
        except Refused as fault:
            return _failed(call_id, RpcError(SERVER_ERROR, str(fault)))
        except Reverted as fault:
            return _failed(call_id, _reverted(fault))
        except Exception as fault:  # guard: one request's
            log.exception("rpc_failed", method=str(request.get("method"))[:64])
            return _failed(call_id, RpcError(INTERNAL_ERROR, type(fault).__name__))
        return {"jsonrpc": "2.0", "id": call_id, "result": result}

    # blocks and fees

    def _client_version(self, _: list[Any]) -> str:
        return f"outcry-evm/py-evm/prague/python{sys.version_info.major}.{sys.version_info.minor}"

    def _block_by_number(self, params: list[Any]) -> Any:
        _count(params, 1, 2)
        number = self._number(params[0])
        return self._block(number, params)

    def _block_by_hash(self, params: list[Any]) -> Any:
        _count(params, 1, 2)
        return self._block(self._chain.store.number_of(_bytes(params[0], 32)), params)

    def _block(self, number: int | None, params: list[Any]) -> Any:
        full = params[1] if len(params) > 1 else False
        if not isinstance(full, bool):
            _bad("the second parameter is true or false")
        body = self._chain.store.block(number) if number is not None else None
        if number is None or body is None:
            return _NULL
        if not full:
            return msgspec.Raw(body)
        block = msgspec.json.decode(body)
        block["transactions"] = [msgspec.Raw(tx) for tx in self._chain.store.transactions(number)]
        return block

    def _fee_history(self, params: list[Any]) -> Any:
        _count(params, 2, 3)
        wanted = params[0] if isinstance(params[0], int) else _quantity(params[0])
        if not 1 <= wanted <= FEE_HISTORY_BLOCKS_MAX:
            _bad(f"1 to {FEE_HISTORY_BLOCKS_MAX} blocks")
        percentiles = params[2] if len(params) > 2 and params[2] is not None else []
        if not isinstance(percentiles, list) or len(percentiles) > 100:
            _bad("percentiles are a list of at most 100")
        last = self._known(params[1])
        first = max(0, last - wanted + 1)
        blocks = [
            msgspec.json.decode(self._chain.store.block(n) or b"{}") for n in range(first, last + 1)
        ]
        following = self._chain.store.block(last + 1)
        next_fee = quantity(self._chain.next_base_fee)
        if following is not None:
            next_fee = msgspec.json.decode(following)["baseFeePerGas"]
        history: dict[str, Any] = {
            "oldestBlock": quantity(first),
            "baseFeePerGas": [*(block["baseFeePerGas"] for block in blocks), next_fee],
            "gasUsedRatio": [
                int(block["gasUsed"], 16) / int(block["gasLimit"], 16) for block in blocks
            ],
        }
        if percentiles:
            history["reward"] = [[quantity(TIP_WEI)] * len(percentiles) for _ in blocks]
        return history

    # accounts

    def _balance(self, params: list[Any]) -> str:
        account, number = self._account_at(params)
        return quantity(self._chain.balance(account, number))

    def _transaction_count(self, params: list[Any]) -> str:
        account, number = self._account_at(params)
        return quantity(self._chain.nonce(account, number))

    def _code(self, params: list[Any]) -> str:
        account, number = self._account_at(params)
        return data(self._chain.code(account, number))

    def _storage(self, params: list[Any]) -> str:
        _count(params, 2, 3)
        number = self._known(params[2] if len(params) > 2 else "latest")
        return data(self._chain.storage(_bytes(params[0], 20), _word(params[1]), number))

    def _account_at(self, params: list[Any]) -> tuple[bytes, int]:
        _count(params, 1, 2)
        return _bytes(params[0], 20), self._known(params[1] if len(params) > 1 else "latest")

    # transactions

    def _send_raw(self, params: list[Any]) -> str:
        _count(params, 1, 1)
        raw = _bytes(params[0], None)
        if not 0 < len(raw) <= TRANSACTION_BYTES_MAX:
            raise RpcError(SERVER_ERROR, f"a transaction has 1 to {TRANSACTION_BYTES_MAX} bytes")
        return data(self._chain.send(raw))

    def _transaction(self, params: list[Any]) -> Any:
        _count(params, 1, 1)
        found = self._chain.store.transaction(_bytes(params[0], 32))
        return _NULL if found is None else msgspec.Raw(found)

    def _receipt(self, params: list[Any]) -> Any:
        _count(params, 1, 1)
        found = self._chain.store.receipt(_bytes(params[0], 32))
        return _NULL if found is None else msgspec.Raw(found)

    def _call(self, params: list[Any]) -> str:
        _count(params, 1, 2)
        number = self._known(params[1] if len(params) > 1 else "latest")
        return data(self._chain.call(_call_request(params[0]), number))

    def _estimate(self, params: list[Any]) -> str:
        _count(params, 1, 2)
        number = self._known(params[1] if len(params) > 1 else "latest")
        return quantity(self._chain.estimate(_call_request(params[0]), number))

    def _logs(self, params: list[Any]) -> Any:
        _count(params, 1, 1)
        wanted = _object(params[0])
        if "blockHash" in wanted:
            first = last = self._known({"blockHash": wanted["blockHash"]})
        else:
            first = self._number(wanted.get("fromBlock") or "latest")
            last = self._number(wanted.get("toBlock") or "latest")
        topics = wanted.get("topics") or []
        if not isinstance(topics, list) or len(topics) > TOPICS_MAX:
            _bad(f"topics are a list of at most {TOPICS_MAX}")
        query = LogQuery(
            min(first, self._chain.head_number + 1),
            min(last, self._chain.head_number),
            _options(wanted.get("address"), 20),
            tuple(_options(topic, 32) for topic in topics),
        )
        try:
            return [msgspec.Raw(body) for body in self._chain.store.logs(query)]
        except TooManyLogs:
            what = f"more than {LOGS_ANSWERED_MAX} logs; name fewer blocks"
            raise RpcError(LIMIT_EXCEEDED, what) from None

    # block names

    def _number(self, name: Any) -> int:
        if isinstance(name, dict):
            if "blockHash" in name:
                number = self._chain.store.number_of(_bytes(name["blockHash"], 32))
                if number is None:
                    raise RpcError(SERVER_ERROR, "header not found")
                return number
            name = name.get("blockNumber")
        if isinstance(name, str) and len(name) == 66:
            return self._number({"blockHash": name})
        if name in ("latest", "safe", "finalized", "pending"):
            return self._chain.head_number
        return 0 if name == "earliest" else _quantity(name)

    def _known(self, name: Any) -> int:
        number = self._number(name)
        if number > self._chain.head_number:
            raise RpcError(SERVER_ERROR, "header not found")
        return number


def _validated(request: Any) -> tuple[str, list[Any]]:
    if not isinstance(request, dict) or request.get("jsonrpc") != "2.0":
        raise RpcError(INVALID_REQUEST, 'a call is an object with "jsonrpc": "2.0"')
    method, params = request.get("method"), request.get("params")
    if not isinstance(method, str):
        raise RpcError(INVALID_REQUEST, '"method" is a string')
    if not isinstance(params, list | None):
        raise RpcError(INVALID_PARAMS, '"params" is a list')
    return method, params or []


def _is_notification(request: Any) -> bool:
    return (
        isinstance(request, dict)
        and "id" not in request
        and request.get("jsonrpc") == "2.0"
        and isinstance(request.get("method"), str)
    )


def _failed(call_id: Any, fault: RpcError) -> dict[str, Any]:
    error: dict[str, Any] = {"code": fault.code, "message": str(fault)}
    if fault.error_data is not None:
        error["data"] = fault.error_data
    return {"jsonrpc": "2.0", "id": call_id, "error": error}


def _reverted(fault: Reverted) -> RpcError:
    message = str(fault)
    if fault.data[:4] == _ERROR_SELECTOR and len(fault.data) >= 68:
        length = int.from_bytes(fault.data[36:68], "big")
        message += f": {fault.data[68 : 68 + length].decode(errors='replace')}"
    return RpcError(EXECUTION_REVERTED, message, data(fault.data))


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _bad(what: str) -> NoReturn:
    raise RpcError(INVALID_PARAMS, what)


def _count(params: list[Any], least: int, most: int) -> None:
    if not least <= len(params) <= most:
        _bad(f"{least} to {most} parameters, not {len(params)}")


def _bytes(value: Any, size: int | None) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        _bad("bytes are a string of hex digits after 0x")
    if len(value) % 2 or not _HEX_DIGITS.issuperset(value[2:]):
        _bad("bytes are an even number of hex digits")
    found = bytes.fromhex(value[2:])
    if size is not None and len(found) != size:
        _bad(f"{size} bytes expected, not {len(found)}")
    return found


def _quantity(value: Any) -> int:
    if not isinstance(value, str) or not 3 <= len(value) <= 66 or not value.startswith("0x"):
        _bad("a quantity is a string of hex digits after 0x")
    if not _HEX_DIGITS.issuperset(value[2:]):
        _bad("not hex digits")
    return int(value, 16)


def _word(value: Any) -> int:
    if isinstance(value, str) and len(value) == 66:
        return int.from_bytes(_bytes(value, 32), "big")
    return _quantity(value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        _bad("an object was expected")
    return value


def _options(value: Any, size: int) -> tuple[bytes, ...]:
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    if len(values) > FILTER_OPTIONS_MAX:
        _bad(f"at most {FILTER_OPTIONS_MAX} alternatives")
    return tuple(_bytes(one, size) for one in values)


def _call_request(value: Any) -> CallRequest:
    fields = _object(value)
    payload = fields.get("input") or fields.get("data") or "0x"
    sender, to = fields.get("from"), fields.get("to")
    return CallRequest(
        sender=bytes(20) if sender is None else _bytes(sender, 20),
        to=b"" if to is None else _bytes(to, 20),
        data=_bytes(payload, None),
        value=_quantity(fields.get("value") or "0x0"),
        gas=_quantity(fields.get("gas") or quantity(CALL_GAS_MAX)),
    )
