"""Executes what was agreed: committed blocks in order, through the exchange, into storage.

A block's envelopes are taken from the mempool, or fetched from whoever executed them before.
After execution the block, its batch and all that it did are recorded in one transaction; then
subscribers hear of it and the replica gets the state root to sign.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio

from consensus import Block, Commit, Executed
from exchange import (
    Admitted,
    BlockInput,
    BlockResult,
    Exchange,
    Observation,
    Refused,
    Rollup,
    judge,
)
from node.batch import Batch, decode_batch
from node.driver import Driver
from node.faults import StorageMismatch
from node.feed import BlockUpdate, Feed
from node.mempool import Mempool
from node.recording import chain_record, stored_wires
from primitives import codec
from primitives.eip712 import Domain
from primitives.faults import RemoteFault
from storage import Index

log = structlog.get_logger(__name__)

CHECKPOINT_HEIGHTS = 10  # every so many heights, and where a rollup block is cut, roots are signed
OBSERVATION_BYTES_MAX = 16_384
REPLAY_BLOCKS_PER_READ = 256

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
        self._index = index
        self._mempool = mempool
        self._feed = feed
        self._domain = domain
        self._network = domain.network
        self._on_rollup = on_rollup
        self._on_keys = on_keys
        self._previous: bytes | None = None
        self._thread = trio.CapacityLimiter(1)
        self.height = 0
        self.time_ms = 0
        self._counts = dict.fromkeys(("transactions", "events", "fetched", "refused"), 0)
        self.driver: Driver | None = None
        self.fetch: FetchBatch | None = None

    # After a restart

    def replay(self, replay_block: Callable[[bytes], Commit]) -> int:
        """Execute everything that storage holds again; the number of blocks.

        `replay_block` takes a block's bytes and gives its batch (`Replica.replay`).
        Errors: `StorageMismatch` when the result is not what was recorded.
        """
        count = 0
        while True:
            rows = self._index.heights(
                self.height + 1, self.height + REPLAY_BLOCKS_PER_READ, REPLAY_BLOCKS_PER_READ
            )
            if not rows:
                return count
            wires = stored_wires(self._index, rows[0].height, len(rows), batches=False)
            batches = stored_wires(self._index, rows[0].height, len(rows), batches=True)
            for row, wire, data in zip(rows, wires, batches, strict=True):
                commit = replay_block(wire)
                batch = decode_batch(data, self._network)
                verdicts = tuple(judge(item, self._domain) for item in batch.envelopes)
                if tuple(item.id for item in verdicts) != commit.batch:
                    raise StorageMismatch(f"the batch stored at height {row.height} is another")
                result = self._execute(commit.block, verdicts)
                if result.root != row.root:
                    raise StorageMismatch(f"height {row.height} gives another root than recorded")
                self._previous = row.batch
                count += 1

    # Running

    async def run(self, commits: trio.MemoryReceiveChannel[Commit]) -> None:
        """Execute commits in order until cancelled."""
        async for commit in commits:
            await self._take(commit)

    async def _take(self, commit: Commit) -> None:
        block = commit.block
        wires, verdicts = await self._envelopes(block.height, commit.batch)
        result = self._execute(block, verdicts)
        batch = Batch(block.height, block.cid, self._previous, result.root, wires)
        record = chain_record(block, batch, self._network, verdicts, result)
        await trio.to_thread.run_sync(self._index.record_block, record, limiter=self._thread)
        self._previous = record.block.batch
        finished = self._mempool.executed(commit.batch, block.height)
        update = BlockUpdate(block.height, block.cid, block.time_ms, result, commit.batch)
        self._feed.publish(update)
        changed = {(row.account, row.key) for row in record.keys}
        if changed:
            await self._on_keys(changed)
        if self.driver is not None:
            self.driver.envelopes_finished(finished)
            signed = block.height % CHECKPOINT_HEIGHTS == 0 or result.rollup is not None
            self.driver.post(Executed(block.height, result.root, signed))

    def _execute(self, block: Block, verdicts: tuple[Admitted | Refused, ...]) -> BlockResult:
        observations = []
        for link in block.links:
            observation = self._observation(link.observation)
            if observation is not None:
                observations.append((link.author, observation))
        result = self.exchange.apply(
            BlockInput(block.height, block.time_ms, verdicts, tuple(observations))
        )
        self.height, self.time_ms = block.height, block.time_ms
        self._counts["transactions"] += len(verdicts)
        self._counts["events"] += len(result.events)
        if result.rollup is not None:
            self._on_rollup(result.rollup, result.root)
        return result

    def _observation(self, data: bytes) -> Observation | None:
        """What a validator reported of the chain; a malformed report counts as none."""
        if not data:
            return None
        try:
            return codec.decode(Observation, data, bytes_max=OBSERVATION_BYTES_MAX)
        except RemoteFault as fault:
            self._counts["refused"] += 1
            log.warning("observation_refused", code=fault.code, reason=fault.sentence)
            return None

    async def _envelopes(
        self, height: int, ids: tuple[bytes, ...]
    ) -> tuple[tuple[bytes, ...], tuple[Admitted | Refused, ...]]:
        """Bytes and verdicts of a batch, fetched where they are not at hand."""
        missing = {name for name in ids if name not in self._mempool}
        fetched: dict[bytes, bytes] = {}
        if missing and self.fetch is not None:
            fetched = await self.fetch(height, missing)
            self._counts["fetched"] += len(fetched)
        wires, verdicts = [], []
        for name in ids:
            held = self._mempool.get(name)
            if held is not None:
                wires.append(held.wire)
                verdicts.append(held.verdict)
            else:
                wires.append(fetched[name])
                verdicts.append(judge(fetched[name], self._domain))
        return tuple(wires), tuple(verdicts)

    def statistics(self) -> LedgerStatistics:
        counts = self._counts
        return LedgerStatistics(
            self.height,
            self.time_ms,
            counts["transactions"],
            counts["events"],
            counts["fetched"],
            counts["refused"],
        )
