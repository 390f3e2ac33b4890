"""What committed blocks do: executed in order, rows made of them, storage replayed. No waiting.

    execution = Execution(exchange, domain, on_result=...)
    execution.replay(index)                          # after a restart
    wires, verdicts = gather(mempool, commit.batch, fetched, domain)
    done = execution.execute(commit.block, wires, verdicts)
    index.record_block(done.record)

Whoever calls this brings the envelopes; `missing` tells which ones to fetch first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from consensus import Block, decode_block
from exchange import (
    Admitted,
    BlockInput,
    BlockResult,
    Exchange,
    Observation,
    Refused,
    judge,
)
from node.batch import Batch, decode_batch
from node.faults import StorageMismatch
from node.mempool import Mempool
from node.recording import chain_record, stored_wires
from primitives import codec
from primitives.eip712 import Domain
from primitives.faults import RemoteFault
from storage import BlockRow, ChainRecord, Index

log = structlog.get_logger(__name__)

CHECKPOINT_HEIGHTS = 10  # every so many heights, and where a rollup block is cut, roots are signed
OBSERVATION_BYTES_MAX = 16_384
REPLAY_BLOCKS_PER_READ = 256

Verdicts = tuple[Admitted | Refused, ...]


def _nothing(_block: Block) -> None:
    """Nobody wants to hear."""


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """What one block did, and everything that the index keeps of it."""

    result: BlockResult
    record: ChainRecord
    is_checkpoint: bool


class Execution:
    """The exchange of one node and how far it has come; an exchange has one of these."""

    def __init__(
        self,
        exchange: Exchange,
        domain: Domain,
        *,
        on_result: Callable[[BlockResult], None],
    ) -> None:
        """`on_result` hears of every block at once, replayed ones included."""
        self.exchange = exchange
        self.height = 0
        self.time_ms = 0
        self.transactions = 0
        self.events = 0
        self.observations_refused = 0
        self._domain = domain
        self._network = domain.network
        self._on_result = on_result
        self._previous: bytes | None = None

    def replay(self, index: Index, on_block: Callable[[Block], None] = _nothing) -> int:
        """Execute everything that storage holds again; the number of blocks.

        `on_block` hears of each of them.
        Errors: `StorageMismatch` when the result is not what was recorded.
        """
        count = 0
        while True:
            first = self.height + 1
            last = self.height + REPLAY_BLOCKS_PER_READ
            rows = index.heights(first, last, REPLAY_BLOCKS_PER_READ)
            if not rows:
                return count
            wires = stored_wires(index, rows[0].height, len(rows), batches=False)
            batches = stored_wires(index, rows[0].height, len(rows), batches=True)
            for row, wire, data in zip(rows, wires, batches, strict=True):
                block = decode_block(wire, self._network)
                self._replay_one(row, block, data)
                on_block(block)
                count += 1

    def _replay_one(self, row: BlockRow, block: Block, data: bytes) -> None:
        """The root binds the batch: other envelopes, or another order, give another one."""
        batch = decode_batch(data, self._network)
        verdicts = tuple(judge(item, self._domain) for item in batch.envelopes)
        result = self._apply(block, verdicts)
        if result.root != row.root:
            raise StorageMismatch(f"height {row.height} gives another root than recorded")
        self._previous = row.batch

    def execute(self, block: Block, wires: tuple[bytes, ...], verdicts: Verdicts) -> ExecutedBlock:
        """Execute the next block with its batch: envelopes in order, and verdicts on them."""
        result = self._apply(block, verdicts)
        batch = Batch(block.height, block.cid, self._previous, result.root, wires)
        record = chain_record(block, batch, self._network, verdicts, result)
        self._previous = record.block.batch
        signed = block.height % CHECKPOINT_HEIGHTS == 0 or result.rollup is not None
        return ExecutedBlock(result, record, signed)

    def _apply(self, block: Block, verdicts: Verdicts) -> BlockResult:
        observations = []
        for link in block.links:
            observation = self._observation(link.observation)
            if observation is not None:
                observations.append((link.author, observation))
        result = self.exchange.apply(
            BlockInput(block.height, block.time_ms, verdicts, tuple(observations))
        )
        self.height, self.time_ms = block.height, block.time_ms
        self.transactions += len(verdicts)
        self.events += len(result.events)
        self._on_result(result)
        return result

    def _observation(self, data: bytes) -> Observation | None:
        """What a validator reported of the chain; a malformed report counts as none."""
        if not data:
            return None
        try:
            return codec.decode(Observation, data, bytes_max=OBSERVATION_BYTES_MAX)
        except RemoteFault as fault:
            self.observations_refused += 1
            log.warning("observation_refused", code=fault.code, reason=fault.sentence)
            return None


def missing(mempool: Mempool, ids: Sequence[bytes]) -> set[bytes]:
    """The envelopes of a batch that are not at hand and must be fetched."""
    return {name for name in ids if name not in mempool}


def gather(
    mempool: Mempool, ids: Sequence[bytes], fetched: Mapping[bytes, bytes], domain: Domain
) -> tuple[tuple[bytes, ...], Verdicts]:
    """Bytes and verdicts of a batch; `fetched` holds at least what is `missing`."""
    wires, verdicts = [], []
    for name in ids:
        held = mempool.get(name)
        if held is not None:
            wires.append(held.wire)
            verdicts.append(held.verdict)
        else:
            wires.append(fetched[name])
            verdicts.append(judge(fetched[name], domain))
    return tuple(wires), tuple(verdicts)
