"""A whole validator without network and clock: journal, index, exchange, mempool and replica.

What `node.node` introduces to each other is introduced here in the same order, with the pure
halves of its driver and ledger (`node.flush`, `node.execution`) and a disk that may fail. Left out
are the API, chat, and the EVM chain: deposits are a list that every validator observes alike.

Execution follows agreement by one step: what a flush committed is recorded when the next step
begins, so that a crash between finds the journal ahead of the index, as in a real node.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache

import apsw

from consensus import (
    RESUME_KINDS,
    SENDERS_FAULTS,
    Block,
    ChainArrived,
    CheckpointReached,
    Commit,
    Effect,
    EnvelopesSeen,
    Event,
    Executed,
    FetchEnvelopes,
    Genesis,
    Identity,
    Observed,
    Persist,
    Received,
    Replica,
    Signer,
    Tick,
    Timing,
    WatchEnded,
    decode_block,
)
from devnet.simulation.disk import SYNC_MS, Disk, Fate
from devnet.simulation.full_audit import imbalance
from devnet.simulation.full_files import INDEX_PATH, OpenJournal, open_journal
from devnet.simulation.full_process import FullProcess
from devnet.simulation.node import DiskFault, History, Outgoing, ProcessEnded
from exchange import (
    Deposit,
    Exchange,
    Observation,
    Rollup,
    admit,
    envelope_id,
    judge,
)
from exchange.network import NetworkGenesis
from node.anchor import DEPOSITS_PER_VIEW_ITEMS_MAX, HEARTBEAT_MS
from node.batch import decode_batch
from node.driver import EVENTS_PER_FLUSH_MAX
from node.execution import Execution, gather, missing
from node.flush import ENVELOPE_KIND, perform
from node.intake import REPEATED_ITEMS_MAX
from node.recording import stored_wires
from node.recovery import HEIGHTS_PER_READ, recover_replica
from node.wire import CHAIN_BLOCKS_ITEMS_MAX
from primitives import codec
from primitives.faults import RemoteFault
from storage import DiskFull, Index
from storage.faults import StorageUnusable

FETCH_PAUSE_MS = 250  # execution asks again for missing envelopes after this
WANTED_ITEMS_MAX = 4_096  # ids asked for and not arrived; beyond, the oldest are forgotten
VERDICTS_ITEMS_MAX = 4_096  # verdicts remembered by all nodes together; the least used goes
_KINDS = (*RESUME_KINDS, ENVELOPE_KIND)

# Verdicts are pure functions of the bytes: what one node computed, the others need not.
_admit = lru_cache(VERDICTS_ITEMS_MAX)(admit)
_judge = lru_cache(VERDICTS_ITEMS_MAX)(judge)


@dataclass(frozen=True)
class FullGenesis:
    """What all validators of a simulated network know beforehand.

    `agreed` is what the replica starts from, `network` the whole document; `deposits` are those
    that the chain holds, in order, with their running hash.
    """

    agreed: Genesis
    network: NetworkGenesis
    deposits: Sequence[Deposit]


class FullNode:
    """Validator `index`; fulfils `SimulatedNode` and `FaultyDisk`. The disk outlives crashes.

    `image` are the files that it begins with (`empty_image`); without, the first start makes
    them. `journal` opens the vote journal, for tests with one that is broken.
    """

    def __init__(
        self,
        index: int,
        genesis: FullGenesis,
        key: Signer,
        timing: Timing,
        rng: random.Random,
        *,
        image: Mapping[str, bytes] | None = None,
        journal: OpenJournal = open_journal,
    ) -> None:
        self.index = index
        self.replica: Replica | None = None
        self.disk = Disk(rng, image)
        self._genesis = genesis
        self._domain = genesis.network.domain()
        self._network = self._domain.network
        self._key = key
        self._timing = timing
        self._open_journal = journal
        self._process: FullProcess | None = None
        self._execution: Execution | None = None
        self._fault = DiskFault("none")
        self._done: list[tuple[bytes, tuple[bytes, ...], bytes]] = []
        self._checkpoints: dict[int, bytes] = {}
        self._audited: tuple[int, str] = (-1, "")

    # The process

    def start(self, now_ms: int) -> Outgoing:
        """As `SimulatedNode.start`. Errors: also what a real node would stop with."""
        self.disk.power_on()
        with self._ending():
            process = self._open()
            self._process = process
            identity = Identity(self._key, self.index)
            held = process.mempool.__contains__
            replica = Replica(self._genesis.agreed, identity, held, self._timing)
            entries = {kind: process.journal.read(kind) for kind in _KINDS}
            recover_replica(replica, process.index, entries)
            self._replay(process)
            watch = process.journal.watch
            effects = replica.resume(entries, now_ms, watch=watch)
            self.replica = replica
            self._keep(process.pending.resume(entries[ENVELOPE_KIND]), judged=True)
            self._repeat_uncertified(process, replica)
            return self._flush(effects)

    def _open(self) -> FullProcess:
        """Index first, then the journal: who has blocks and no journal has signed before."""
        network = self._network
        index = Index.open(INDEX_PATH, network, medium=self.disk)
        try:
            signed = index.newest() is not None
            journal = self._open_journal(self.disk, self._key.public, network, signed)
            index.blocks.put(self._genesis.agreed.cid, self._genesis.network.block())
        except BaseException:
            with suppress(apsw.Error):
                index.close()
            raise
        return FullProcess(index, journal, Exchange(self._genesis.network.exchange, network))

    def _replay(self, process: FullProcess) -> None:
        """Execute what storage holds; the history begins anew from it."""
        self._done.clear()

        def on_block(block: Block) -> None:
            if block.checkpoint is not None:
                self._checkpoints[block.checkpoint.height] = block.checkpoint.root

        self._execution = Execution(process.exchange, self._domain, on_result=process.on_result)
        count = self._execution.replay(process.index, on_block)
        for first in range(1, count + 1, HEIGHTS_PER_READ):
            last = min(count, first + HEIGHTS_PER_READ - 1)
            batches: dict[int, list[bytes]] = {}
            for height, name in process.index.sequenced(first, last):
                batches.setdefault(height, []).append(name)
            for row in process.index.heights(first, last, HEIGHTS_PER_READ):
                self._done.append((row.block, tuple(batches.get(row.height, ())), row.root))

    def _repeat_uncertified(self, process: FullProcess, replica: Replica) -> None:
        """Sign again what a rollup block needs and no certificate covers."""
        newest = replica.newest_checkpoint
        certified = 0 if newest is None else newest.height
        for rollup, root in process.rollups:
            if rollup.height > certified:
                self.post(Executed(rollup.height, root, True))

    def crash(self) -> None:
        """The power fails."""
        self.disk.cut()
        self._end()

    def stop(self) -> None:
        """The process is killed; the machine and what it was told to write live on."""
        self.disk.cut(Fate.KEPT)
        self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        self.replica = self._execution = None
        if process is not None:
            for opened in (process.journal, process.index):
                with suppress(apsw.Error):
                    opened.close()

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """A disk that fails ends the process; everything else that goes wrong is a finding."""
        try:
            yield
        except (StorageUnusable, DiskFull, apsw.Error) as fault:
            meant = self.disk.is_cut or self._fault.kind == "full" or self.disk.failed_syncs > 0
            if not meant:
                raise
            self.disk.cut(Fate.KEPT)
            self._end()
            raise ProcessEnded(f"the disk: {fault}") from None

    # What comes in

    def post(self, event: Event) -> None:
        if self._process is not None:
            self._process.inbox.append(event)

    def submit(self, wires: list[bytes]) -> None:
        """Envelopes from anybody. One that was asked for by id may be wrong: a batch holds it."""
        process = self._process
        if process is None or process.mempool.is_full:
            return
        fresh = []
        for wire in wires:
            name = envelope_id(wire, self._network)
            if name in process.wanted:
                del process.wanted[name]
                self._keep([wire], judged=True)
            elif name not in process.mempool:
                fresh.append(wire)
        process.push += self._keep(fresh, judged=False)

    def _keep(self, wires: list[bytes], *, judged: bool) -> list[bytes]:
        """Verify envelopes, hold them, and have them journaled and reported; those kept."""
        process = self._process
        if process is None:
            return []
        height = 0 if self._execution is None else self._execution.height
        arrived, kept = [], []
        for wire in wires:
            try:
                verdict = _judge(wire, self._domain) if judged else _admit(wire, self._domain)
            except RemoteFault:
                continue
            if process.mempool.add(wire, verdict, height):
                arrived.append((verdict.id, wire))
                kept.append(wire)
        if arrived:
            process.pending.arrived(arrived)
            self.post(EnvelopesSeen(tuple(name for name, _ in arrived)))
        return kept

    # Steps

    def step(self, now_ms: int) -> Outgoing:
        """As `SimulatedNode.step`; nothing happens while the process is down."""
        process, replica = self._process, self.replica
        if process is None or replica is None:
            return Outgoing()
        with self._ending():
            effects: list[Effect] = self._execute(process, now_ms)
            self._observe(process, now_ms)
            for _ in range(min(len(process.inbox), EVENTS_PER_FLUSH_MAX)):
                effects += _handle(replica, process.inbox.popleft(), now_ms)
            effects += _handle(replica, Tick(), now_ms)
            return self._flush(effects)

    def wake_ms(self) -> int:
        process, replica = self._process, self.replica
        if process is None or replica is None:
            return 2**62
        if process.inbox or process.pending.is_urgent:
            return 0
        wake = replica.wake_ms()
        if process.commits:
            wake = 0 if process.asked_ms is None else min(wake, process.asked_ms + FETCH_PAUSE_MS)
        if process.exchange.deposits.next_index < len(self._genesis.deposits):
            reported = process.reported_ms
            wake = 0 if reported is None else min(wake, reported + HEARTBEAT_MS)
        return wake

    def _flush(self, effects: list[Effect]) -> Outgoing:
        """One group commit, then what may leave after it."""
        process = self._process
        if process is None:
            return Outgoing()
        for write in process.pending.take(effects):
            perform(process.journal, write)
            if self._fault.kind == "behind":
                self.disk.cut()
                raise apsw.IOError("the power fails behind the journal's write")
        leaving: list[Effect] = []
        for effect in effects:
            match effect:
                case Commit():
                    process.commits.append(effect)
                case CheckpointReached(certificate):
                    self._checkpoints[certificate.height] = certificate.root
                case Persist():
                    pass
                case WatchEnded():
                    process.journal.end_watch()
                case FetchEnvelopes(ids):
                    self._want(process, ids)
                    leaving.append(effect)
                case _:
                    leaving.append(effect)
        push, process.push = process.push, []
        return Outgoing(tuple(leaving), tuple(push), self.disk.take_spent_ms())

    def _want(self, process: FullProcess, ids: Sequence[bytes]) -> None:
        process.wanted.update(dict.fromkeys(ids))
        while len(process.wanted) > WANTED_ITEMS_MAX:
            del process.wanted[next(iter(process.wanted))]

    def _observe(self, process: FullProcess, now_ms: int) -> None:
        """Report deposits that are not credited yet: new ones at once, all again at times."""
        start = process.exchange.deposits.next_index
        fresh = self._genesis.deposits[start : start + DEPOSITS_PER_VIEW_ITEMS_MAX]
        if not fresh:
            return
        due = process.reported_ms is None or now_ms >= process.reported_ms + HEARTBEAT_MS
        if not due and start + len(fresh) <= process.reported:
            return
        count, last = len(self._genesis.deposits), self._genesis.deposits[-1]
        observation = Observation(count, bytes(32), count, last.accumulator, list(fresh))
        self.post(Observed(codec.encode(observation)))
        process.reported, process.reported_ms = start + len(fresh), now_ms

    # Execution

    def _execute(self, process: FullProcess, now_ms: int) -> list[Effect]:
        """Execute and record committed blocks in order; asks for envelopes that are missing."""
        while process.commits:
            commit = process.commits[0]
            wanted = missing(process.mempool, commit.batch)
            if wanted:
                return self._ask(process, [n for n in commit.batch if n in wanted], now_ms)
            process.commits.popleft()
            self._record(process, commit)
            process.asked_ms = None
        return []

    def _ask(self, process: FullProcess, wanted: list[bytes], now_ms: int) -> list[Effect]:
        if process.asked_ms is not None and now_ms < process.asked_ms + FETCH_PAUSE_MS:
            return []
        process.asked_ms = now_ms
        members = range(len(self._genesis.agreed.committee))
        return [FetchEnvelopes(tuple(wanted), tuple(i for i in members if i != self.index))]

    def _record(self, process: FullProcess, commit: Commit) -> None:
        if self._execution is None:
            return
        block = commit.block
        wires, verdicts = gather(process.mempool, commit.batch, {}, self._domain)
        done = self._execution.execute(block, wires, verdicts)
        process.index.record_block(done.record)
        self._done.append((block.cid, commit.batch, done.result.root))
        process.pending.finished(process.mempool.executed(commit.batch, block.height))
        self.post(Executed(block.height, done.result.root, done.is_checkpoint))

    # The disk

    def disk_fault(self, fault: DiskFault) -> None:
        """As `FaultyDisk.disk_fault`, on the journal's and the index' real writes."""
        self._fault = fault
        self.disk.spare()
        match fault.kind:
            case "lost":
                self.disk.cut_in_sync(Fate.LOST)
            case "torn":
                self.disk.cut_in_sync(Fate.PREFIX, fault.amount)
            case "slow":
                self.disk.sync_ms = (SYNC_MS[0] + fault.amount, SYNC_MS[1] + fault.amount)
            case "full":
                self.disk.fill()
            case "behind" | "none":
                pass

    # For peers and checks

    def chain_above(self, height: int) -> ChainArrived | None:
        process, replica = self._process, self.replica
        if process is None or replica is None:
            return None
        stored = stored_wires(process.index, height + 1, CHAIN_BLOCKS_ITEMS_MAX + 1, batches=False)
        tail, high_qc = replica.tail(height + len(stored))
        if len(stored) > CHAIN_BLOCKS_ITEMS_MAX:
            tail = []
        blocks = stored + tail
        if len(blocks) > CHAIN_BLOCKS_ITEMS_MAX:
            # The next block carries the certificate of the last one that fits.
            following = decode_block(blocks[CHAIN_BLOCKS_ITEMS_MAX], self._network)
            return ChainArrived(tuple(blocks[:CHAIN_BLOCKS_ITEMS_MAX]), following.qc)
        return ChainArrived(tuple(blocks), high_qc)

    def envelopes_of(self, ids: tuple[bytes, ...]) -> list[bytes]:
        process = self._process
        if process is None:
            return []
        found = []
        for name in ids:
            held = process.mempool.get(name)
            wire = held.wire if held is not None else self._executed_wire(process, name)
            if wire is not None:
                found.append(wire)
        return found

    def _executed_wire(self, process: FullProcess, name: bytes) -> bytes | None:
        """An envelope out of the stored batch that executed it."""
        row = process.index.transaction(name)
        if row is None:
            return None
        (data,) = stored_wires(process.index, row.height, 1, batches=True)
        return decode_batch(data, self._network).envelopes[row.position]

    def waiting(self) -> list[bytes]:
        process = self._process
        return [] if process is None else process.mempool.waiting(REPEATED_ITEMS_MAX)

    @property
    def height(self) -> int:
        """The newest recorded height, also while the process is down."""
        return len(self._done)

    def history(self) -> History:
        return History(
            tuple(cid for cid, _, _ in self._done),
            tuple(batch for _, batch, _ in self._done),
            tuple(root for _, _, root in self._done),
            dict(self._checkpoints),
            self._imbalance(),
        )

    @property
    def exchange(self) -> Exchange | None:
        """The state machine of the running process."""
        return None if self._process is None else self._process.exchange

    @property
    def stored(self) -> Index | None:
        """The index that the running process has open."""
        return None if self._process is None else self._process.index

    @property
    def rollups(self) -> tuple[Rollup, ...]:
        """The rollup blocks that this process cut or replayed."""
        process = self._process
        return () if process is None else tuple(rollup for rollup, _ in process.rollups)

    def _imbalance(self) -> str:
        """What does not add up at the present height; counted once for each."""
        process = self._process
        if process is None:
            return self._audited[1]
        if self._audited[0] != process.exchange.height:
            sentence = imbalance(process.exchange, self._genesis.deposits, process.withdrawn)
            self._audited = (process.exchange.height, sentence)
        return self._audited[1]


def _handle(replica: Replica, event: Event, now_ms: int) -> list[Effect]:
    try:
        return replica.handle(event, now_ms)
    except SENDERS_FAULTS:
        if isinstance(event, Received | ChainArrived):
            return []
        raise
