"""`outcry devnet simulate`: whole networks on virtual time, from seeds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli._output import check_folder, check_target, print_table, write_json
from cli._run import sigterm_interrupts

if TYPE_CHECKING:
    from devnet.simulation.outcome import Outcome
    from devnet.simulation.runner import Report

WORKERS_MAX = 256
VALIDATORS_MIN, VALIDATORS_MAX = 4, 16
SEEDS_ITEMS_MAX = 100_000_000  # in one range; more is wrong use
_SEEDS_END = 1 << 53  # every JSON reader keeps such a number
FAILURES_SHOWN_ITEMS_MAX = 10  # more are only counted
KEEP = Path("devnet-state") / "failures"
FATES = ("crashes>", "messages>", "lost>", "evidence>")
EXAMPLES = (
    "Examples: outcry devnet simulate --seeds 0:200 | "
    "outcry devnet simulate --seeds 7 --nodes full | "
    "outcry devnet simulate --replay devnet-state/failures/seed-7-full.json --step"
)


def simulate(
    seeds: Annotated[
        str,
        typer.Option(metavar="A:B", help="The seeds from A up to but without B; or one seed."),
    ] = "0:100",
    nodes: Annotated[
        str,
        typer.Option(metavar="KIND", help="agreement: fast; full: with real exchange and storage."),
    ] = "agreement",
    validators: Annotated[
        int | None,
        typer.Option(
            min=VALIDATORS_MIN,
            max=VALIDATORS_MAX,
            help="How many in every scenario; without it the seed decides.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, max=WORKERS_MAX, help="Processes that share the seeds.")
    ] = 1,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Spread the seeds over this Dask scheduler; its workers need this version of "
            "Outcry installed.",
        ),
    ] = None,
    keep: Annotated[
        Path, typer.Option(metavar="DIR", help="Where a failing seed leaves its file.")
    ] = KEEP,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE."),
    ] = None,
    explain: Annotated[
        int | None,
        typer.Option(min=0, metavar="SEED", help="Only say what this one seed does."),
    ] = None,
    replay_file: Annotated[
        Path | None,
        typer.Option("--replay", metavar="FILE", help="Let a kept failure happen again."),
    ] = None,
    step: Annotated[
        bool, typer.Option("--step", help="With --replay: wait for Enter after every event.")
    ] = False,
) -> None:
    """Simulate networks whose links, disks, clocks and validators fail, and check them.

    Everything that happens follows from the seed. Ends with 1 when a seed breaks a check; its
    file then replays here and elsewhere.
    """
    check_target(json_file)
    check_folder(keep)
    if step and replay_file is None:
        raise typer.BadParameter("--step goes with --replay FILE")
    if nodes not in ("agreement", "full"):
        raise typer.BadParameter(f"{nodes!r} is no kind of node; choose agreement or full")
    if explain is not None:
        _explain(explain, nodes, validators)
    elif replay_file is not None:
        _replay(replay_file, step=step)
    else:
        with sigterm_interrupts():
            _run(_range(seeds), nodes, validators, workers, dask, keep, json_file)


def _range(text: str) -> tuple[int, int]:
    """The range in `A:B`, or of one seed. Errors: BadParameter, exit code 2."""
    first, colon, end = text.partition(":")
    try:
        start = int(first)
        stop = int(end) if colon else start + 1
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no range; write --seeds 0:100") from None
    if start < 0 or stop > _SEEDS_END:
        raise typer.BadParameter(f"seeds go from 0 to {_SEEDS_END - 1}")
    if stop <= start:
        raise typer.BadParameter(f"{text!r} holds no seed: the second number is not included")
    if stop - start > SEEDS_ITEMS_MAX:
        raise typer.BadParameter(f"{text!r} holds more than {SEEDS_ITEMS_MAX} seeds")
    return start, stop


def _run(
    seeds: tuple[int, int],
    nodes: str,
    validators: int | None,
    workers: int,
    dask: str | None,
    keep: Path,
    json_file: Path | None,
) -> None:
    from devnet.faults import SeedFailed
    from devnet.simulation.failure import run_kept, write_failure
    from devnet.simulation.runner import run_range
    from devnet.simulation.scenario import generate

    with _bar(seeds[1] - seeds[0]) as seen:
        report = run_range(
            *seeds, nodes, count=validators, workers=workers, dask=dask, progress=seen
        )
    write_json(json_file, report)
    _show(report)
    if not report.failures:
        typer.echo(f"All {report.scenarios} scenarios pass {len(report.checks)} checks.")
        return
    kept = [
        write_failure(keep, run_kept(generate(failed.seed, nodes, validators)))
        for failed in report.failures[:FAILURES_SHOWN_ITEMS_MAX]
    ]
    first = report.failures[0]
    what = "" if first.violation is None else f" {first.violation.check}"
    raise SeedFailed(
        f"{report.scenarios - report.passed} of {report.scenarios} scenarios fail, "
        f"the first is seed {first.seed}:{what}",
        f"outcry devnet simulate --replay {kept[0]} --step",
    )


@contextmanager
def _bar(total: int) -> "Iterator[Callable[[Outcome], None]]":
    """A progress bar on the terminal; nothing where there is none."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("scenarios"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[failed]} failed"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("scenarios", total=total, failed=0)
        failed = 0

        def seen(outcome: "Outcome") -> None:
            nonlocal failed
            failed += outcome.violation is not None
            progress.update(task, advance=1, failed=failed)

        yield seen


def _show(report: "Report") -> None:
    print_table(
        f"seeds {report.first_seed} to {report.end_seed - 1}, {report.nodes} nodes, "
        f"{report.spread}",
        ["scenarios>", "passed>", "per second>", "virtual s>", "blocks>", "envelopes>", *FATES],
        [
            (
                report.scenarios,
                report.passed,
                report.per_second,
                round(report.virtual_ms / 1_000),
                report.blocks,
                report.envelopes,
                report.crashes,
                report.messages,
                report.lost,
                report.evidence,
            )
        ],
    )
    for failed in report.failures[:FAILURES_SHOWN_ITEMS_MAX]:
        if failed.violation is not None:
            violation = failed.violation
            typer.echo(
                f"seed {failed.seed} at {violation.at_ms} ms: {violation.check}: "
                f"{violation.sentence}"
            )


def _explain(seed: int, nodes: str, validators: int | None) -> None:
    from devnet.simulation.scenario import generate, in_words

    for line in in_words(generate(seed, nodes, validators)):
        typer.echo(line)


def _replay(path: Path, *, step: bool) -> None:
    from devnet.simulation.failure import read_failure, replay
    from devnet.simulation.scenario import in_words

    failure = read_failure(path)
    for line in in_words(failure.scenario):
        typer.echo(f"# {line}")
    for event in replay(failure):
        for line in event.lines:
            typer.echo(line)
        if step:
            typer.echo(f"  {' | '.join(event.nodes)}")
            if typer.prompt("Enter goes on, q ends", default="", show_default=False, err=True):
                return
    typer.echo(f"It happens again: at {failure.at_ms} ms {failure.check}: {failure.sentence}")
