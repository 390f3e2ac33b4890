"""Executes what was agreed: committed blocks in order, through the exchange, into storage.

A block's envelopes are taken from the mempool, or fetched from whoever executed them before.
After execution the block, its batch and all that it did are recorded in one transaction; then
subscribers hear of it and the replica gets the state root to sign. What a block does is in
`node.execution`; here is the waiting.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from consensus import Block, Commit, Executed
from exchange import BlockResult, Exchange, Rollup
from node.driver import Driver
from node.execution import Execution, Verdicts, gather, missing
from node.feed import BlockUpdate, Feed
from node.mempool import Mempool
from primitives.eip712 import Domain
from storage import Index

FetchBatch = Callable[[int, set[bytes]], Awaitable[dict[bytes, bytes]]]


@dataclass(frozen=True)
class LedgerStatistics:
    """Work done since start, replayed blocks included."""

    height: int
    time_ms: int
    transactions: int
    events: int
    fetched: int
    observations_refused: int


class Ledger:
    """The exchange of one node and what it has executed."""

    def __init__(
        self,
        exchange: Exchange,
        index: Index,
        mempool: Mempool,
        feed: Feed,
        domain: Domain,
        *,
        on_rollup: Callable[[Rollup, bytes], None],
        on_keys: Callable[[set[tuple[bytes, bytes]]], Awaitable[None]],
    ) -> None:
        self.exchange = exchange
        self._execution = Execution(exchange, domain, on_result=self._on_result)
        self._index = index
        self._mempool = mempool
        self._feed = feed
        self._domain = domain
        self._on_rollup = on_rollup
        self._on_keys = on_keys
        self._thread = trio.CapacityLimiter(1)
        self._fetched = 0
        self.driver: Driver | None = None
        self.fetch: FetchBatch | None = None

    @property
    def height(self) -> int:
        """The newest executed height; 0 before the first."""
        return self._execution.height

    @property
    def time_ms(self) -> int:
        """The block time at `height`."""
        return self._execution.time_ms

    def replay(self, on_block: Callable[[Block], None]) -> int:
        """Execute everything that storage holds again; the number of blocks.

        `on_block` hears of each of them.
        Errors: `StorageMismatch` when the result is not what was recorded.
        """
        return self._execution.replay(self._index, on_block)

    def _on_result(self, result: BlockResult) -> None:
        if result.rollup is not None:
            self._on_rollup(result.rollup, result.root)

    async def run(self, commits: trio.MemoryReceiveChannel[Commit]) -> None:
        """Execute commits in order until cancelled."""
        async for commit in commits:
            await self._take(commit)

    async def _take(self, commit: Commit) -> None:
        block = commit.block
        wires, verdicts = await self._envelopes(block.height, commit.batch)
        done = self._execution.execute(block, wires, verdicts)
        record = done.record
        await trio.to_thread.run_sync(self._index.record_block, record, limiter=self._thread)
        finished = self._mempool.executed(commit.batch, block.height)
        update = BlockUpdate(block.height, block.cid, block.time_ms, done.result, commit.batch)
        self._feed.publish(update)
        changed = {(row.account, row.key) for row in record.keys}
        if changed:
            await self._on_keys(changed)
        if self.driver is not None:
            self.driver.envelopes_finished(finished)
            self.driver.post(Executed(block.height, done.result.root, done.is_checkpoint))

    async def _envelopes(
        self, height: int, ids: tuple[bytes, ...]
    ) -> tuple[tuple[bytes, ...], Verdicts]:
        """Bytes and verdicts of a batch, fetched where they are not at hand."""
        wanted = missing(self._mempool, ids)
        fetched: dict[bytes, bytes] = {}
        if wanted and self.fetch is not None:
            fetched = await self.fetch(height, wanted)
            self._fetched += len(fetched)
        return gather(self._mempool, ids, fetched, self._domain)

    def statistics(self) -> LedgerStatistics:
        execution = self._execution
        return LedgerStatistics(
            execution.height,
            execution.time_ms,
            execution.transactions,
            execution.events,
            self._fetched,
            execution.observations_refused,
        )
