"""The agreement alone: a real replica over a dictionary as its disk.

What was written by the last group commit survives a crash, and nothing else. There is no
exchange: the root of a height is a digest of the root below, the block and its batch.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from consensus import (
    ONCE_KINDS,
    SENDERS_FAULTS,
    ChainArrived,
    CheckpointReached,
    Commit,
    Committee,
    Effect,
    Entry,
    EnvelopesSeen,
    Event,
    Executed,
    FetchEnvelopes,
    Genesis,
    Identity,
    Persist,
    Received,
    Replica,
    Signer,
    Tick,
    Timing,
    Validator,
    WatchEnded,
    decode_block,
)
from consensus.faults import JournalContradiction
from devnet.simulation.node import DiskFault, History, Outgoing, ProcessEnded
from devnet.simulation.standin import StandInKey
from devnet.simulation.standin import verify as stand_in_verify
from primitives import ed25519
from primitives.cid import cid_of
from primitives.hashing import digest

EVENTS_PER_FLUSH_MAX = 512  # more wait for the next flush, as in `node.driver`
CHAIN_BLOCKS_ITEMS_MAX = 128  # blocks in one answer, as in `node.wire`; the rest is asked again
CHECKPOINT_HEIGHTS = 4  # roots of every so many heights are signed: nodes take ten
FETCH_PAUSE_MS = 250  # execution asks again for missing envelopes after this
PRUNE_FLUSHES = 100  # old journal entries are removed this often
FLUSH_MS = 2  # what a write takes on a healthy disk
START_MS = 1_000_000  # virtual time begins here, which is the time of the genesis
ENVELOPE_KIND = "envelope"
NETWORK = b"\x07" * 32
_KEPT_SLOTS = {"vote": 4_096, "timeout": 4_096, "proposal": 64, "report": 4_096, "block": 128}
_ENVELOPE_DOMAIN = "outcry/simulated-envelope/1"
_ORDER_DOMAIN = "outcry/simulated-order/1"
_ROOT_DOMAIN = "outcry/simulated-root/1"

Judge = Callable[[bytes], bytes | None]
"""The id of an envelope, None when its signature is wrong."""


@dataclass(slots=True)
class _Disk:
    """What survives a crash."""

    journal: dict[str, dict[bytes, bytes]] = field(default_factory=dict)
    blocks: list[bytes] = field(default_factory=list)
    cids: list[bytes] = field(default_factory=list)
    batches: list[tuple[bytes, ...]] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)


class AgreementNode:
    """A validator without exchange and files; fulfils `SimulatedNode` and `FaultyDisk`."""

    def __init__(
        self, index: int, genesis: Genesis, key: Signer, judge: Judge, timing: Timing
    ) -> None:
        self.index = index
        self.replica: Replica | None = None
        self._genesis = genesis
        self._key = key
        self._judge = judge
        self._timing = timing
        self._disk = _Disk()
        self._fault = DiskFault("none")
        self._flushes = 0
        self._checkpoints: dict[int, bytes] = {}
        self._forget()

    def _forget(self) -> None:
        """Memory at the start of a process."""
        self._held: dict[bytes, bytes] = {}
        self._executed: set[bytes] = set()
        self._inbox: deque[Event] = deque()
        self._arrived: list[Entry] = []
        self._commits: deque[Commit] = deque()
        self._asked_ms: int | None = None

    # The process

    def start(self, now_ms: int) -> Outgoing:
        """As `SimulatedNode.start`. Errors: also `JournalContradiction`."""
        self._forget()
        disk = self._disk
        identity = Identity(self._key, self.index)
        replica = Replica(self._genesis, identity, self._held.__contains__, self._timing)
        for wire, batch in zip(disk.blocks, disk.batches, strict=True):
            if replica.replay(wire).batch != batch:
                raise JournalContradiction("a stored block gives another batch than recorded")
            self._executed.update(batch)
        self.replica = replica
        effects = replica.resume(disk.journal, now_ms)
        held = disk.journal.get(ENVELOPE_KIND, {})
        self._held.update(held)
        self.post(EnvelopesSeen(tuple(held)))
        newest = replica.newest_checkpoint
        certified = 0 if newest is None else newest.height
        for height in range(certified + 1, len(disk.roots) + 1):
            if height % CHECKPOINT_HEIGHTS == 0:
                self.post(Executed(height, disk.roots[height - 1], True))
        return self._flush(effects, now_ms)

    def crash(self) -> None:
        self.replica = None
        self._forget()

    def post(self, event: Event) -> None:
        self._inbox.append(event)

    def submit(self, wires: list[bytes]) -> None:
        fresh = []
        for wire in wires:
            name = self._judge(wire)
            if name is not None and name not in self._held:
                self._held[name] = wire
                self._arrived.append(Entry(ENVELOPE_KIND, name, wire))
                fresh.append(name)
        if fresh:
            self.post(EnvelopesSeen(tuple(fresh)))

    def step(self, now_ms: int) -> Outgoing:
        effects: list[Effect] = []
        for _ in range(min(len(self._inbox), EVENTS_PER_FLUSH_MAX)):
            effects += self._handle(self._inbox.popleft(), now_ms)
        effects += self._handle(Tick(), now_ms)
        return self._flush(effects, now_ms)

    def wake_ms(self) -> int:
        if self.replica is None or self._inbox:
            return 0
        wake = self.replica.wake_ms()
        if self._asked_ms is not None:
            wake = min(wake, self._asked_ms + FETCH_PAUSE_MS)
        return wake

    def _handle(self, event: Event, now_ms: int) -> list[Effect]:
        if self.replica is None:
            return []
        try:
            return self.replica.handle(event, now_ms)
        except SENDERS_FAULTS:
            if isinstance(event, Received | ChainArrived):
                return []
            raise

    # The disk

    def disk_fault(self, fault: DiskFault) -> None:
        self._fault = fault

    def _flush(self, effects: list[Effect], now_ms: int) -> Outgoing:
        """One group commit, then execution; what may leave after it."""
        entries = [e for effect in effects if isinstance(effect, Persist) for e in effect.entries]
        envelopes, self._arrived = self._arrived, []
        wrote = bool(entries or envelopes)
        if wrote:
            self._write([*envelopes, *entries])
        leaving: list[Effect] = []
        for effect in effects:
            match effect:
                case Commit():
                    self._commits.append(effect)
                case CheckpointReached(certificate):
                    self._checkpoints[certificate.height] = certificate.root
                case Persist() | WatchEnded():
                    pass
                case _:
                    leaving.append(effect)
        leaving += self._execute(now_ms)
        slow_ms = self._fault.amount if self._fault.kind == "slow" else 0
        took_ms = FLUSH_MS + slow_ms if wrote else 0
        return Outgoing(tuple(leaving), tuple(entry.value for entry in envelopes), took_ms)

    def _write(self, entries: Sequence[Entry]) -> None:
        """One transaction: a torn one is rolled back at the start, so it is as if lost."""
        kind = self._fault.kind
        if kind in ("lost", "torn"):
            self._fault = DiskFault("none")
        if kind in ("lost", "torn", "full"):
            raise ProcessEnded(f"the disk: {kind}")
        for entry in entries:
            slots = self._disk.journal.setdefault(entry.kind, {})
            known = slots.setdefault(entry.key, entry.value)
            if entry.kind in ONCE_KINDS and known != entry.value:
                raise JournalContradiction(f"a second {entry.kind} for one slot")
            slots[entry.key] = entry.value
        self._flushes += 1
        if self._flushes % PRUNE_FLUSHES == 0:
            self._prune()
        if kind == "behind":
            self._fault = DiskFault("none")
            raise ProcessEnded("the disk: the index is behind the journal")

    def _prune(self) -> None:
        for kind, kept in _KEPT_SLOTS.items():
            slots = self._disk.journal.get(kind, {})
            for key in sorted(slots)[:-kept]:
                del slots[key]

    # Execution

    def _execute(self, now_ms: int) -> list[Effect]:
        """Record committed blocks in order; asks for envelopes where a batch lacks some."""
        while self._commits:
            commit = self._commits[0]
            missing = [name for name in commit.batch if name not in self._held]
            if missing:
                return self._ask(tuple(missing), now_ms)
            self._commits.popleft()
            self._record(commit)
            self._asked_ms = None
        return []

    def _ask(self, missing: tuple[bytes, ...], now_ms: int) -> list[Effect]:
        if self._asked_ms is not None and now_ms < self._asked_ms + FETCH_PAUSE_MS:
            return []
        self._asked_ms = now_ms
        others = tuple(i for i in range(len(self._genesis.committee)) if i != self.index)
        return [FetchEnvelopes(missing, others)]

    def _record(self, commit: Commit) -> None:
        disk, block = self._disk, commit.block
        below = disk.roots[-1] if disk.roots else bytes(32)
        root = digest(_ROOT_DOMAIN, NETWORK, below, block.cid, *commit.batch)
        disk.blocks.append(block.wire)
        disk.cids.append(block.cid)
        disk.batches.append(commit.batch)
        disk.roots.append(root)
        self._executed.update(commit.batch)
        self.post(Executed(block.height, root, block.height % CHECKPOINT_HEIGHTS == 0))

    # For peers and checks

    def chain_above(self, height: int) -> ChainArrived | None:
        if self.replica is None:
            return None
        stored = self._disk.blocks[height : height + CHAIN_BLOCKS_ITEMS_MAX + 1]
        blocks, high_qc = stored, None
        if len(stored) <= CHAIN_BLOCKS_ITEMS_MAX:
            tail, high_qc = self.replica.tail(height + len(stored))
            blocks = stored + tail
        if len(blocks) > CHAIN_BLOCKS_ITEMS_MAX or high_qc is None:
            # The next block carries the certificate of the last one that fits.
            following = decode_block(blocks[CHAIN_BLOCKS_ITEMS_MAX], NETWORK)
            return ChainArrived(tuple(blocks[:CHAIN_BLOCKS_ITEMS_MAX]), following.qc)
        return ChainArrived(tuple(blocks), high_qc)

    def envelopes_of(self, ids: tuple[bytes, ...]) -> list[bytes]:
        return [self._held[name] for name in ids if name in self._held]

    def waiting(self) -> list[bytes]:
        return [wire for name, wire in self._held.items() if name not in self._executed]

    def history(self) -> History:
        disk = self._disk
        return History(
            tuple(disk.cids), tuple(disk.batches), tuple(disk.roots), dict(self._checkpoints)
        )


class AgreementFleet:
    """Validators of `powers`, their keys under a signature scheme, and one trader."""

    def __init__(
        self,
        powers: Sequence[int],
        *,
        signatures: str = "stand-in",
        timing: Timing | None = None,
        epoch_ms: int = 0,
        schedule: Callable[[int], int] | None = None,
    ) -> None:
        make: Callable[[bytes], Signer] = StandInKey
        verify = stand_in_verify
        if signatures == "ed25519":
            make, verify = ed25519.SigningKey, ed25519.verify
        self.keys = [make(bytes([index + 1]) * 32) for index in range(len(powers))]
        members = [
            Validator(key.public, power) for key, power in zip(self.keys, powers, strict=True)
        ]
        committee = Committee(NETWORK, 1, members, verify=verify, schedule=schedule)
        self.genesis = Genesis(cid_of(b"simulation"), START_MS, committee, epoch_ms)
        self._trader = make(b"\xee" * 32)
        self._verify = verify
        self._timing = timing or Timing()

    def node(self, index: int) -> AgreementNode:
        return AgreementNode(index, self.genesis, self.keys[index], self._judge, self._timing)

    def envelope(self, number: int) -> tuple[bytes, bytes]:
        order = number.to_bytes(8, "big")
        wire = order + self._trader.sign(digest(_ORDER_DOMAIN, NETWORK, order))
        return digest(_ENVELOPE_DOMAIN, NETWORK, wire), wire

    def forgery(self, number: int) -> bytes:
        order = number.to_bytes(8, "big")
        return order + digest(_ORDER_DOMAIN, NETWORK, order) * 2

    def _judge(self, wire: bytes) -> bytes | None:
        order, signature = wire[:8], wire[8:]
        if not self._verify(self._trader.public, digest(_ORDER_DOMAIN, NETWORK, order), signature):
            return None
        return digest(_ENVELOPE_DOMAIN, NETWORK, wire)
