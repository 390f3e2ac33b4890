"""Looks for a moment at which a crash makes a validator contradict itself.

    report = run_crash_points(seed=1, count=10_000)
    assert not report.contradictions

Small clusters of full nodes run on virtual time. One validator of each loses its power again and
again: within any operation of its disk (a write, a sync, a new or removed file, also while it
starts), or between two effects of a flush. What was not synced is then lost, kept, kept in part
or torn, and it starts again from what is left. Everything that it ever sent is compared.
"""

import heapq
import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from consensus import (
    Broadcast,
    ChainArrived,
    Effect,
    FetchChain,
    FetchEnvelopes,
    Kind,
    LinkUp,
    Received,
    Send,
    Timing,
)
from consensus.certificate import Timeout, Vote
from devnet.simulation.checks import MESSAGE_BYTES_MAX, OneSignaturePerSlot
from devnet.simulation.full_files import OpenJournal, open_journal
from devnet.simulation.full_fleet import START_MS, FullFleet
from devnet.simulation.full_node import FullNode
from devnet.simulation.node import Outgoing, ProcessEnded
from primitives import codec

VALIDATORS = 4
POINTS_PER_WORLD = 20  # then another one begins: starts grow longer with the chain
MOMENTS_MAX = (20, 100, 400)  # one of these bounds the operations and effects between crashes
DOWN_MS = (1, 60)  # how long the power stays off
DELAY_MS = (1, 6)  # what a message takes
FETCH_MS = 4  # what an answer takes
ENVELOPE_PAUSE_MS = 25  # traders send this often
EPOCH_MS = 500  # short, so that crashes fall into handovers too
STALLED_MS_MAX = 60_000  # virtual time in which a world must have reached its next crash
TIMING = Timing(
    block_interval_ms=15,
    idle_interval_ms=40,
    report_interval_ms=5,
    report_idle_ms=30,
    round_timeout_ms=120,
    resend_ms=80,
)


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What was tried and found.

    points          crashes that struck, those within a start included
    restarts        starts after a crash that came up
    contradictions  sentences with the seed of their world; empty is what is hoped for
    torn, lost      unsynced writes that crashes kept in part, or not at all
    heights         blocks that the crashing validators had executed at the end
    seconds         real time
    """

    points: int
    restarts: int
    contradictions: tuple[str, ...]
    torn: int
    lost: int
    heights: int
    seconds: float


def run_crash_points(
    seed: int,
    count: int,
    *,
    journal: OpenJournal = open_journal,
    signatures: str = "stand-in",
    progress: Callable[[int], None] | None = None,
) -> CrashReport:
    """Let `count` crashes strike in worlds derived from `seed`.

    `progress` hears how many struck so far. Errors: what a validator stops with, if its storage
    is found to be damaged, or it cannot go on: that would be a finding too.
    """
    begun = time.perf_counter()
    points = restarts = torn = lost = heights = 0
    contradictions: list[str] = []
    for number in itertools.count():
        if points >= count:
            break
        world_seed = f"{seed}/{number}"
        world = CrashWorld(world_seed, journal=journal, signatures=signatures)
        wanted = min(POINTS_PER_WORLD, count - points)
        world.run(wanted)
        disk = world.victim.disk.statistics()
        points += world.points
        restarts += world.restarts
        torn += disk.torn
        lost += disk.lost
        heights += world.victim.height
        contradictions += [f"world {world_seed}: {sentence}" for sentence in world.findings]
        if progress is not None:
            progress(points)
    seconds = time.perf_counter() - begun
    return CrashReport(points, restarts, tuple(contradictions), torn, lost, heights, seconds)


@dataclass
class _Voice:
    """Everything that one validator ever sent, whatever it remembers itself."""

    network: bytes
    findings: list[str] = field(default_factory=list)
    timed_out: tuple[int, int] = (0, 0)
    votes: set[tuple[int, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._slots = OneSignaturePerSlot(self.network)

    def says(self, validator: int, kind: int, payload: bytes) -> None:
        for sentence in self._slots.sent(validator, kind, payload):
            self._found(sentence)
        match kind:
            case Kind.TIMEOUT:
                timeout = codec.decode(Timeout, payload, bytes_max=MESSAGE_BYTES_MAX)
                self.timed_out = max(self.timed_out, (timeout.epoch, timeout.round))
            case Kind.VOTE:
                self._vote(codec.decode(Vote, payload, bytes_max=MESSAGE_BYTES_MAX))

    def _found(self, sentence: str) -> None:
        """Note a contradiction once, however often it is sent."""
        if sentence not in self.findings:
            self.findings.append(sentence)

    def _vote(self, vote: Vote) -> None:
        """Who gave a round up must not vote in it, or below it, any more."""
        slot = (vote.epoch, vote.round)
        if slot not in self.votes and slot <= self.timed_out:
            self._found(f"voted in round {vote.round} after giving up {self.timed_out}")
        self.votes.add(slot)


class CrashWorld:
    """One cluster, and the validator in it that crashes."""

    def __init__(
        self, seed: str, *, journal: OpenJournal = open_journal, signatures: str = "stand-in"
    ) -> None:
        self._random = random.Random(seed)
        fleet = FullFleet(
            [1] * VALIDATORS,
            seed=self._random.getrandbits(32),
            signatures=signatures,
            timing=TIMING,
            epoch_ms=EPOCH_MS,
            journal=journal,
        )
        self._fleet = fleet
        self._nodes = [fleet.node(index) for index in range(VALIDATORS)]
        self.victim: FullNode = self._nodes[self._random.randrange(VALIDATORS)]
        self._voice = _Voice(fleet.genesis.committee.network)
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._free_ms = [START_MS] * VALIDATORS
        self._step_ms: list[int | None] = [None] * VALIDATORS
        self._moments: int | None = None
        self._sent = 0
        self.now_ms = START_MS
        self.points = 0
        self.restarts = 0

    @property
    def findings(self) -> list[str]:
        """Contradictions of the crashing validator."""
        return self._voice.findings

    def run(self, points: int) -> None:
        """Let the power of one validator fail `points` times, then let things settle.

        A world that agrees no more, or has not gone on at the end, is a finding.
        """
        for node in self._nodes:
            self._carry_out(node, node.start(self.now_ms))
        self._later(0, self._trade)
        while self.points < points:
            self._moments = self._draw()
            before = self.points
            self._run_until(lambda before=before: self.points > before)  # type: ignore[misc]
        self._moments = None
        height = max(node.height for node in self._nodes)
        self._run_until(lambda: self._is_beyond(height))
        self._compare()

    def _draw(self) -> int:
        """After how many moments the next crash strikes: sometimes soon after the last."""
        return self._random.randint(1, self._random.choice(MOMENTS_MAX))

    def _is_beyond(self, height: int) -> bool:
        return all(node.height > height for node in self._nodes)

    def _run_until(self, is_reached: Callable[[], bool]) -> None:
        end_ms = self.now_ms + STALLED_MS_MAX
        while not is_reached():
            if not self._queue or self._queue[0][0] > end_ms:
                self._voice.findings.append(f"nothing goes on at {self.now_ms} ms")
                self.points += 1  # do not wait for it again
                return
            self.now_ms, _, action = heapq.heappop(self._queue)
            action()

    def _compare(self) -> None:
        histories = [node.history() for node in self._nodes]
        shortest = min(len(history.blocks) for history in histories)
        first = histories[0]
        for index, history in enumerate(histories):
            if history.imbalance:
                self.findings.append(f"v{index}: {history.imbalance}")
            if history.blocks[:shortest] != first.blocks[:shortest]:
                self.findings.append(f"v{index} executed other blocks than v0")
            if history.roots[:shortest] != first.roots[:shortest]:
                self.findings.append(f"v{index} computed other roots than v0")

    # Time

    def _later(self, ms: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now_ms + ms, next(self._order), action))

    def _trade(self) -> None:
        """A trader hands its next envelope to one validator."""
        _, wire = self._fleet.envelope(self._sent)
        self._sent += 1
        self._submit(self._nodes[self._random.randrange(VALIDATORS)], [wire])
        self._later(ENVELOPE_PAUSE_MS, self._trade)

    def _submit(self, node: FullNode, wires: list[bytes]) -> None:
        if node.replica is not None:
            node.submit(wires)
            self._wake(node)

    def _post(self, node: FullNode, event: Received | ChainArrived | LinkUp) -> None:
        if node.replica is not None:
            node.post(event)
            self._wake(node)

    def _wake(self, node: FullNode) -> None:
        """Have the node make its next step when it wants to and its disk is done."""
        due = max(self.now_ms, self._free_ms[node.index], node.wake_ms())
        planned = self._step_ms[node.index]
        if node.replica is not None and (planned is None or due < planned):
            self._step_ms[node.index] = due
            self._later(due - self.now_ms, lambda: self._step(node, due))

    def _step(self, node: FullNode, planned_ms: int) -> None:
        if node.replica is None or self._step_ms[node.index] != planned_ms:
            return
        self._step_ms[node.index] = None
        if node is self.victim:
            self._risk(lambda: node.step(self.now_ms))
        else:
            self._carry_out(node, node.step(self.now_ms))

    # Crashes

    def _risk(self, work: Callable[[], Outgoing]) -> None:
        """Let the victim work: the power may fail in its disk's operations, or afterwards
        between its effects."""
        disk = self.victim.disk
        before = disk.statistics().operations
        if self._moments is not None:
            disk.cut_after(self._moments)
        try:
            out = work()
        except ProcessEnded:
            self._crashed()
            return
        disk.spare()
        if self._moments is not None:
            self._moments -= disk.statistics().operations - before
        self._carry_out(self.victim, out)

    def _crashed(self) -> None:
        self.points += 1
        self._moments = self._draw() if self._moments is not None else None
        self._step_ms[self.victim.index] = None
        self._later(self._random.randint(*DOWN_MS), self._restart)

    def _restart(self) -> None:
        victim = self.victim
        self._free_ms[victim.index] = self.now_ms
        self._risk(lambda: victim.start(self.now_ms))
        if victim.replica is None:
            return
        self.restarts += 1
        for other in self._nodes:
            if other is not victim:
                self._later(FETCH_MS, lambda other=other: self._link(other))  # type: ignore[misc]

    def _link(self, other: FullNode) -> None:
        victim = self.victim
        if victim.replica is None:
            return
        self._post(other, LinkUp(victim.index))
        self._post(victim, LinkUp(other.index))
        self._submit(victim, other.waiting())
        self._submit(other, victim.waiting())

    # Effects

    def _carry_out(self, node: FullNode, out: Outgoing) -> None:
        """Send what leaves, once the flush is over."""
        self._free_ms[node.index] = self.now_ms + out.fsync_ms
        for effect in out.effects:
            if node is self.victim and self._strikes():
                return
            self._send(node, effect, out.fsync_ms)
        for other in self._nodes:
            if out.envelopes and other is not node:
                delay = out.fsync_ms + self._random.randint(*DELAY_MS)
                wires = list(out.envelopes)
                self._later(
                    delay,
                    lambda other=other, wires=wires: self._submit(other, wires),  # type: ignore[misc]
                )
        self._wake(node)

    def _strikes(self) -> bool:
        """Whether the power fails before the next effect."""
        if self._moments is None:
            return False
        self._moments -= 1
        if self._moments > 0:
            return False
        self.victim.crash()
        self._crashed()
        return True

    def _send(self, node: FullNode, effect: Effect, after_ms: int) -> None:
        match effect:
            case Broadcast(kind, payload):
                self._note(node, kind, payload)
                for other in self._nodes:
                    if other is not node:
                        self._message(node, other, int(kind), payload, after_ms)
            case Send(to, kind, payload):
                self._note(node, kind, payload)
                self._message(node, self._nodes[to], int(kind), payload, after_ms)
            case FetchEnvelopes(ids, reporters):
                for reporter in reporters:
                    self._later(
                        after_ms + FETCH_MS,
                        lambda r=reporter: self._submit(  # type: ignore[misc]
                            node, self._nodes[r].envelopes_of(ids)
                        ),
                    )
            case FetchChain(peer, height):
                self._later(after_ms + FETCH_MS, lambda: self._answer(node, peer, height))

    def _message(
        self, node: FullNode, other: FullNode, kind: int, payload: bytes, after_ms: int
    ) -> None:
        delay = after_ms + self._random.randint(*DELAY_MS)
        event = Received(kind, payload, node.index)
        self._later(delay, lambda: self._post(other, event))

    def _note(self, node: FullNode, kind: int, payload: bytes) -> None:
        if node is self.victim:
            self._voice.says(node.index, kind, payload)

    def _answer(self, node: FullNode, peer: int, height: int) -> None:
        answer = self._nodes[peer].chain_above(height)
        if answer is not None:
            self._post(node, answer)
