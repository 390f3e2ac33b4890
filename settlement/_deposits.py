"""The vault's deposits as one endpoint-independent, verified history. Synchronous, for threads.

Every view is pinned to one block hash: the contract's count and running hash at that block
must equal those recomputed from the logs. So logs that an endpoint leaves out, invents, or
mixes from two forks are noticed, whatever it does. When nothing happened, a refresh is one
`eth_getBlockByNumber`; when there is a new block without deposits, one `eth_call` more.
"""

import threading
from bisect import bisect_right
from typing import Any

import msgspec
import structlog
from web3 import Web3
from web3.types import RPCEndpoint

from primitives.anchors import EMPTY_ACCUMULATOR, deposit_accumulator, keccak
from primitives.codec import AMOUNT_MAX
from settlement.faults import ChainBehind, ChainContradiction

log = structlog.get_logger(__name__)

LOG_SPAN_BLOCKS_MAX = 2_000  # per eth_getLogs; halved when an endpoint finds that too much
SPANS_PER_CALL_MAX = 64  # a longer history takes several calls: ChainBehind
DEPOSITS_CACHED_MAX = 16_384  # older ones are read from the chain again
DEPOSITS_VIEW_MAX = 1_000  # per answer; the rest waits for the next call
MARK_EVERY_DEPOSITS = 64
MARKS_MAX = 65_536  # beyond, every second one is dropped

_DEPOSIT_TOPIC = "0x" + keccak(b"Deposit(uint256,address,uint256,uint256,bytes32)").hex()
_HEAD_SELECTOR = "0x" + keccak(b"deposit_head()")[:4].hex()
_ACCUMULATOR_SELECTOR = "0x" + keccak(b"accumulator_at(uint256)")[:4].hex()


class ChainDeposit(msgspec.Struct, frozen=True):
    """Deposit number `index` (from 0); `accumulator` is the running hash that includes it."""

    index: int
    account: bytes
    token: int
    units: int
    accumulator: bytes


class ChainView(msgspec.Struct, frozen=True):
    """What the vault held at one block: `count` deposits, and some of them."""

    number: int
    hash: bytes
    count: int
    accumulator: bytes
    deposits: list[ChainDeposit]


class _Block(msgspec.Struct, frozen=True):
    number: str
    hash: str


class _Log(msgspec.Struct, frozen=True):
    block_number: str = msgspec.field(name="blockNumber")
    topics: list[str]
    data: str
    removed: bool = False


class BlockId(msgspec.Struct, frozen=True):
    """A block of the EVM chain."""

    number: int
    hash: bytes


class RpcRefused(Exception):
    """An error object came back."""


class DepositLedger:
    """All deposits of one vault up to the newest block that is deep enough."""

    def __init__(self, web3: Web3, vault: str, first_block: int, confirmations: int) -> None:
        self._web3 = web3
        self._vault = vault
        self._first_block = first_block
        self._confirmations = confirmations
        self._lock = threading.Lock()
        self._span = LOG_SPAN_BLOCKS_MAX
        self._head: BlockId | None
        self._pinned: BlockId
        self._scanned: int
        self._count: int
        self._accumulator: bytes
        self._cached: list[ChainDeposit]
        self._marks: list[tuple[int, int]]  # (index, its block), ascending
        self.refreshes = 0
        self.resets = 0
        self._forget()

    @property
    def count(self) -> int:
        """Deposits read so far."""
        return self._count

    @property
    def head_number(self) -> int | None:
        """The newest block seen, None before the first refresh."""
        return self._head.number if self._head else None

    def head(self) -> BlockId:
        """The chain's newest block; one call."""
        try:
            return self._block("latest")
        except RpcRefused as fault:
            raise ChainContradiction(f"the endpoint refused: {fault}") from None

    def view(self, from_index: int, limit: int) -> ChainView:
        """Deposits `from_index`, ... (at most `limit`) at the newest block deep enough.

        Errors: `ChainBehind`, `ChainContradiction`, and what the endpoints raise.
        """
        if from_index < 0 or limit < 0:
            raise ValueError("an index or a limit below zero")
        limit = min(limit, DEPOSITS_VIEW_MAX)
        with self._lock:
            try:
                self._refresh()
                if from_index >= self._cached_from:
                    start = from_index - self._cached_from
                    deposits = self._cached[start : start + limit]
                else:
                    deposits = self._read_again(from_index, limit) if limit else []
            except RpcRefused as fault:
                raise ChainContradiction(f"the endpoint refused: {fault}") from None
            pinned = self._pinned
            return ChainView(pinned.number, pinned.hash, self._count, self._accumulator, deposits)

    # refreshing

    def _refresh(self) -> None:
        self.refreshes += 1
        head = self._block("latest")
        if head == self._head:
            return
        number = max(0, head.number - self._confirmations)
        pinned = head if number == head.number else self._block(hex(number))
        if pinned != self._pinned:
            self._advance(pinned)
        self._head = head

    def _advance(self, pinned: BlockId) -> None:
        count, accumulator = self._contract_head(pinned)
        if (count, accumulator) != (self._count, self._accumulator):
            if count <= self._count or pinned.number <= self._scanned:
                self._reset()  # a reorganisation took deposits back
            self._scan(pinned.number, count)
            if (count, accumulator) != (self._count, self._accumulator):
                found = self._count
                self._reset()
                raise ChainContradiction(f"{found} in the logs, {count} in the vault")
        self._scanned = pinned.number
        self._pinned = pinned

    def _reset(self) -> None:
        log.warning("deposits_reset", count=self._count, scanned=self._scanned)
        self.resets += 1
        self._forget()

    def _forget(self) -> None:
        self._head = None
        self._pinned = BlockId(-1, b"")
        self._scanned = self._first_block - 1
        self._count = 0
        self._accumulator = EMPTY_ACCUMULATOR
        self._cached = []
        self._cached_from = 0
        self._marks = []

    def _scan(self, last: int, count: int) -> None:
        for _ in range(SPANS_PER_CALL_MAX):
            if self._scanned >= last or self._count >= count:
                return
            end = min(self._scanned + self._span, last)
            end, deposits = self._logs(self._scanned + 1, end)
            for block, deposit in deposits:
                try:
                    _check_follows(deposit, self._count, self._accumulator)
                except ChainContradiction:
                    self._reset()
                    raise
                self._append(deposit, block)
            self._scanned = end
        if self._scanned < last and self._count < count:
            raise ChainBehind(self._scanned, last)

    def _append(self, deposit: ChainDeposit, block: int) -> None:
        if not self._marks or deposit.index >= self._marks[-1][0] + MARK_EVERY_DEPOSITS:
            self._marks.append((deposit.index, block))
            if len(self._marks) > MARKS_MAX:
                del self._marks[1::2]
        self._cached.append(deposit)
        self._count += 1
        self._accumulator = deposit.accumulator
        if len(self._cached) > DEPOSITS_CACHED_MAX + DEPOSITS_VIEW_MAX:
            # In large steps, because each one copies the list.
            del self._cached[:DEPOSITS_VIEW_MAX]
            self._cached_from += DEPOSITS_VIEW_MAX

    def _read_again(self, from_index: int, limit: int) -> list[ChainDeposit]:
        place = bisect_right(self._marks, from_index, key=lambda mark: mark[0]) - 1
        next_block = self._marks[place][1]
        wanted = range(from_index, min(from_index + limit, self._count))
        found: list[ChainDeposit] = []
        for _ in range(SPANS_PER_CALL_MAX):
            if len(found) == len(wanted) or next_block > self._pinned.number:
                break
            end = min(next_block + self._span - 1, self._pinned.number)
            end, deposits = self._logs(next_block, end)
            for _block, deposit in deposits:
                if deposit.index in wanted:
                    if found:
                        _check_follows(deposit, found[-1].index + 1, found[-1].accumulator)
                    found.append(deposit)
            next_block = end + 1
        if not found or found[0].index != from_index:
            raise ChainContradiction(f"deposit {from_index} is not in the logs")
        if self._accumulator_at(found[-1].index + 1) != found[-1].accumulator:
            raise ChainContradiction("old deposits differ from those in the vault")
        return found

    # asking

    def _block(self, name: str) -> BlockId:
        block = self._ask("eth_getBlockByNumber", [name, False], _Block)
        return BlockId(_integer(block.number), _bytes(block.hash, 32))

    def _contract_head(self, pinned: BlockId) -> tuple[int, bytes]:
        if pinned.number < self._first_block:
            return 0, EMPTY_ACCUMULATOR  # deep enough is still before the vault was made
        answer = _bytes(self._call(_HEAD_SELECTOR, pinned), 64)
        return int.from_bytes(answer[:32], "big"), answer[32:]

    def _accumulator_at(self, count: int) -> bytes:
        data = _ACCUMULATOR_SELECTOR + count.to_bytes(32, "big").hex()
        return _bytes(self._call(data, self._pinned), 32)

    def _call(self, data: str, pinned: BlockId) -> str:
        # By hash, so that the answer cannot come from another fork (EIP-1898).
        at = {"blockHash": "0x" + pinned.hash.hex()}
        answer: str = self._ask("eth_call", [{"to": self._vault, "data": data}, at], str)
        return answer

    def _logs(self, first: int, last: int) -> tuple[int, list[tuple[int, ChainDeposit]]]:
        """The last block read, at most `last`, and the deposits from block `first` up to it."""
        while True:
            last = min(last, first + self._span - 1)
            where = {
                "address": self._vault,
                "topics": [_DEPOSIT_TOPIC],
                "fromBlock": hex(first),
                "toBlock": hex(last),
            }
            try:
                logs = self._ask("eth_getLogs", [where], list[_Log])
            except RpcRefused as fault:
                if self._span == 1:
                    raise ChainContradiction(f"the endpoint keeps no logs: {fault}") from None
                self._span //= 2
                continue
            return last, [(_integer(log.block_number), _deposit(log)) for log in logs]

    def _ask(self, method: str, params: list[Any], shape: type[Any]) -> Any:
        answer = self._web3.provider.make_request(RPCEndpoint(method), params)
        if answer.get("error"):
            raise RpcRefused(answer["error"]["message"])
        try:
            return msgspec.convert(answer.get("result"), shape)
        except msgspec.ValidationError as fault:
            raise ChainContradiction(f"{method} answered nonsense ({fault})") from None


def _check_follows(deposit: ChainDeposit, index: int, accumulator: bytes) -> None:
    if deposit.index != index:
        raise ChainContradiction(f"deposit {deposit.index} where {index} was expected")
    expected = deposit_accumulator(
        accumulator, index, deposit.account, deposit.token, deposit.units
    )
    if deposit.accumulator != expected:
        raise ChainContradiction(f"the running hash of deposit {index} is wrong")


def _deposit(entry: _Log) -> ChainDeposit:
    data = _bytes(entry.data, 96)
    if len(entry.topics) != 3 or entry.topics[0] != _DEPOSIT_TOPIC or entry.removed:
        raise ChainContradiction("a log that is no deposit")
    units = int.from_bytes(data[32:64], "big")
    if not 0 < units <= AMOUNT_MAX:
        raise ChainContradiction(f"a deposit of {units} units")
    return ChainDeposit(
        int.from_bytes(_bytes(entry.topics[1], 32), "big"),
        _bytes(entry.topics[2], 32)[12:],
        int.from_bytes(data[:32], "big"),
        units,
        data[64:],
    )


def _integer(value: str) -> int:
    try:
        return int(value, 16)
    except ValueError:
        raise ChainContradiction("a number that is none") from None


def _bytes(value: str, size: int) -> bytes:
    try:
        found = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        found = b""
    if len(found) != size:
        raise ChainContradiction(f"{size} bytes expected")
    return found
