"""One Twins scenario, played: real replicas, scripted rounds, virtual time.

    outcome = play(Case(validators=4, rounds=7, index=123_456))

How a script becomes deliveries:

- A message about round r (a proposal, vote, timeout or timeout certificate of r) is delivered in
  the same virtual instant to the replicas in its sender's set of round r, and to nobody else.
  Other messages follow the round of the newest statement that their sender made.
- Late votes arrive when nothing else is on its way and somebody has given their round up.
- Rounds take no time of their own. When nothing is on its way, the clock jumps to the next
  moment at which some replica wants to act: a round fails by its timers, as in reality.
- The *repetition* of a timeout reaches everybody: a round in which no set can go on would
  otherwise last for ever. The first sending stays in its set, so that a quorum in one set leaves
  the round without what the others know.
- Twins in equal states would sign equal blocks. So each sees something of its own (an
  observation, which goes into its next report link) at the start and after every proposal: two
  of a pair that lead one round contradict each other. Without envelopes nobody else makes links,
  and those of twins reach others in their blocks only.
- Rounds beyond the script are connected, led by all in turn, the first honest one first.
- Blocks that a replica lacks are fetched from whoever showed that there are more.

Nothing depends on a clock, on chance or on the order of a set: a case is its own replay.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from consensus import (
    ONCE_KINDS,
    SENDERS_FAULTS,
    Broadcast,
    ChainArrived,
    Commit,
    Committee,
    Effect,
    EnvelopesSeen,
    Event,
    Executed,
    FetchChain,
    FetchEnvelopes,
    Genesis,
    Identity,
    Kind,
    LinkUp,
    Observed,
    Persist,
    Received,
    Replica,
    Send,
    Signer,
    Tick,
    Timing,
    Validator,
)
from devnet.simulation import standin
from devnet.simulation.standin import StandInKey
from devnet.simulation.twins_checks import Checks, Statement, Violation, read
from devnet.simulation.twins_space import Move, Shape, Space, Votes
from primitives import ed25519
from primitives.cid import cid_of
from primitives.ed25519 import SigningKey
from primitives.faults import LocalFault
from primitives.hashing import digest

HEALED_ROUNDS_MAX = 24  # connected rounds after the script until all have committed: E915
EVENTS_ITEMS_MAX = 20_000  # a scenario that needs more events does not end: E915
TRACE_LINES_MAX = 20_000  # further lines of a trace are left out
ENVELOPES_ITEMS = 6  # submitted to a scenario that is played with envelopes
START_MS = 1_000_000
NETWORK = digest("outcry/twins-network/1", bytes(32))
GENESIS_CID = cid_of(b"twins")

_NO_LINKS: Final = 2**60
AGREEMENT_TIMING = Timing(
    block_interval_ms=0,
    idle_interval_ms=1,
    report_interval_ms=0,
    report_idle_ms=_NO_LINKS,
    round_timeout_ms=1_000,
    resend_ms=1_000,
)
ENVELOPES_TIMING = Timing(
    block_interval_ms=1,
    idle_interval_ms=1,
    report_interval_ms=1,
    report_idle_ms=500,
    round_timeout_ms=1_000,
    resend_ms=1_000,
)


@dataclass(frozen=True, slots=True)
class Scheme:
    """A signature scheme: how keys are made from 32 bytes, how signatures are checked."""

    name: str
    key: Callable[[bytes], Signer]
    verify: Callable[[bytes, bytes, bytes], bool]


STAND_IN = Scheme("stand-in", StandInKey, standin.verify)
ED25519 = Scheme("ed25519", SigningKey, ed25519.verify)


@dataclass(frozen=True, slots=True)
class Case:
    """What decides everything that happens in a scenario."""

    validators: int
    rounds: int
    index: int
    envelopes: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened. `history` is, per slot, the (round, author, batch size) of its final blocks
    by height; `evidence` counts pieces per slot; `until_ms` is virtual time since the start."""

    case: Case
    violations: tuple[Violation, ...]
    history: tuple[tuple[tuple[int, int, int], ...], ...]
    evidence: tuple[int, ...]
    round: int
    events: int
    until_ms: int
    trace: tuple[str, ...] = ()


@dataclass(slots=True)
class _Member:
    """A replica in its slot, with what its files would hold."""

    slot: int
    index: int
    honest: bool
    replica: Replica
    envelopes: dict[bytes, None] = field(default_factory=dict)
    journal: dict[tuple[str, bytes], bytes] = field(default_factory=dict)
    stored: list[bytes] = field(default_factory=list)
    history: list[tuple[int, int, int]] = field(default_factory=list)
    sequenced: int = 0
    round: int = 0
    timed_out: int = 0
    seen: int = 0


@dataclass(slots=True)
class _Arrival:
    """An event for the replica in `slot`; of a message also where it came from and what it says."""

    slot: int
    event: Event
    origin: int = -1
    said: Statement | None = None


class TwinsWorld:
    """The replicas of one case, and the network that its script makes."""

    def __init__(self, case: Case, scheme: Scheme = STAND_IN, *, traced: bool = False) -> None:
        space = Space(case.validators, case.rounds)
        self.case = case
        self.shape = space.shape
        self.script = space.script(case.index)
        self.now_ms = START_MS
        self._keys, genesis = _genesis(self.shape, scheme, self._leader)
        timing = ENVELOPES_TIMING if case.envelopes else AGREEMENT_TIMING
        self._members = [self._member(slot, genesis, timing) for slot in range(self.shape.slots)]
        honest = frozenset(range(self.shape.twinned, self.shape.validators))
        self._checks = Checks(honest, genesis.committee)
        self._reach = [_reach(move, self.shape.slots) for move in self.script]
        self._everybody = tuple(range(self.shape.slots))
        self._queue: deque[_Arrival] = deque()
        self._late: list[_Arrival] = []
        self._proposals: dict[bytes, int] = {}
        self._waiting = set(honest)
        self._submitted: list[bytes] = []
        self._healed = False
        self._round = 1
        self._given_up = 0
        self._events = 0
        self._trace: list[str] | None = [] if traced else None

    def _member(self, slot: int, genesis: Genesis, timing: Timing) -> _Member:
        index = self.shape.index_of(slot)
        envelopes: dict[bytes, None] = {}
        identity = Identity(self._keys[index], index)
        replica = Replica(genesis, identity, envelopes.__contains__, timing)
        return _Member(slot, index, index >= self.shape.twinned, replica, envelopes)

    def _leader(self, round_: int) -> int:
        if round_ <= len(self.script):
            return self.script[max(round_, 1) - 1].leader
        beyond = round_ - len(self.script) - 1
        return (self.shape.twinned + beyond) % self.shape.validators

    # The course of a scenario

    def play(self) -> Outcome:
        """Play the case to its end, or to the first violation."""
        for member in self._members:
            self._carry_out(member, member.replica.resume({}, self.now_ms), -1)
            self._distinguish(member)
        if self.case.envelopes:
            self._submit()
        violations = self._checks.violations
        while self._waiting and not violations:
            if self._queue:
                self._handle(self._queue.popleft())
            else:
                self._advance()
            if self._events > EVENTS_ITEMS_MAX:
                self._checks.fail("liveness", -1, f"no end after {self._events} events")
            if self._round > self.case.rounds + HEALED_ROUNDS_MAX:
                late = ", ".join(str(slot) for slot in sorted(self._waiting))
                self._checks.fail("liveness", -1, f"in round {self._round} without: {late}")
        if not violations:
            honest = [member for member in self._members if member.honest]
            self._checks.finish({m.slot: m.replica.evidence for m in honest})
        return Outcome(
            self.case,
            tuple(violations),
            tuple(tuple(member.history) for member in self._members),
            tuple(len(member.replica.evidence) for member in self._members),
            self._round,
            self._events,
            self.now_ms - START_MS,
            tuple(self._trace or ()),
        )

    def _submit(self) -> None:
        """Hand envelopes to two honest replicas each, in different orders."""
        first, count = self.shape.twinned, self.shape.validators - self.shape.twinned
        for number in range(ENVELOPES_ITEMS):
            name = digest("outcry/twins-envelope/1", NETWORK, number.to_bytes(2, "big"))
            self._submitted.append(name)
            for offset in (0, 1):
                self._give(first + (number + offset) % count, (name,))

    def _give(self, slot: int, names: tuple[bytes, ...]) -> None:
        held = self._members[slot].envelopes
        fresh = tuple(name for name in names if name not in held)
        if fresh:
            held.update(dict.fromkeys(fresh))
            self._queue.append(_Arrival(slot, EnvelopesSeen(fresh)))

    def _distinguish(self, member: _Member) -> None:
        """Let a twin see what the other one of its pair does not."""
        if not member.honest:
            member.seen += 1
            seen = b"%d/%d" % (member.slot, member.seen)
            self._queue.append(_Arrival(member.slot, Observed(seen)))

    def _advance(self) -> None:
        """Deliver votes that waited; else jump to the next moment at which a replica acts."""
        late, self._late = self._late, []
        for arrival in late:
            over = arrival.said is not None and arrival.said.round <= self._given_up
            (self._queue if over else self._late).append(arrival)
        if self._queue:
            return
        wakes = [member.replica.wake_ms() for member in self._members]
        self.now_ms = max(self.now_ms, min(wakes))
        for member, wake in zip(self._members, wakes, strict=True):
            if wake <= self.now_ms:
                self._queue.append(_Arrival(member.slot, Tick()))

    def _handle(self, arrival: _Arrival) -> None:
        self._events += 1
        member = self._members[arrival.slot]
        if arrival.said is not None and member.honest:
            self._checks.shown(member.slot, arrival.said, member.replica.statistics)
        if self._trace is not None:
            self._note(member, arrival)
        try:
            effects = member.replica.handle(arrival.event, self.now_ms)
        except SENDERS_FAULTS as fault:
            if self._trace is not None:
                self._say(f"  {member.slot} refuses it: {fault}")
            effects = member.replica.handle(Tick(), self.now_ms)
        except LocalFault as fault:
            self._checks.fail("contradiction", member.slot, fault.sentence)
            return
        self._carry_out(member, effects, arrival.origin)

    # Effects

    def _carry_out(self, member: _Member, effects: list[Effect], origin: int) -> None:
        commits: list[Commit] = []
        for effect in effects:
            match effect:
                case Broadcast(kind, payload):
                    self._broadcast(member, kind, payload)
                case Persist(entries):
                    for entry in entries:
                        if entry.kind in ONCE_KINDS:
                            self._keep(member, entry.kind, entry.key, entry.value)
                case Commit():
                    commits.append(effect)
                case FetchChain(peer, _):
                    self._fetch_chain(member, origin if origin >= 0 else peer)
                case FetchEnvelopes(names, reporters):
                    self._fetch_envelopes(member, names, reporters)
                case Send(to, kind, payload):
                    self._send(member, to, kind, payload)
                case _:
                    pass  # reached checkpoints, ended watches: nobody here waits for them
        if commits:
            self._commit(member, commits)

    def _keep(self, member: _Member, kind: str, key: bytes, value: bytes) -> None:
        """The journal keeps one value per slot of what may be signed once."""
        if member.journal.setdefault((kind, key), value) != value and member.honest:
            self._checks.fail("signature", member.slot, f"journaled two {kind}s for one slot")
        if kind == "proposal":
            self._proposals[value] = int.from_bytes(key[8:], "big")

    def _broadcast(self, member: _Member, kind: Kind, payload: bytes) -> None:
        if kind == Kind.LINK and not self.case.envelopes:
            return
        said = read(kind, payload, member.index, self._proposals)
        if kind == Kind.PROPOSAL:
            self._distinguish(member)
        targets = self._targets(member, kind, said)
        if said is not None:
            self._checks.sent(member.slot, said)
        event = Received(int(kind), payload, member.index)
        own = member.slot
        arrivals = [_Arrival(slot, event, own, said) for slot in targets if slot != own]
        if said is not None and self._is_late(said):
            self._late += arrivals
        else:
            self._queue.extend(arrivals)

    def _is_late(self, said: Statement) -> bool:
        """Whether votes of this round wait until somebody gives the round up."""
        if said.kind != Kind.VOTE or said.round > self.case.rounds:
            return False
        return self.script[said.round - 1].votes == Votes.NEXT_LEADER_LATE

    def _send(self, member: _Member, to: int, kind: Kind, payload: bytes) -> None:
        event = Received(int(kind), payload, member.index)
        for slot in self._reached(member):
            if slot != member.slot and self._members[slot].index == to:
                self._queue.append(_Arrival(slot, event, member.slot))

    def _targets(self, member: _Member, kind: Kind, said: Statement | None) -> tuple[int, ...]:
        """The slots that hear a broadcast."""
        if said is None:
            return self._reached(member)
        member.round = max(member.round, said.round)
        self._round = max(self._round, said.round)
        if said.round > self.case.rounds:
            if not self._healed:
                self._heal()
            return self._everybody
        if kind == Kind.TIMEOUT:
            self._given_up = max(self._given_up, said.round)
            if member.timed_out == said.round:
                return self._everybody
            member.timed_out = said.round
        reached = self._reach[said.round - 1][member.slot]
        if kind == Kind.VOTE and self.script[said.round - 1].votes != Votes.ALL:
            leader = self._leader(said.round + 1)
            return tuple(slot for slot in reached if self._members[slot].index == leader)
        return reached

    def _reached(self, member: _Member) -> tuple[int, ...]:
        """Who hears what has no round of its own."""
        if self._healed or member.round > self.case.rounds:
            return self._everybody
        return self._reach[max(member.round, 1) - 1][member.slot]

    def _heal(self) -> None:
        """The first message beyond the script: connections come back, as nodes notice them."""
        self._healed = True
        if not self.case.envelopes:
            return
        for member in self._members:
            self._give(member.slot, tuple(self._submitted))
            for other in self._members:
                if other.index != member.index:
                    self._queue.append(_Arrival(member.slot, LinkUp(other.index)))

    def _fetch_chain(self, member: _Member, origin: int) -> None:
        """Ask the replica whose message showed that blocks are missing."""
        peer = self._members[origin]
        tail, high_qc = peer.replica.tail(len(peer.stored))
        above = len(member.stored)
        blocks = tuple(peer.stored[above:] + tail)
        self._queue.append(_Arrival(member.slot, ChainArrived(blocks, high_qc), origin))

    def _fetch_envelopes(
        self, member: _Member, names: tuple[bytes, ...], reporters: tuple[int, ...]
    ) -> None:
        for slot in self._reached(member):
            held = self._members[slot].envelopes
            if self._members[slot].index in reporters:
                self._give(member.slot, tuple(name for name in names if name in held))

    def _commit(self, member: _Member, commits: list[Commit]) -> None:
        for commit in commits:
            block = commit.block
            member.stored.append(block.wire)
            member.history.append((block.round, block.author, len(commit.batch)))
            member.sequenced += len(commit.batch)
            if self.case.envelopes:
                root = digest("outcry/twins-root/1", NETWORK, block.cid)
                self._queue.append(_Arrival(member.slot, Executed(block.height, root, True)))
        if self._trace is not None:
            ends = f"{commits[0].block.height} to {commits[-1].block.height}"
            self._say(f"  {member.slot} commits heights {ends}")
        if not member.honest:
            return
        self._checks.committed(member.slot, commits)
        beyond = commits[-1].block.round > self.case.rounds
        if beyond and member.sequenced >= len(self._submitted):
            self._waiting.discard(member.slot)

    # The trace of a replay

    def _note(self, member: _Member, arrival: _Arrival) -> None:
        what = type(arrival.event).__name__
        if isinstance(arrival.event, Received):
            about = "" if arrival.said is None else f" of round {arrival.said.round}"
            what = f"{Kind(arrival.event.kind).name}{about} from {arrival.origin}"
        round_ = member.replica.statistics().round
        self._say(f"{self.now_ms - START_MS:>7} ms  {member.slot} (round {round_}): {what}")

    def _say(self, line: str) -> None:
        if self._trace is not None and len(self._trace) < TRACE_LINES_MAX:
            self._trace.append(line)


def play(case: Case, scheme: Scheme = STAND_IN, *, traced: bool = False) -> Outcome:
    """Play one case. Errors: ValueError or IndexError when there is no such case."""
    return TwinsWorld(case, scheme, traced=traced).play()


def _reach(move: Move, slots: int) -> list[tuple[int, ...]]:
    """Per slot, the set that it is in."""
    reach: list[tuple[int, ...]] = [()] * slots
    for connected in move.sets:
        for slot in connected:
            reach[slot] = connected
    return reach


def _genesis(
    shape: Shape, scheme: Scheme, schedule: Callable[[int], int]
) -> tuple[list[Signer], Genesis]:
    keys = _keys(shape.validators, scheme)
    members = [Validator(key.public, 1) for key in keys]
    committee = Committee(NETWORK, 1, members, verify=scheme.verify, schedule=schedule)
    return keys, Genesis(GENESIS_CID, START_MS, committee)


def _keys(count: int, scheme: Scheme) -> list[Signer]:
    return [scheme.key(bytes([number + 1]) * 32) for number in range(count)]
