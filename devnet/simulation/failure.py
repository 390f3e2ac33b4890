"""A failing simulation in one file: the scenario, and every line of its trace.

    path = write_failure(Path("failures"), run_kept(generate(7)))
    for step in replay(read_failure(path)):
        ...

The file needs neither the seed nor the generator that made the scenario: whoever gets it replays
exactly what happened, step by step.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from devnet.faults import FailureUnreadable, ReplayDiffers
from devnet.simulation.scenario import Scenario
from devnet.simulation.world import World
from primitives.durable import replace_file

FORMAT = "outcry/simulation-failure/1"
FILE_BYTES_MAX = 1 << 30  # a larger file is refused with E911


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What the file holds. `lines` is the whole trace."""

    format: str
    check: str
    sentence: str
    at_ms: int
    trace_hash: str
    scenario: Scenario
    lines: list[str]


@dataclass(frozen=True)
class Step:
    """One event of a replay: its lines of the trace, and where every node stands after it."""

    lines: list[str]
    nodes: list[str]


def run_kept(scenario: Scenario) -> World:
    """Run a scenario and keep its trace."""
    world = World(scenario, keep=True)
    world.run()
    return world


def write_failure(directory: Path, world: World) -> Path:
    """Write a failed simulation that was run with its trace kept; the file."""
    violation = world.violation
    if violation is None:
        raise ValueError("this simulation did not fail")
    failure = Failure(
        format=FORMAT,
        check=violation.check,
        sentence=violation.sentence,
        at_ms=violation.at_ms,
        trace_hash=world.trace.hash(),
        scenario=world.scenario,
        lines=world.trace.lines,
    )
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"seed-{world.scenario.seed}-{world.scenario.nodes}.json"
    data = msgspec.json.format(msgspec.json.encode(failure), indent=1)
    replace_file(path.absolute(), data + b"\n")
    return path


def read_failure(path: Path) -> Failure:
    """Errors: `FailureUnreadable`."""
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise FailureUnreadable(f"{path} has more than {FILE_BYTES_MAX} bytes")
        failure = msgspec.json.decode(path.read_bytes(), type=Failure)
    except (OSError, msgspec.DecodeError) as error:
        raise FailureUnreadable(
            f"{path} is no failure of a simulation ({error}); "
            "give a file that `outcry devnet simulate --keep` wrote"
        ) from error
    if failure.format != FORMAT:
        raise FailureUnreadable(f"{path} has the format {failure.format!r}, not {FORMAT!r}")
    return failure


def replay(failure: Failure) -> Iterator[Step]:
    """Run the scenario again, event by event, and compare with what is recorded.

    Errors: `ReplayDiffers` at the first line that is another one, or when it ends otherwise.
    """
    world = World(failure.scenario, keep=True)
    seen, more = 0, True
    while more:
        more = world.advance()
        fresh = world.trace.lines[seen:]
        if not fresh:
            continue
        for number, line in enumerate(fresh, seen):
            recorded = failure.lines[number] if number < len(failure.lines) else "the end"
            if recorded != line:
                raise ReplayDiffers(
                    f"line {number + 1} is {line!r}, but was {recorded!r}; "
                    "the code is another one than when it failed: check out that version"
                )
        seen += len(fresh)
        yield Step(fresh, [_stand(world, index) for index in range(len(world.processes))])
    if seen != len(failure.lines) or world.trace.hash() != failure.trace_hash:
        raise ReplayDiffers(
            f"the replay ended after {seen} of {len(failure.lines)} lines; "
            "the code is another one than when it failed: check out that version"
        )


def _stand(world: World, index: int) -> str:
    """Where a node stands: round, committed and executed height."""
    process = world.processes[index]
    replica = process.node.replica
    if not process.is_up or replica is None:
        return f"v{index} down"
    state = replica.statistics()
    executed = len(process.node.history().blocks)
    return f"v{index} round {state.round} height {state.height} executed {executed}"
