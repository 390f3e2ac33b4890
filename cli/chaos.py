"""`outcry devnet chaos`: what becomes of a network whose validators die, hang and lose touch."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli._output import check_folder, check_target, print_table
from cli._run import run

if TYPE_CHECKING:
    from devnet.chaos import ChaosReport
    from devnet.cluster import Cluster

MINUTES_MIN = 0.2
MINUTES_MAX = 1_440.0
SEED_BITS_MAX = 63
ORDERS_PER_SECOND_MAX = 5_000
ACCOUNTS = 40
VALIDATORS_MAX = 16
DELAY_MS_MAX = 2_000
LOSS_PPM_MAX = 200_000
DIRECTORY = Path("devnet-state") / "chaos"


def chaos(
    minutes: Annotated[
        float, typer.Option(min=MINUTES_MIN, max=MINUTES_MAX, help="How long faults go on.")
    ] = 3.0,
    seed: Annotated[
        int,
        typer.Option(min=0, max=(1 << SEED_BITS_MAX) - 1, help="The same seed, the same schedule."),
    ] = 1,
    validators: Annotated[
        int, typer.Option(min=4, max=VALIDATORS_MAX, help="How many, in a new network.")
    ] = 5,
    rate: Annotated[
        int, typer.Option(min=1, max=ORDERS_PER_SECOND_MAX, help="Orders a second.")
    ] = 100,
    blackout: Annotated[
        bool, typer.Option("--blackout", help="Also kill everybody at once, and bring all back.")
    ] = False,
    network: Annotated[
        bool, typer.Option("--network", help="Namespaces with real latency and loss; needs root.")
    ] = False,
    delay: Annotated[
        int, typer.Option(min=0, max=DELAY_MS_MAX, help="With --network: ms, one way.")
    ] = 10,
    jitter: Annotated[
        int, typer.Option(min=0, max=DELAY_MS_MAX, help="With --network: +- ms.")
    ] = 3,
    loss: Annotated[
        int, typer.Option(min=0, max=LOSS_PPM_MAX, help="With --network: packets in a million.")
    ] = 1_000,
    directory: Annotated[
        Path, typer.Option("--dir", metavar="DIR", help="Where the cluster keeps its state.")
    ] = DIRECTORY,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE."),
    ] = None,
) -> None:
    """Kill, pause, cut off and restart validators under load; check that nothing was lost.

    A network that runs in the directory is taken over, and runs on afterwards, restarted.
    """
    from cli.devnet import _say, _stopped_unless, _write
    from devnet.chaos import ChaosPlan, run_chaos
    from devnet.cluster import Cluster
    from devnet.creation import Plan
    from devnet.namespaces import Weather

    weather = Weather(delay, jitter, loss) if network else None
    plan = ChaosPlan(minutes, seed, rate, ACCOUNTS, blackout, weather)
    check_target(json_file)
    check_folder(directory)
    cluster = Cluster(directory, _say)
    taken_over = cluster.layout.exists() and cluster.is_running()
    if taken_over:
        _say(f"taking over the network in {directory}")
        cluster.down()
    started = time.monotonic()
    with _stopped_unless(cluster, keep=taken_over):
        report = run_chaos(cluster, Plan(validators, 0, 4), plan, _say, run)
        _write(json_file, report)
        if taken_over:
            cluster.start_nodes()
    show(report, cluster)
    typer.echo(f"It took {time.monotonic() - started:.0f} s.")
    judge(report)


def judge(report: "ChaosReport") -> None:
    """Say it when all is well. Errors: `ChaosFailed` when it is not."""
    from devnet.faults import ChaosFailed

    wrong = [item for item in report.findings if not item.holds]
    if wrong:
        raise ChaosFailed(
            f"{len(wrong)} of {len(report.findings)} findings are wrong, first: {wrong[0].what} "
            f"({wrong[0].seen}); read {report.directory}/nodes/*/node.log, then repeat with "
            f"--seed {report.seed}"
        )
    typer.echo(
        f"Nothing lost: {report.orders.receipts} orders with a receipt are executed on all "
        f"nodes, after {len(report.done)} faults; all have equal checkpoints."
    )


def show(report: "ChaosReport", cluster: "Cluster") -> None:
    """The report as tables."""
    print_table(
        f"seed {report.seed}, {report.minutes:g} minutes; {report.links}",
        ["what", "who", "at s>", "healed s>", "answering ms>", "voting again ms>", "caught up ms>"],
        [
            (
                item.kind,
                " ".join(item.who),
                item.began_s,
                item.healed_s,
                _slowest(item.answering_ms),
                _slowest(item.voting_ms),
                _slowest(item.caught_up_ms),
            )
            for item in report.done
        ],
    )
    print_table(
        "throughput",
        ["window", "from s>", "to s>", "orders/s>", "blocks/s>", "longest gap ms>"],
        [
            (
                item.name,
                item.from_s,
                item.to_s,
                item.orders_per_second,
                item.blocks_per_second,
                item.longest_gap_ms,
            )
            for item in report.windows
        ],
    )
    counts = report.orders
    print_table(
        "orders",
        ["made>", "receipts>", "executed>", "lost>", "attempts>", "unknown>", "refused"],
        [
            (
                counts.made,
                counts.receipts,
                report.executed,
                report.lost,
                counts.attempts,
                counts.unknown,
                counts.refused or "-",
            )
        ],
    )
    print_table(
        f"findings about {len(cluster.state.nodes)} nodes",
        ["", "what", "seen"],
        [("ok" if item.holds else "FAIL", item.what, item.seen) for item in report.findings],
    )
    typer.echo(_figures(report))


def _figures(report: "ChaosReport") -> str:
    from devnet.chaos.report import ONE_DEAD_RATIO_AIM, VOTING_MS_AIM

    times = [value for value in report.voting_ms_after_kill if value is not None]
    slowest = f"{max(times)} ms at most, of {len(times)}" if times else "not measured"
    ratio = "not measured" if report.one_dead_ratio is None else f"{report.one_dead_ratio:.2f}"
    return (
        f"voting again after kill -9: {slowest} (aim {VOTING_MS_AIM} ms); throughput with one "
        f"dead over fault-free: {ratio} (aim {ONE_DEAD_RATIO_AIM})"
    )


def _slowest(values: dict[str, int | None]) -> str:
    numbers = [value for value in values.values() if value is not None]
    return "never" if len(numbers) < len(values) else str(max(numbers))
