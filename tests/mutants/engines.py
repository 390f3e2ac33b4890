"""How a mutant is brought to light: each engine runs one scenario, faulty or calm.

    Seeded(7).run()       # what a check says of the world of seed 7; None when all hold
    Seeded(7).calm()      # the same network without anything that goes wrong

An engine is a value: equal engines do the same, on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, Self

from devnet.simulation import (
    Disturbance,
    Drift,
    Fleet,
    Scenario,
    Submission,
    Weather,
    World,
    generate,
)
from devnet.simulation.agreement_node import START_MS, AgreementFleet
from devnet.simulation.crashes import run_crash_points
from devnet.simulation.full_fleet import FullFleet
from devnet.simulation.scenario import EAGER
from devnet.simulation.twins import guarded
from devnet.simulation.twins_space import Space
from devnet.simulation.twins_world import Case

HEAL_MS = 2_000
ENVELOPE_PAUSE_MS = 100  # one at a time: reports agree on the order, whatever delays there are
PATIENCE_MS = 30_000  # a network that stands still for so long does not go on any more


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that did not hold."""

    check: str
    sentence: str


class Engine(Protocol):
    """`kind` and `place` name the engine and its scenario in the table."""

    @property
    def kind(self) -> str: ...

    @property
    def place(self) -> str: ...

    def run(self) -> Finding | None:
        """The faulty scenario."""

    def calm(self) -> Finding | None:
        """The same kind of run without faults."""

    @property
    def number(self) -> int:
        """The seed or index."""

    def at(self, number: int) -> Self:
        """The same with another seed or index."""

    def candidate(self, count: int) -> Self:
        """The `count`th one to try when looking for a number that shows a mistake."""


def scenario(
    *disturbances: Disturbance,
    seed: int = 1,
    nodes: str = "agreement",
    powers: tuple[int, ...] = (1, 1, 1, 1),
    epoch_ms: int = 0,
    heal_ms: int = HEAL_MS,
    pause_ms: int = ENVELOPE_PAUSE_MS,
    **changes: object,
) -> Scenario:
    """A network in which nothing goes wrong but `disturbances` and what `changes` say."""
    times = range(pause_ms, heal_ms, pause_ms)
    load = [Submission(at, at // pause_ms, (at // pause_ms % len(powers),)) for at in times]
    made = Scenario(
        seed=seed,
        nodes=nodes,
        signatures="stand-in",
        powers=powers,
        timing=EAGER,
        epoch_ms=epoch_ms,
        weather=Weather(),
        drifts=(Drift(),) * len(powers),
        liars=(),
        dead=(),
        disturbances=disturbances,
        load=tuple(load),
        heal_ms=heal_ms,
        patience_ms=PATIENCE_MS,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def found_in(world: World) -> Finding | None:
    violation = world.run().violation
    return None if violation is None else Finding(violation.check, violation.sentence)


class BySeed:
    """What engines have in common that a seed decides."""

    seed: int

    @property
    def place(self) -> str:
        return f"seed {self.seed}"

    @property
    def number(self) -> int:
        return self.seed

    def at(self, number: int) -> Self:
        return replace(self, seed=number)  # type: ignore[type-var]

    def candidate(self, count: int) -> Self:
        return self.at(count)


@dataclass(frozen=True)
class Seeded(BySeed):
    """The world that a seed generates."""

    seed: int = 0
    nodes: str = "agreement"
    count: int = 4

    @property
    def kind(self) -> str:
        return f"world, {self.nodes}"

    def run(self) -> Finding | None:
        made = generate(self.seed, self.nodes, self.count)
        return found_in(World(replace(made, patience_ms=PATIENCE_MS)))

    def calm(self) -> Finding | None:
        made = generate(self.seed, self.nodes, self.count)
        return found_in(
            World(scenario(nodes=self.nodes, powers=made.powers, epoch_ms=made.epoch_ms))
        )


Step = Callable[[World], None]


@dataclass(frozen=True)
class Directed:
    """A world whose script was written for one mistake.

    `steps` do something to the world at a time (ms). `leaders` tells who leads a round, instead
    of the rotation. Without `templates` full nodes begin their files at their first start.
    """

    script: Scenario
    steps: tuple[tuple[int, Step], ...] = ()
    leaders: Callable[[int], int] | None = None
    templates: bool = True

    @property
    def kind(self) -> str:
        return f"directed, {self.script.nodes}"

    @property
    def place(self) -> str:
        return f"seed {self.script.seed}"

    @property
    def number(self) -> int:
        return self.script.seed

    def at(self, number: int) -> Self:
        return replace(self, script=replace(self.script, seed=number))

    def candidate(self, count: int) -> Self:
        return self.at(count)

    def run(self) -> Finding | None:
        world = World(self.script, fleet=self._fleet())
        for at_ms, step in self.steps:
            world.at(START_MS + at_ms, lambda step=step: step(world))  # type: ignore[misc]
        return found_in(world)

    def calm(self) -> Finding | None:
        made = self.script
        return found_in(
            World(
                scenario(
                    seed=made.seed, nodes=made.nodes, powers=made.powers, epoch_ms=made.epoch_ms
                )
            )
        )

    def _fleet(self) -> Fleet | None:
        made = self.script
        if self.leaders is not None:
            return AgreementFleet(made.powers, timing=made.timing, schedule=self.leaders)
        if self.templates:
            return None
        return FullFleet(
            made.powers,
            seed=made.seed,
            timing=made.timing,
            epoch_ms=made.epoch_ms,
            templates=False,
        )


@dataclass(frozen=True, slots=True)
class Twins:
    """One Twins scenario, by its index."""

    validators: int
    index: int = 0
    rounds: int = 6

    @property
    def kind(self) -> str:
        return f"twins, n = {self.validators}"

    @property
    def place(self) -> str:
        return f"index {self.index}"

    @property
    def number(self) -> int:
        return self.index

    def at(self, number: int) -> Self:
        return replace(self, index=number)

    def candidate(self, count: int) -> Self:
        return self.at(Space(self.validators, self.rounds).shuffled_at(1, count))

    def run(self) -> Finding | None:
        return self._play(self.index)

    def calm(self) -> Finding | None:
        return self._play(0)

    def _play(self, index: int) -> Finding | None:
        outcome = guarded(Case(self.validators, self.rounds, index))
        if not outcome.violations:
            return None
        first = outcome.violations[0]
        return Finding(first.check, f"replica {first.slot}: {first.sentence}")


@dataclass(frozen=True)
class Crashes(BySeed):
    """Power failures within the disk operations of one of four full nodes."""

    seed: int = 0
    points: int = 40

    @property
    def kind(self) -> str:
        return "crash explorer"

    def run(self) -> Finding | None:
        report = run_crash_points(self.seed, self.points)
        return Finding("contradiction", report.contradictions[0]) if report.contradictions else None

    def calm(self) -> Finding | None:
        return found_in(World(scenario(nodes="full", epoch_ms=700)))
