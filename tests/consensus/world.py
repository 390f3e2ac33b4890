"""Several replicas in one process, on virtual time, over a network that can misbehave."""

import heapq
import itertools
import random
from dataclasses import dataclass, field

from consensus import (
    ONCE_KINDS,
    SENDERS_FAULTS,
    Broadcast,
    ChainArrived,
    CheckpointReached,
    Commit,
    Committee,
    EnvelopesSeen,
    Executed,
    FetchChain,
    FetchEnvelopes,
    Genesis,
    Identity,
    LinkUp,
    Persist,
    Received,
    Replica,
    Send,
    Tick,
    Timing,
    Validator,
    WatchEnded,
    decode_epoch_start,
)
from primitives.cid import cid_of
from primitives.ed25519 import SigningKey
from primitives.hashing import digest

NETWORK = b"\x07" * 32
GENESIS_CID = cid_of(b"genesis")
START_MS = 1_000_000


def committee_of(count, powers=None, schedule=None):
    keys = [SigningKey(bytes([index + 1]) * 32) for index in range(count)]
    powers = powers or [1] * count
    members = [Validator(key.public, power) for key, power in zip(keys, powers, strict=True)]
    return keys, Committee(NETWORK, 1, members, schedule=schedule)


@dataclass
class Member:
    """One validator: its journal, its envelopes and what it committed survive as files would.

    Nodes journal an envelope before a report link that names it leaves: otherwise a blackout
    of everybody could leave a reported envelope that nobody can hand out.
    """

    index: int
    journal: dict = field(default_factory=dict)
    stored: list = field(default_factory=list)
    batches: list = field(default_factory=list)
    envelopes: dict = field(default_factory=dict)
    replica: Replica | None = None
    checkpoints: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    watched: list = field(default_factory=list)
    wake: int | None = None


class World:
    def __init__(
        self, count=5, seed=0, powers=None, timing=None, delay_ms=(1, 8), epoch_ms=0, schedule=None
    ):
        self.keys, self.committee = committee_of(count, powers, schedule)
        self.genesis = Genesis(GENESIS_CID, START_MS, self.committee, epoch_ms)
        self.random = random.Random(seed)
        self.timing = timing or Timing()
        self.delay_ms = delay_ms
        self.now = START_MS
        self.drop = lambda _a, _b, _kind: False
        self.signed = []
        self._queue = []
        self._order = itertools.count()
        self.members = [Member(index) for index in range(count)]
        for member in self.members:
            self.start(member.index)

    # Processes

    def start(self, index, watch=False, from_epoch=True):
        member = self.members[index]
        key = self.keys[index]
        member.replica = Replica(
            self.genesis, Identity(key, index), member.envelopes.__contains__, self.timing
        )
        first = self._begin(member) if from_epoch else 0
        del member.batches[first:]
        for wire in member.stored[first:]:
            commit = member.replica.replay(wire)
            member.batches.append(commit.batch)
        self._carry_out(member, member.replica.resume(member.journal, self.now, watch=watch))
        for other in self.members:
            if other.index != index and other.replica is not None:
                self._later(1, other.index, LinkUp(index))

    def _begin(self, member):
        """Begin with the newest epoch whose start block is stored, as nodes do; its height."""
        for _, wire in sorted(member.journal.get("epoch", {}).items(), reverse=True):
            height = decode_epoch_start(wire).height
            if height <= len(member.stored):
                placed = enumerate(member.batches[:height], 1)
                sequenced = [(above, name) for above, batch in placed for name in batch]
                return member.replica.begin_at(wire, sequenced)
        return 0

    def crash(self, index):
        self.members[index].replica = None

    def submit(self, envelope, to=None):
        """A trader hands `envelope` to some validators; each passes it on as nodes do."""
        name = digest("outcry/test/1", NETWORK, envelope)
        for index in to if to is not None else range(len(self.members)):
            self._later(self.random.randint(*self.delay_ms), index, ("envelope", name, envelope))
        return name

    # Time

    def run_for(self, ms):
        end = self.now + ms
        while self._queue and self._queue[0][0] <= end:
            self.now, _, index, event = heapq.heappop(self._queue)
            self._deliver(index, event)
        self.now = end

    def run_until(self, condition, ms=60_000):
        end = self.now + ms
        while not condition() and self.now < end:
            self.run_for(5)
        assert condition(), "the condition was not reached in virtual time"

    def _later(self, ms, index, event):
        heapq.heappush(self._queue, (self.now + ms, next(self._order), index, event))

    def _deliver(self, index, event):
        member = self.members[index]
        if member.replica is None:
            return
        if isinstance(event, tuple):
            _, name, envelope = event
            if name in member.envelopes:
                return
            member.envelopes[name] = envelope
            event = EnvelopesSeen((name,))
        if isinstance(event, Tick):
            if member.wake != self.now:
                return
            member.wake = None
        try:
            effects = member.replica.handle(event, self.now)
        except SENDERS_FAULTS as fault:
            member.faults.append(fault)
            effects = member.replica.handle(Tick(), self.now)
        self._carry_out(member, effects)

    # Effects

    def _carry_out(self, member, effects):
        for effect in effects:
            match effect:
                case Persist(entries):
                    for entry in entries:
                        kept = member.journal.setdefault(entry.kind, {})
                        if entry.kind in ONCE_KINDS:
                            assert kept.get(entry.key, entry.value) == entry.value, entry.kind
                        kept[entry.key] = entry.value
                case Broadcast(kind, payload):
                    for other in self.members:
                        if other.index != member.index:
                            self.send(member.index, other.index, kind, payload)
                case Send(to, kind, payload):
                    self.send(member.index, to, kind, payload)
                case Commit(block, batch):
                    member.stored.append(block.wire)
                    member.batches.append(batch)
                    root = digest("outcry/test-root/1", NETWORK, block.cid)
                    self._later(0, member.index, Executed(block.height, root, True))
                case FetchEnvelopes(ids, reporters):
                    for name in ids:
                        for reporter in reporters:
                            held = self.members[reporter].envelopes.get(name)
                            if held is not None and not self.drop(reporter, member.index, "fetch"):
                                self._later(5, member.index, ("envelope", name, held))
                                break
                case FetchChain(peer, height):
                    self._answer_chain(member, self.members[peer], height)
                case CheckpointReached(certificate):
                    member.checkpoints.append(certificate)
                case WatchEnded():
                    member.watched.append(self.now)
        wake = max(self.now, member.replica.wake_ms())
        if member.wake is None or wake < member.wake:
            member.wake = wake
            self._later(wake - self.now, member.index, Tick())

    def send(self, sender, to, kind, payload):
        self.signed.append((sender, kind, payload))
        if not self.drop(sender, to, kind):
            delay = self.random.randint(*self.delay_ms)
            self._later(delay, to, Received(int(kind), payload, sender))

    def _answer_chain(self, member, peer, height):
        if peer.replica is None or self.drop(peer.index, member.index, "chain"):
            return
        tail, high_qc = peer.replica.tail(len(peer.stored))
        blocks = tuple(peer.stored[height:] + tail)
        self._later(10, member.index, ChainArrived(blocks, high_qc))

    # What tests ask

    def alive(self):
        return [member for member in self.members if member.replica is not None]

    def height(self):
        return min(len(member.stored) for member in self.alive())

    def sequences(self):
        return [[name for batch in m.batches for name in batch] for m in self.alive()]

    def assert_agreement(self):
        shortest = self.height()
        chains = [member.stored[:shortest] for member in self.alive()]
        assert all(chain == chains[0] for chain in chains)
        length = min(len(sequence) for sequence in self.sequences())
        assert len({tuple(sequence[:length]) for sequence in self.sequences()}) == 1
