"""A whole network in one process, on virtual time: what a scenario says, happens.

    world = World(generate(7))
    outcome = world.run()

All randomness after the scenario comes from one generator of the same seed, and events of one
millisecond happen in the order in which they were scheduled: the same scenario gives the same
trace, on every machine.
"""

import heapq
import itertools
import random
from collections.abc import Callable, Iterable
from hashlib import sha256

from consensus import (
    Broadcast,
    ChainArrived,
    FetchChain,
    FetchEnvelopes,
    Kind,
    LinkUp,
    Received,
    Send,
)
from devnet.simulation.agreement_node import START_MS
from devnet.simulation.byzantine import Adversary
from devnet.simulation.checks import LIVENESS, Check, Facts, Violation, all_checks, unfinished
from devnet.simulation.clocks import LocalClock
from devnet.simulation.faulting import Faulting
from devnet.simulation.fleets import fleet_for
from devnet.simulation.network import Links
from devnet.simulation.node import Fleet, History, Outgoing, ProcessEnded, SimulatedNode
from devnet.simulation.outcome import Outcome
from devnet.simulation.processes import Process
from devnet.simulation.requests import Requests
from devnet.simulation.scenario import Scenario
from devnet.simulation.trace import Trace
from primitives.faults import Fault

AUDIT_MS = 250  # everything is looked at this often
PUSH_PAUSE_MS = 4  # envelopes that come within this time leave in one message
RECONNECT_MS_MIN, RECONNECT_MS_MAX = 50, 400  # a link that lost something comes up again after
IDLE_MS_MAX = 1_000  # a node is stepped again after this, whatever it says
HEIGHTS_AFTER_HEAL_MIN = 3  # blocks beyond the highest at healing that everybody must reach
EVENTS_MAX = 5_000_000  # a simulation with more is ended: liveness-after-heal fails
PACKED_ITEMS_MAX = 512  # envelopes in one message; more are packed into the next
EVERYBODY = "world"
_NAMES = {int(kind): kind.name.lower().replace("_", " ") for kind in Kind}


class World:
    """One simulation. `keep` keeps the trace's lines; `fleet` replaces the scenario's own."""

    def __init__(
        self, scenario: Scenario, *, fleet: Fleet | None = None, keep: bool = False
    ) -> None:
        self.scenario = scenario
        self.fleet = fleet_for(scenario) if fleet is None else fleet
        self.trace = Trace(keep=keep)
        self.random = random.Random(f"outcry/world/{scenario.seed}")
        self.links = Links(scenario.weather, self.random)
        self.facts = Facts(self.fleet.genesis.committee.network)
        self.violation: Violation | None = None
        self.healed = False
        self._checks: list[Check] = all_checks(self.facts.network)
        self._now_ms = START_MS
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._events = 0
        self._ids: dict[bytes, bytes] = {}
        self._broken: set[tuple[int, int]] = set()
        self._height_at_heal = 0
        self._done = False
        self.processes = [self._process(index) for index in range(len(scenario.powers))]
        self.requests = Requests(self, len(self.processes))
        Faulting(self, scenario).schedule()
        self.later(AUDIT_MS, self._audit_again)

    def _process(self, index: int) -> Process:
        scenario = self.scenario
        adversary = None
        for liar in scenario.liars:
            if liar.index == index:
                dice = random.Random(f"outcry/liar/{scenario.seed}/{index}")
                adversary = Adversary(liar, self.fleet.keys[index], self.fleet.genesis, dice)
        clock = LocalClock(scenario.drifts[index], START_MS)
        is_dead = index in scenario.dead
        return Process(self.fleet.node(index), clock, adversary, is_dead=is_dead)

    # Time

    def now_ms(self) -> int:
        """The world's time."""
        return self._now_ms

    def at(self, time_ms: int, action: Callable[[], None]) -> None:
        """Do something at a time, after what was scheduled for it before."""
        heapq.heappush(self._queue, (time_ms, next(self._order), action))

    def later(self, ms: int, action: Callable[[], None]) -> None:
        self.at(self._now_ms + ms, action)

    def run(self) -> Outcome:
        """Until all holds after healing, or a check fails."""
        while self._queue and not self._done and self.advance():
            pass
        return self.outcome()

    def advance(self) -> bool:
        """Let the next event happen; False when the simulation is over."""
        if self._done or not self._queue:
            return False
        self._now_ms, _, action = heapq.heappop(self._queue)
        self._events += 1
        action()
        if self._events >= EVENTS_MAX and not self._done:
            self.violate(LIVENESS, f"{EVENTS_MAX} events did not bring the network to rest")
        return not self._done

    def run_for(self, ms: int) -> None:
        """Let virtual time pass, for tests that look at the world in between."""
        end_ms = self._now_ms + ms
        while self._queue and self._queue[0][0] <= end_ms and self.advance():
            pass
        self._now_ms = max(self._now_ms, end_ms)

    # Processes

    def start(self, index: int) -> None:
        """Start a node's process, unless it runs or never shall."""
        process = self.processes[index]
        if process.is_up or process.is_dead:
            return
        process.begin()
        self.requests.restarted(index)
        self.note(index, "starts")
        self._guarded(process, lambda: process.node.start(process.clock.read(self._now_ms)))
        for other in range(len(self.processes)):
            if other != index:
                self._break(index, other)

    def crash(self, index: int, why: str = "killed") -> None:
        """End a node's process now; what was not durable is lost."""
        process = self.processes[index]
        if process.is_up:
            self.note(index, f"ends: {why}")
            process.end()

    def pause(self, index: int, until_ms: int) -> None:
        """A node does nothing until then; what arrives waits."""
        process = self.processes[index]
        process.paused_until_ms = max(process.paused_until_ms, until_ms)
        if process.step_at_ms is not None:
            process.step_at_ms = None
            self._want_step(process, self._now_ms)

    def _want_step(self, process: Process, at_ms: int) -> None:
        """Have the process step then, or as soon as it can."""
        at_ms = max(at_ms, process.free_at_ms(self._now_ms))
        if process.step_at_ms is not None and process.step_at_ms <= at_ms:
            return
        process.step_at_ms = at_ms
        number = process.number
        self.at(at_ms, lambda: self._step(process, number, at_ms))

    def _step(self, process: Process, number: int, at_ms: int) -> None:
        if process.number != number or process.step_at_ms != at_ms:
            return
        process.step_at_ms = None
        if process.free_at_ms(self._now_ms) > self._now_ms:
            self._want_step(process, self._now_ms)
            return
        self._guarded(process, lambda: process.node.step(process.clock.read(self._now_ms)))

    def _guarded(self, process: Process, work: Callable[[], Outgoing]) -> None:
        """Let a node work. What it raises ends its process; only `ProcessEnded` is meant."""
        try:
            outgoing = work()
        except ProcessEnded as ended:
            self.crash(process.index, str(ended))
            return
        except Exception as fault:  # noqa: BLE001  # guard: of a process; its end is a finding
            what = f"{type(fault).__name__}: {fault}"
            if isinstance(fault, Fault):
                what = f"{fault.code} {what}"
            self.crash(process.index, what)
            if process.is_honest:
                self.facts.faults.append((process.index, what))
                self.audit()
            return
        process.busy_until_ms = self._now_ms + outgoing.fsync_ms
        number = process.number
        if outgoing.fsync_ms:
            self.later(outgoing.fsync_ms, lambda: self._flushed(process, number, outgoing))
        else:
            self._flushed(process, number, outgoing)

    def _flushed(self, process: Process, number: int, outgoing: Outgoing) -> None:
        """The flush is over: carry the effects out in order, unless the process ends before."""
        if process.number != number:
            return
        if process.paused_until_ms > self._now_ms:
            until_ms = process.busy_until_ms = process.paused_until_ms
            self.at(until_ms, lambda: self._flushed(process, number, outgoing))
            return
        for effect in outgoing.effects:
            if process.effects_left is not None:
                if process.effects_left == 0:
                    self.crash(process.index, "between two effects")
                    return
                process.effects_left -= 1
            self._carry_out(process, effect)
            if self._done:
                return
        self._hand_on(process, outgoing.envelopes)
        wake = process.clock.world_wait(process.node.wake_ms(), self._now_ms)
        self._want_step(process, self._now_ms + min(wake, IDLE_MS_MAX))

    # Messages

    def _carry_out(self, process: Process, effect: object) -> None:
        match effect:
            case Broadcast(kind, payload):
                self._say(process, range(len(self.processes)), int(kind), payload)
            case Send(to, kind, payload):
                self._say(process, (to,), int(kind), payload)
            case FetchEnvelopes():
                self.note(process.index, f"asks for {len(effect.ids)} envelopes")
                self.requests.envelopes(process.index, effect)
            case FetchChain():
                self.note(process.index, f"asks v{effect.peer} for blocks above {effect.height}")
                self.requests.chain(process.index, effect)

    def _say(self, process: Process, to: Iterable[int], kind: int, payload: bytes) -> None:
        """Send a message of the agreement; a liar says what it likes."""
        index = process.index
        name = sha256(payload).hexdigest()[:12]
        self.note(index, f"says {_named(kind)} {name}")
        if process.adversary is None:
            for check in self._checks:
                for sentence in check.sent(index, kind, payload):
                    self.violate(check.name, sentence)
        for other in to:
            if other == index:
                continue
            messages = [(kind, payload)]
            if process.adversary is not None:
                messages = process.adversary.says(other, kind, payload)
            for said, wire in messages:
                self._send(index, other, said, wire)

    def _send(self, index: int, other: int, kind: int, payload: bytes) -> None:
        times = self.links.arrivals(index, other, self._now_ms)
        if not times:
            self._break(index, other)
        for time_ms in times:
            self.at(time_ms, lambda: self._arrive(index, other, kind, payload))

    def _arrive(self, sender: int, to: int, kind: int, payload: bytes) -> None:
        process = self.processes[to]
        if not process.is_up or self.links.is_cut(sender, to):
            self._break(sender, to)
            return
        self.note(to, f"hears {_named(kind)} of v{sender}")
        if process.adversary is not None:
            process.adversary.hears(kind, payload)
        process.node.post(Received(kind, payload, sender))
        self._want_step(process, self._now_ms)

    def _break(self, one: int, other: int) -> None:
        """A link lost something: it will come up again, and both ends hear of that."""
        pair = (min(one, other), max(one, other))
        if pair not in self._broken:
            self._broken.add(pair)
            wait_ms = self.random.randint(RECONNECT_MS_MIN, RECONNECT_MS_MAX)
            self.later(wait_ms, lambda: self._reconnect(*pair))

    def _reconnect(self, one: int, other: int) -> None:
        pair = (one, other)
        self._broken.discard(pair)
        if not all(self.processes[index].is_up for index in pair):
            return  # whoever starts connects
        if any(self.links.is_cut(*way) for way in (pair, pair[::-1])):
            self._break(one, other)
            return
        for index, peer in (pair, pair[::-1]):
            process = self.processes[index]
            self.note(index, f"has a link to v{peer} again")
            process.node.post(LinkUp(peer))
            self._push(process, (peer,), process.node.waiting())
            if process.adversary is not None:
                for kind, payload in process.adversary.greets():
                    self._send(index, peer, kind, payload)
            self._want_step(process, self._now_ms)

    # Envelopes

    def submit(self, number: int, to: Iterable[int]) -> bytes:
        """A trader hands an envelope to nodes; its id."""
        name, wire = self.fleet.envelope(number)
        self.facts.submitted.add(name)
        self._ids[wire] = name
        for index in to:
            process = self.processes[index]
            if process.is_up:
                self.note(index, f"gets {name.hex()[:12]} of a trader")
                process.receipts[wire] = name
                process.node.submit([wire])
                self._want_step(process, self._now_ms)
        return name

    def submit_forgery(self, number: int, to: Iterable[int]) -> None:
        """Somebody hands in an envelope that no trader signed."""
        wire = self.fleet.forgery(number)
        for index in to:
            process = self.processes[index]
            if process.is_up:
                self.note(index, "gets a forged envelope")
                process.node.submit([wire])
                self._want_step(process, self._now_ms)

    def _hand_on(self, process: Process, wires: tuple[bytes, ...]) -> None:
        """What a trader gave and is durable now gets its receipt, and goes to all others."""
        fresh = [wire for wire in wires if wire in process.receipts]
        for wire in fresh:
            name = process.receipts.pop(wire)
            if process.is_honest:
                self.facts.accepted.setdefault(name, set()).add(process.index)
        if fresh:
            number = process.number
            others = tuple(i for i in range(len(self.processes)) if i != process.index)
            self.later(PUSH_PAUSE_MS, lambda: self._push_if(process, number, others, fresh))

    def _push_if(
        self, process: Process, number: int, others: tuple[int, ...], wires: list[bytes]
    ) -> None:
        if process.number == number:
            self._push(process, others, wires)

    def _push(self, process: Process, to: tuple[int, ...], wires: list[bytes]) -> None:
        for start in range(0, len(wires), PACKED_ITEMS_MAX):
            group = wires[start : start + PACKED_ITEMS_MAX]
            for other in to:
                if process.adversary is not None and not process.adversary.serves:
                    continue
                times = self.links.arrivals(process.index, other, self._now_ms)
                if not times:
                    self._break(process.index, other)
                for time_ms in times:
                    self._push_at(time_ms, process.index, other, group)

    def _push_at(self, time_ms: int, sender: int, to: int, group: list[bytes]) -> None:
        def arrive() -> None:
            process = self.processes[to]
            if process.is_up and not self.links.is_cut(sender, to):
                self.note(to, f"hears {len(group)} envelopes of v{sender}")
                process.node.submit(group)
                self._want_step(process, self._now_ms)
            else:
                self._break(sender, to)

        self.at(time_ms, arrive)

    # What requests need of the world

    def process(self, index: int) -> int | None:
        found = self.processes[index]
        return found.number if found.is_up else None

    def is_paused(self, index: int) -> bool:
        return self.processes[index].paused_until_ms > self._now_ms

    def serves(self, index: int) -> bool:
        adversary = self.processes[index].adversary
        return adversary is None or adversary.serves

    def node(self, index: int) -> SimulatedNode:
        return self.processes[index].node

    def envelopes_arrived(self, index: int, wires: list[bytes]) -> list[bytes]:
        self.note(index, f"gets {len(wires)} envelopes that it asked for")
        self.processes[index].node.submit(wires)
        self._want_step(self.processes[index], self._now_ms)
        return [self._ids[wire] for wire in wires if wire in self._ids]

    def chain_arrived(self, index: int, chain: ChainArrived) -> None:
        self.note(index, f"gets {len(chain.blocks)} blocks that it asked for")
        self.processes[index].node.post(chain)
        self._want_step(self.processes[index], self._now_ms)

    # Checks

    def histories(self) -> dict[int, History]:
        """Of the honest validators, by index."""
        return {p.index: p.node.history() for p in self.processes if p.is_honest}

    def voters(self) -> frozenset[int]:
        """The honest validators that shall be up after healing."""
        return frozenset(p.index for p in self.processes if p.is_honest and not p.is_dead)

    def audit(self) -> dict[int, History]:
        """Look at everything; the first check that does not hold ends the simulation."""
        histories = self.histories()
        for check in self._checks:
            for sentence in check.audit(self.facts, histories):
                self.violate(check.name, sentence)
        return histories

    def _audit_again(self) -> None:
        histories = self.audit()
        if self.healed and not self._done:
            least = self._height_at_heal + HEIGHTS_AFTER_HEAL_MIN
            left = unfinished(self.facts, histories, least, self.voters())
            elapsed = self._now_ms - START_MS - self.scenario.heal_ms
            if not left:
                self._done = True
            elif elapsed > self.scenario.patience_ms:
                self.violate(LIVENESS, left)
        self.later(AUDIT_MS, self._audit_again)

    def heal(self) -> None:
        """From here on nothing goes wrong but what liars do."""
        self.note_all("all faults end")
        self.healed = True
        self._height_at_heal = max(len(item.blocks) for item in self.histories().values())

    def violate(self, check: str, sentence: str) -> None:
        """A check does not hold: the simulation is over. The first one counts."""
        if self.violation is None:
            self.violation = Violation(check, sentence, self._now_ms - START_MS)
            self.note_all(f"VIOLATION of {check}: {sentence}")
        self._done = True

    def outcome(self) -> Outcome:
        """What can be said of the simulation now."""
        histories = self.histories()
        evidence = 0
        for process in self.processes:
            if process.is_honest and process.node.replica is not None:
                evidence += len(process.node.replica.evidence)
        batches = [sum(map(len, item.batches)) for item in histories.values()]
        return Outcome(
            seed=self.scenario.seed,
            nodes=self.scenario.nodes,
            validators=len(self.processes),
            violation=self.violation,
            trace_hash=self.trace.hash(),
            trace_lines=self.trace.count,
            virtual_ms=self._now_ms - START_MS,
            height=max((len(item.blocks) for item in histories.values()), default=0),
            executed=max(batches, default=0),
            crashes=sum(max(0, process.starts - 1) for process in self.processes),
            messages=self.links.sent,
            lost=self.links.lost,
            evidence=evidence,
        )

    def note(self, index: int, what: str) -> None:
        """A line of the trace."""
        self.trace.note(self._now_ms - START_MS, f"v{index}", what)

    def note_all(self, what: str) -> None:
        self.trace.note(self._now_ms - START_MS, EVERYBODY, what)


def _named(kind: int) -> str:
    return _NAMES.get(kind, str(kind))
