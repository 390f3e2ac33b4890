"""Twins: systematic Byzantine scenarios against the real replica (Bano et al., OPODIS 2021).

    report = sweep(Plan(validators=4, scenarios=6_000, seed=7))
    report.violations, report.per_minute
    outcome = play(load_failure(path).case, traced=True)

`twins_space` numbers the scenarios, `twins_world` plays one, `twins_checks` judges it. Because
twins run unmodified code they equivocate, vote twice and forget, but never send what no correct
replica would send: rules against such messages (a block below its timeout certificate's highest
quorum certificate, say) need Byzantine behaviours that are written by hand.

What bounds scenarios a day: handling in the replicas, on one core per process. Measured in CPU
time on a busy machine, n = 4 with 6 rounds is about 210 events and 6.2 ms: 9,700 a minute, which
extrapolates to 14 million a day on one free core, where ten million are the aim. n = 5 gave 6,800
and n = 7 4,200 a minute, n = 4 with envelopes 2,300. Scenarios are independent: cores multiply.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import active_children, get_context
from pathlib import Path

import msgspec

from devnet.faults import NoSuchScenario, TwinsFileUnreadable
from devnet.simulation.twins_checks import Violation
from devnet.simulation.twins_space import Space, Votes
from devnet.simulation.twins_world import Case, Outcome, play
from primitives.durable import replace_file

ROUNDS_BY_VALIDATORS = {4: 6, 5: 6, 7: 6}  # scripted rounds where nothing else is asked for
ROUNDS_DEFAULT = 6
ENVELOPES_EVERY_SCENARIOS = 16  # one in so many is played with report links and envelopes
CHUNK_SCENARIOS = 100  # a worker reports after so many
FAILURES_KEPT_MAX = 100  # further ones are only counted
FAILURE_FILE_BYTES_MAX = 16 << 20  # a larger file is not one of ours: E916
WORKERS_MAX = 256
_VOTES = {
    Votes.ALL: "votes reach the set",
    Votes.NEXT_LEADER: "votes reach the next leader",
    Votes.NEXT_LEADER_LATE: "votes reach the next leader late",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """Which scenarios to play: `scenarios` of the seeded order, from place `start` on; without
    a seed the indexes themselves from `start` on, which goes by the depth of faults."""

    validators: int = 4
    rounds: int = 0
    scenarios: int = 6_000
    seed: int | None = 1
    start: int = 0
    envelopes_every: int = ENVELOPES_EVERY_SCENARIOS

    @property
    def scripted(self) -> int:
        """Scripted rounds of every scenario."""
        return self.rounds or ROUNDS_BY_VALIDATORS.get(self.validators, ROUNDS_DEFAULT)

    def space(self) -> Space:
        """Errors: `NoSuchScenario` when there are no such scenarios."""
        try:
            return Space(self.validators, self.scripted)
        except ValueError as error:
            raise NoSuchScenario(str(error)) from None

    def cases(self) -> Iterator[Case]:
        """The plan's cases, in order. Errors: `NoSuchScenario`."""
        space = self.space()
        if self.seed is None and self.start + self.scenarios > space.size:
            raise NoSuchScenario(f"only {space.size} scenarios; choose a smaller range")
        for place in range(self.start, self.start + self.scenarios):
            index = place if self.seed is None else space.shuffled_at(self.seed, place)
            every = self.envelopes_every
            with_envelopes = every > 0 and place % every == every - 1
            yield Case(self.validators, self.scripted, index, with_envelopes)


class FailureFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One failing scenario: `case` replays it; the rest is for reading."""

    case: Case
    violations: list[Violation]
    script: list[str]
    trace: list[str]


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What a sweep found. `failures` holds at most `FAILURES_KEPT_MAX` outcomes."""

    validators: int
    rounds: int
    seed: int | None
    start: int
    space: int
    scenarios: int
    with_envelopes: int
    events: int
    commits: int
    with_evidence: int
    failed: int
    seconds: float
    per_minute: float
    per_day: float
    workers: int
    failures: tuple[Outcome, ...]

    @property
    def violations(self) -> tuple[Violation, ...]:
        return tuple(violation for outcome in self.failures for violation in outcome.violations)


@dataclass(slots=True)
class _Tally:
    scenarios: int = 0
    with_envelopes: int = 0
    events: int = 0
    commits: int = 0
    with_evidence: int = 0
    failed: int = 0
    failures: tuple[Outcome, ...] = ()

    def add(self, other: "_Tally") -> None:
        self.scenarios += other.scenarios
        self.with_envelopes += other.with_envelopes
        self.events += other.events
        self.commits += other.commits
        self.with_evidence += other.with_evidence
        self.failed += other.failed
        self.failures = (self.failures + other.failures)[:FAILURES_KEPT_MAX]


def guarded(case: Case, *, traced: bool = False) -> Outcome:
    """Play a case; whatever a replica raises that is no fault of a sender is a violation."""
    try:
        return play(case, traced=traced)
    except Exception as error:  # noqa: BLE001  # guard: a crash of a replica is a finding
        crash = f"{type(error).__name__}: {error}"
    return Outcome(case, (Violation("crash", -1, crash),), (), (), 0, 0, 0)


def sweep(
    plan: Plan, *, workers: int = 1, progress: Callable[[int], None] = lambda _count: None
) -> SweepReport:
    """Play a plan's cases; `progress` is told how many are done.

    Errors: `NoSuchScenario`.
    """
    started = time.perf_counter()
    size = plan.space().size
    tally = _Tally()
    for part in _parts(plan, min(workers, WORKERS_MAX)):
        tally.add(part)
        progress(tally.scenarios)
    seconds = time.perf_counter() - started
    rate = tally.scenarios / seconds if seconds else 0.0
    return SweepReport(
        validators=plan.validators,
        rounds=plan.scripted,
        seed=plan.seed,
        start=plan.start,
        space=size,
        scenarios=tally.scenarios,
        with_envelopes=tally.with_envelopes,
        events=tally.events,
        commits=tally.commits,
        with_evidence=tally.with_evidence,
        failed=tally.failed,
        seconds=seconds,
        per_minute=rate * 60,
        per_day=rate * 86_400,
        workers=workers,
        failures=tally.failures,
    )


def _parts(plan: Plan, workers: int) -> Iterator[_Tally]:
    chunks = _chunks(plan.cases())
    if workers <= 1:
        yield from map(_play_chunk, chunks)
        return
    # Spawned: a fork would take over whatever threads this process has.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        # A window of chunks at a time keeps few of them in memory, whatever the plan's size.
        try:
            while window := list(islice(chunks, 4 * workers)):
                yield from pool.map(_play_chunk, window)
        except BaseException:
            for child in active_children():
                child.terminate()  # what they play is of no use to anybody any more
            raise


def _chunks(cases: Iterator[Case]) -> Iterator[list[Case]]:
    while chunk := list(islice(cases, CHUNK_SCENARIOS)):
        yield chunk


def _play_chunk(cases: list[Case]) -> _Tally:
    tally = _Tally()
    for case in cases:
        outcome = guarded(case)
        tally.scenarios += 1
        tally.with_envelopes += case.envelopes
        tally.events += outcome.events
        tally.commits += max(map(len, outcome.history), default=0)
        tally.with_evidence += any(outcome.evidence)
        if outcome.violations:
            tally.failed += 1
            tally.failures = (*tally.failures, outcome)[:FAILURES_KEPT_MAX]
    return tally


# Failures as files


def describe(case: Case) -> list[str]:
    """A case's script, a line per round. Errors: `NoSuchScenario`."""
    try:
        script = Space(case.validators, case.rounds).script(case.index)
    except (ValueError, IndexError) as error:
        raise NoSuchScenario(str(error)) from None
    lines = []
    for round_, move in enumerate(script, 1):
        sets = " | ".join(" ".join(map(str, slots)) for slots in move.sets)
        lines.append(f"round {round_}: {move.leader} leads; {sets}; {_VOTES[move.votes]}")
    return lines


def write_failure(directory: Path, case: Case) -> Path:
    """Play a failing case again with a trace and write it to a file of its own."""
    outcome = guarded(case, traced=True)
    name = f"twins-{case.validators}-{case.rounds}-{case.index}"
    path = directory.absolute() / f"{name}{'-envelopes' if case.envelopes else ''}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    failure = FailureFile(case, list(outcome.violations), describe(case), list(outcome.trace))
    replace_file(path, msgspec.json.format(msgspec.json.encode(failure), indent=2) + b"\n")
    return path


def load_failure(path: Path) -> FailureFile:
    """Errors: `TwinsFileUnreadable`."""
    try:
        if path.stat().st_size > FAILURE_FILE_BYTES_MAX:
            raise TwinsFileUnreadable(f"{path} is too large; give a file that a sweep wrote")
        return msgspec.json.decode(path.read_bytes(), type=FailureFile)
    except (OSError, msgspec.DecodeError) as error:
        raise TwinsFileUnreadable(f"{path}: {error}; give a file that a sweep wrote") from None
