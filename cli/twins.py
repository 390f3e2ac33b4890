"""`outcry devnet twins`: validators that run twice under one key, by systematic scenarios."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli._output import check_folder, check_target, print_table, write_json
from cli._run import sigterm_interrupts

if TYPE_CHECKING:
    from devnet.simulation.twins import Plan, SweepReport
    from devnet.simulation.twins_world import Case, Outcome

VALIDATORS_MIN, VALIDATORS_MAX = 4, 7
ROUNDS_MAX = 16
SCENARIOS_MAX = 1_000_000_000
WORKERS_MAX = 256
FILES_WRITTEN_MAX = 10  # of one sweep; further failures are only counted and listed
KEEP = Path("devnet-state") / "failures"
EXAMPLES = (
    "Examples: outcry devnet twins --n 4 --scenarios 6000 --seed 7 | "
    "outcry devnet twins --n 4 --rounds 6 --index 123456 | "
    "outcry devnet twins --replay devnet-state/failures/twins-4-6-123456.json"
)


def twins(
    validators: Annotated[
        int,
        typer.Option(
            "--n",
            min=VALIDATORS_MIN,
            max=VALIDATORS_MAX,
            help="Validators; a third less runs twice.",
        ),
    ] = 4,
    scenarios: Annotated[
        int, typer.Option(min=1, max=SCENARIOS_MAX, help="How many to play.")
    ] = 6_000,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Decides their order; without it they come by number."),
    ] = None,
    start: Annotated[int, typer.Option(min=0, help="Skip so many first.")] = 0,
    rounds: Annotated[
        int, typer.Option(min=0, max=ROUNDS_MAX, help="Scripted rounds; 0: what suits --n.")
    ] = 0,
    workers: Annotated[
        int, typer.Option(min=1, max=WORKERS_MAX, help="Processes that share the scenarios.")
    ] = 1,
    keep: Annotated[
        Path, typer.Option(metavar="DIR", help="Where a failing scenario leaves its file.")
    ] = KEEP,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE."),
    ] = None,
    index: Annotated[
        int | None, typer.Option(min=0, help="Play this one, and tell every step.")
    ] = None,
    envelopes: Annotated[
        bool, typer.Option("--envelopes", help="With --index: with report links and envelopes.")
    ] = False,
    replay_file: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Let a kept failure happen again."),
    ] = None,
) -> None:
    """Play Twins scenarios: who hears whom and who leads, in every round, with doubled keys.

    Ends with 1 when a scenario breaks a check; its file then replays here and elsewhere.
    """
    from devnet.simulation.twins import Plan, load_failure
    from devnet.simulation.twins_world import Case

    check_target(json_file)
    check_folder(keep)
    if envelopes and index is None:
        raise typer.BadParameter("--envelopes goes with --index I")
    if replay_file is not None:
        _play_one(load_failure(replay_file).case, json_file)
    elif index is not None:
        plan = Plan(validators, rounds, seed=None)
        _play_one(Case(validators, plan.scripted, index, envelopes), json_file)
    else:
        with sigterm_interrupts():
            _sweep(Plan(validators, rounds, scenarios, seed, start), workers, keep, json_file)


def _play_one(case: "Case", json_file: Path | None) -> None:
    """Tell a scenario step by step. Errors: `TwinsFailed`, `NoSuchScenario`."""
    from devnet.simulation.twins import describe, guarded

    for line in describe(case):
        typer.echo(line)
    outcome = guarded(case, traced=True)
    for line in outcome.trace:
        typer.echo(line)
    write_json(json_file, outcome)
    typer.echo(
        f"{outcome.events} events, {outcome.until_ms} ms of virtual time, "
        f"ended in round {outcome.round}"
    )
    _fail_if_any([outcome])


def _sweep(plan: "Plan", workers: int, keep: Path, json_file: Path | None) -> None:
    from devnet.simulation.twins import sweep, write_failure

    with _bar(plan.scenarios) as seen:
        report = sweep(plan, workers=workers, progress=seen)
    write_json(json_file, report)
    _show(report)
    for outcome in report.failures[:FILES_WRITTEN_MAX]:
        path = write_failure(keep, outcome.case)
        typer.echo(f"replay it with: outcry devnet twins --replay {path}", err=True)
    _fail_if_any(report.failures)


def _fail_if_any(outcomes: "list[Outcome] | tuple[Outcome, ...]") -> None:
    from devnet.faults import TwinsFailed

    for outcome in outcomes:
        for found in outcome.violations:
            where = "" if found.slot < 0 else f", replica {found.slot}"
            raise TwinsFailed(
                f"scenario {outcome.case.index} of {outcome.case.validators} validators and "
                f"{outcome.case.rounds} rounds broke {found.check}{where}: {found.sentence}; "
                "replay it with --replay or --index"
            )


def _show(report: "SweepReport") -> None:
    print_table(
        f"{report.scenarios} of {report.space:.3g} scenarios, {report.rounds} scripted rounds",
        ["n>", "scenarios>", "failed>", "evidence>", "a minute>", "a day>", "events each>"],
        [
            (
                report.validators,
                report.scenarios,
                report.failed,
                report.with_evidence,
                f"{report.per_minute:,.0f}",
                f"{report.per_day:,.0f}",
                f"{report.events / max(report.scenarios, 1):.0f}",
            )
        ],
    )


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on a terminal's standard error; nothing elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("scenarios", total=total)
        yield lambda count: bar.update(task, completed=count)
