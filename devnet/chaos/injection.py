"""Does to the processes and links of a cluster what a schedule says, and times their return."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec
import trio

from devnet.chaos.schedule import Kind, Schedule, Step
from devnet.chaos.watching import Watch
from devnet.cluster import Cluster
from devnet.wires import Wires, around

RETURN_S_MAX: Final = 60.0  # a validator that does not vote again within this is a finding
POLL_MS: Final = 50

_CUT_DIRECTIONS: Final = {
    Kind.CUT: (True, True),
    Kind.MUTE: (True, False),
    Kind.DEAFEN: (False, True),
}
_HEALED_BY_START: Final = (Kind.KILL, Kind.RESTART, Kind.BLACKOUT)


class Done(msgspec.Struct, frozen=True):
    """A step as it was carried out, in seconds after the start of the run.

    healed_s: when the process was started, woken, or its links were whole again
    answering_ms: from then until its API answered, None when it did not in time
    voting_ms: from then until each validator voted again, None when it did not in time
    caught_up_ms: from then until it had executed what was executed elsewhere at that moment
    """

    kind: Kind
    who: tuple[str, ...]
    planned_s: float
    began_s: float
    healed_s: float
    answering_ms: dict[str, int | None]
    voting_ms: dict[str, int | None]
    caught_up_ms: dict[str, int | None]


class Injection:
    """Carries out one schedule; `done` grows as steps end."""

    def __init__(
        self,
        cluster: Cluster,
        wires: Wires,
        watch: Watch,
        schedule: Schedule,
        progress: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._wires = wires
        self._watch = watch
        self._schedule = schedule
        self._progress = progress
        self._names = [node.name for node in cluster.state.nodes]
        self._suffering: set[str] = set()
        self._ended = trio.Event()
        self._cuts: dict[str, set[tuple[str, str]]] = {}
        self._hands = trio.Lock()  # the cluster's state file has one writer
        self._stop = trio.CancelScope()
        self._began = 0.0
        self.done: list[Done] = []
        self.most_suffering = 0

    async def run(self) -> None:
        """Carry out all steps. A step waits while f validators suffer already.

        Stops when a validator does not come back: the next fault would be one too many.
        Errors: `WiresEnded`, `ClusterRunning`.
        """
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            self._stop = nursery.cancel_scope
            for step in self._schedule.steps:
                await trio.sleep_until(self._began + step.at_s)
                await self._admission(step)
                self._suffering.update(step.who)
                if step.kind is not Kind.BLACKOUT:
                    self.most_suffering = max(self.most_suffering, len(self._suffering))
                nursery.start_soon(self._carry_out, step)

    async def heal(self) -> None:
        """Undo whatever a step that was interrupted left: all links whole, all awake, all up."""
        self._cuts.clear()
        await self._apply_cuts()
        for node in self._cluster.state.nodes:
            self._cluster.resume(node.name)
        for name in self._cluster.stopped():
            await self._start(name)

    async def _admission(self, step: Step) -> None:
        """Wait until the step leaves agreement possible, or nobody suffers for a blackout."""
        while True:
            if step.kind is Kind.BLACKOUT:
                allowed = not self._suffering
            else:
                free = len(self._suffering) + len(step.who) <= self._schedule.faults_max
                allowed = free and not self._suffering.intersection(step.who)
            if allowed:
                return
            await self._ended.wait()

    def _now(self) -> float:
        return trio.current_time() - self._began

    async def _carry_out(self, step: Step) -> None:
        names = ", ".join(step.who) if step.kind is not Kind.BLACKOUT else "everybody"
        began_s = self._now()
        self._progress(f"{began_s:6.1f} s  {step.kind} {names}")
        for name in step.who:
            await self._hurt(step.kind, name)
        await trio.sleep(step.until_s - step.at_s)
        before = {name: self._watch.heard(name) for name in step.who}
        height = self._watch.height_max
        healed_s = self._now()
        for name in self._names:
            self._watch.closely(name, True)
        for name in step.who:
            await self._cure(step.kind, name)
        returns = {name: _Return() for name in step.who}
        async with trio.open_nursery() as nursery:
            for name in step.who:
                nursery.start_soon(
                    self._follow, name, returns[name], before[name], height, healed_s
                )
        if self._suffering <= set(step.who):
            for name in self._names:
                self._watch.closely(name, False)
        done = Done(
            step.kind,
            step.who,
            step.at_s,
            round(began_s, 1),
            round(healed_s, 1),
            {name: item.answering_ms for name, item in returns.items()},
            {name: item.voting_ms for name, item in returns.items()},
            {name: item.caught_up_ms for name, item in returns.items()},
        )
        self.done.append(done)
        self._tell(done)
        if None in done.voting_ms.values():
            self._stop.cancel()
            return
        self._suffering.difference_update(step.who)
        self._ended.set()
        self._ended = trio.Event()

    def _tell(self, done: Done) -> None:
        slowest = [value for value in done.voting_ms.values() if value is not None]
        told = f"voting again after {max(slowest)} ms" if slowest else "NOT voting again"
        names = ", ".join(done.who) if done.kind is not Kind.BLACKOUT else "everybody"
        self._progress(f"{self._now():6.1f} s  {names} healed: {told}")

    async def _hurt(self, kind: Kind, name: str) -> None:
        if kind in (Kind.KILL, Kind.BLACKOUT):
            await self._handle(self._cluster.kill, name)
        elif kind is Kind.RESTART:
            await self._handle(self._cluster.stop_node, name)
        elif kind is Kind.PAUSE:
            self._cluster.pause(name)
        else:
            out, into = _CUT_DIRECTIONS[kind]
            self._cuts[name] = around(name, self._names, out=out, into=into)
            await self._apply_cuts()

    async def _cure(self, kind: Kind, name: str) -> None:
        if kind in _HEALED_BY_START:
            self._watch.looks.pop(name, None)
            await self._start(name)
        elif kind is Kind.PAUSE:
            self._cluster.resume(name)
        else:
            self._cuts.pop(name, None)
            await self._apply_cuts()

    async def _start(self, name: str) -> None:
        await self._handle(lambda which: self._cluster.start_node(which, wait=False), name)

    async def _handle(self, what: Callable[[str], None], name: str) -> None:
        """Do something to a process; it may take a while."""
        async with self._hands:
            await trio.to_thread.run_sync(what, name)

    async def _apply_cuts(self) -> None:
        pairs = {pair for some in self._cuts.values() for pair in some}
        await trio.to_thread.run_sync(self._wires.cut, pairs)

    async def _follow(
        self,
        name: str,
        found: "_Return",
        before: tuple[int, int],
        height: int,
        healed_s: float,
    ) -> None:
        """Note when a validator answers, votes again and has caught up; RETURN_S_MAX at most."""
        with trio.move_on_after(RETURN_S_MAX):
            while found.voting_ms is None or found.caught_up_ms is None:
                if name in self._cluster.stopped():
                    break  # its process has ended: it cannot come back
                heard = self._watch.heard(name)
                if found.voting_ms is None and heard > before and heard[1] > 0:
                    found.voting_ms = round((self._now() - healed_s) * 1_000)
                look = self._watch.looks.get(name)
                if look is not None and look.at_s - self._began > healed_s:
                    passed_ms = round((look.at_s - self._began - healed_s) * 1_000)
                    if found.answering_ms is None:
                        found.answering_ms = passed_ms
                    if found.caught_up_ms is None and look.height >= height:
                        found.caught_up_ms = passed_ms
                await trio.sleep(POLL_MS / 1_000)


@dataclass
class _Return:
    answering_ms: int | None = None
    voting_ms: int | None = None
    caught_up_ms: int | None = None
