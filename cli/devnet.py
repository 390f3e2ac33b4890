"""`outcry devnet`: a whole network on this machine."""

import shlex
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._output import check_folder, check_target, print_table
from cli._run import run, sigterm_interrupts
from cli.chaos import chaos
from cli.simulation import EXAMPLES, simulate
from cli.twins import EXAMPLES as TWINS_EXAMPLES
from cli.twins import twins

if TYPE_CHECKING:
    from devnet.cluster import Cluster
    from devnet.load import LoadReport
    from devnet.report import DemoReport

VALIDATORS_MAX = 16
GATEWAYS_MAX = 8
TRADERS_MAX = 1_024
LOAD_ORDERS_PER_SECOND_MAX = 20_000
LOAD_SECONDS_MAX = 86_400
LOAD_ACCOUNTS_MAX = 1_000
WATCH_PAUSE_S = 1.0
DIRECTORY = Path("devnet-state")
DEMO_DIRECTORY = DIRECTORY / "demo"
UP_DIRECTORY = DIRECTORY / "default"

app = typer.Typer(no_args_is_help=True)
app.command(epilog="Example: outcry devnet chaos --minutes 3 --seed 1")(chaos)
app.command(epilog=EXAMPLES)(simulate)
app.command(epilog=TWINS_EXAMPLES)(twins)

DirectoryOption = Annotated[
    Path, typer.Option("--dir", metavar="DIR", help="Where the cluster keeps its state.")
]
JsonFileOption = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON to FILE.")
]
EvmOption = Annotated[
    str, typer.Option("--evm", metavar="KIND", help="The chain: embedded, or anvil if it is here.")
]
ValidatorsOption = Annotated[
    int, typer.Option("--validators", min=1, max=VALIDATORS_MAX, help="How many validators.")
]


@app.command(epilog="Example: outcry devnet up --validators 5 --gateways 1")
def up(
    directory: DirectoryOption = UP_DIRECTORY,
    validators: ValidatorsOption = 5,
    gateways: Annotated[
        int, typer.Option(min=0, max=GATEWAYS_MAX, help="Nodes without a vote.")
    ] = 0,
    traders: Annotated[
        int, typer.Option(min=2, max=TRADERS_MAX, help="Accounts that get tokens and gas.")
    ] = 4,
    evm: EvmOption = "embedded",
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when all answer; stop it with: down.")
    ] = False,
    json_file: JsonFileOption = None,
) -> None:
    """Start a network, and keep it running until Ctrl-C.

    A directory that holds a network already is continued, with its history.
    """
    from devnet.cluster import Cluster

    check_target(json_file)
    check_folder(directory)
    cluster = Cluster(directory, _say)
    with _stopped_unless(cluster, keep=detach):
        cluster.up(_plan(validators, gateways, traders, evm))
        _show_cluster(cluster)
        _write(json_file, cluster.state)
        if detach:
            typer.echo(f"It runs on. Stop it with: outcry devnet down --dir {directory}")
            return
        typer.echo("Running. Ctrl-C stops it; its state stays.")
        _watch(cluster)


@app.command(epilog="Example: outcry devnet demo --json report.json")
def demo(
    directory: DirectoryOption = DEMO_DIRECTORY,
    validators: Annotated[
        int, typer.Option("--validators", min=2, max=VALIDATORS_MAX, help="How many validators.")
    ] = 5,
    evm: EvmOption = "embedded",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the network running afterwards.")
    ] = False,
    json_file: JsonFileOption = None,
) -> None:
    """Start a new network; two traders deposit, trade, talk and withdraw; print a report."""
    from devnet.cluster import Cluster
    from devnet.demo import run_demo
    from devnet.faults import ClusterRunning

    started = time.monotonic()
    check_target(json_file)
    check_folder(directory)
    cluster = Cluster(directory, _say)
    if cluster.layout.exists():
        if cluster.is_running():
            raise ClusterRunning(
                f"a demo runs in {directory}; stop it with: outcry devnet down --dir {directory}"
            )
        shutil.rmtree(cluster.layout.root)
        cluster = Cluster(directory, _say)
    with _stopped_unless(cluster, keep=keep):
        cluster.up(_plan(validators, 0, 4, evm))
        report = run(lambda: run_demo(cluster, _say))
        _write(json_file or cluster.layout.root / "report.json", report)
        _show_demo(report)
    typer.echo(f"The demo took {time.monotonic() - started:.1f} s.")
    where = shlex.quote(str(json_file or directory / "report.json"))
    typer.echo(f"Check it, until the next demo begins: .venv/bin/outcry devnet check {where}")


@app.command(epilog="Example: outcry devnet check report.json")
def check(
    report_file: Annotated[Path, typer.Argument(help="A report that `demo --json` wrote.")],
    json_file: JsonFileOption = None,
) -> None:
    """Ask every node and the chain again about a report, and replay its blocks offline.

    A network that does not run is started from its directory, and stopped afterwards.
    """
    from devnet.check import check_report
    from devnet.cluster import Cluster
    from devnet.creation import Plan
    from devnet.faults import CheckFailed
    from devnet.report import load_report
    from node.genesis import load_genesis

    report = load_report(report_file)
    cluster = Cluster(Path(report.directory), _say)
    running = cluster.is_running()
    with _stopped_unless(cluster, keep=running):
        if not running:
            cluster.up(Plan())
        genesis = load_genesis(cluster.layout.genesis)
        findings = run(lambda: check_report(report, cluster.state, genesis))
    _write(json_file, findings)
    print_table(
        "The report, checked",
        ["", "what", "seen"],
        [("ok" if item.holds else "FAIL", item.what, item.seen) for item in findings],
    )
    failed = [item.what for item in findings if not item.holds]
    if failed:
        raise CheckFailed(f"{len(failed)} of {len(findings)} checks failed: {failed[0]}")
    typer.echo(f"All {len(findings)} checks hold.")


@app.command(epilog="Example: outcry devnet status --json status.json")
def status(directory: DirectoryOption = UP_DIRECTORY, json_file: JsonFileOption = None) -> None:
    """Show what runs, how far it is, and the funded accounts."""
    from devnet.cluster import Cluster

    cluster = Cluster(directory, _say)
    _show_cluster(cluster)
    _write(json_file, cluster.state)


@app.command(epilog="Example: outcry devnet load --rate 500 --seconds 60")
def load(
    directory: DirectoryOption = UP_DIRECTORY,
    rate: Annotated[
        int, typer.Option(min=1, max=LOAD_ORDERS_PER_SECOND_MAX, help="Orders a second.")
    ] = 100,
    seconds: Annotated[int, typer.Option(min=1, max=LOAD_SECONDS_MAX, help="For how long.")] = 30,
    accounts: Annotated[
        int, typer.Option(min=1, max=LOAD_ACCOUNTS_MAX, help="From how many accounts.")
    ] = 100,
    json_file: JsonFileOption = None,
) -> None:
    """Send signed orders to a running network and measure when another node executed them."""
    from devnet.cluster import Cluster
    from devnet.faults import NoCluster
    from devnet.load import LoadPlan, run_load
    from node.genesis import load_genesis

    cluster = Cluster(directory, _say)
    if not cluster.is_running():
        raise NoCluster(f"no network runs in {directory}; start one with: outcry devnet up")
    genesis = load_genesis(cluster.layout.genesis)
    plan = LoadPlan(rate, seconds, accounts)
    report = run(lambda: run_load(cluster.state, genesis, plan, _say))
    _write(json_file, report)
    _show_load(report)


@app.command(epilog="Example: outcry devnet down")
def down(directory: DirectoryOption = UP_DIRECTORY, json_file: JsonFileOption = None) -> None:
    """Stop a network; its state stays."""
    from devnet.cluster import Cluster

    cluster = Cluster(directory, _say)
    cluster.down()
    _write(json_file, cluster.state)


# What they share


def _plan(validators: int, gateways: int, traders: int, evm: str) -> Any:
    from devnet.creation import Plan

    if evm not in ("embedded", "anvil"):
        raise typer.BadParameter(f"{evm!r} is no kind of chain; choose embedded or anvil")
    return Plan(validators, gateways, traders, evm)


@contextmanager
def _stopped_unless(cluster: "Cluster", *, keep: bool) -> Iterator[None]:
    """Stop the cluster however the block ends, SIGTERM included; with `keep` only if it fails."""
    with sigterm_interrupts(), cluster:
        yield
        if keep:
            cluster.release()


def _watch(cluster: "Cluster") -> None:
    """Wait for Ctrl-C; say it when a process dies meanwhile."""
    told: set[str] = set()
    try:
        while True:
            time.sleep(WATCH_PAUSE_S)
            dead = set(cluster.dead())
            if not cluster.is_running():
                typer.echo("all processes have ended: stopped from elsewhere", err=True)
                cluster.release()
                return
            for name in sorted(dead - told):
                typer.echo(f"{name} has ended; its log: {cluster.log(name)}", err=True)
            told = dead
    except KeyboardInterrupt:
        typer.echo("\nstopping", err=True)


def _say(message: str) -> None:
    typer.echo(f"  {message}", err=True)


def _write(path: Path | None, value: Any) -> None:
    if path is None:
        return
    import msgspec

    from primitives.durable import replace_file

    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    replace_file(path.absolute(), data + b"\n")


def _show_cluster(cluster: "Cluster") -> None:
    state = cluster.state
    running = {node.name: cluster.height(node.name) for node in state.nodes}
    print_table(
        f"network {state.network[:16]}  chain {state.chain_id} at {state.evm}",
        ["node", "role", "pid>", "height>", "API", "peer address"],
        [
            (
                node.name,
                node.role,
                node.pid or "-",
                "-" if running[node.name] is None else running[node.name],
                node.api,
                node.p2p,
            )
            for node in state.nodes
        ],
    )
    print_table(
        "funded accounts (for play only)",
        ["name", "address", "EVM private key"],
        [(item.name, item.address, item.evm_secret) for item in state.traders],
    )


def _show_load(report: "LoadReport") -> None:
    latency = report.latency_ms
    print_table(
        "load",
        [
            "rate>",
            "sent>",
            "accepted>",
            "executed>",
            "per second>",
            "p50 ms>",
            "p99 ms>",
            "seen by",
        ],
        [
            (
                report.rate,
                report.sent,
                report.accepted,
                report.executed,
                report.executed_per_second,
                latency.p50,
                latency.p99,
                report.observer,
            )
        ],
    )
    if report.refused:
        typer.echo(f"refused: {report.refused}")


def _show_demo(report: "DemoReport") -> None:
    from devnet.creation import TOKENS

    print_table(
        "validators",
        ["id", "pid>", "height>", "checkpoint>", "root", "peers>", "memory MB>"],
        [
            (
                item.id,
                item.pid,
                item.height,
                item.checkpoint_height,
                item.checkpoint_root[:16],
                item.peers,
                item.rss_mb,
            )
            for item in report.validators
        ],
    )
    latency = report.latency_ms
    typer.echo(
        f"{len(report.fills)} fills; an order was executed on another node after "
        f"{latency.p50} ms (median of {latency.count}), {latency.p99} ms (p99)."
    )
    print_table(
        "on chain",
        ["what", "block>", "gas>", "transaction"],
        [(item.what, item.block, item.gas, item.tx) for item in report.settlement],
    )
    decimals = {token.symbol: token.decimals for token in TOKENS}

    def amount(units: int, token: str) -> Decimal:
        return Decimal(units).scaleb(-decimals[token])

    print_table(
        "balances on chain",
        ["trader", "token", "before>", "after>", "change>"],
        [
            (
                item.trader,
                item.token,
                f"{amount(item.before, item.token):,}",
                f"{amount(item.after, item.token):,}",
                f"{amount(item.after - item.before, item.token):+,}",
            )
            for item in report.balances
        ],
    )
    typer.echo("What the traders together lost are the exchange's fees.")
    same = "the same on all nodes" if report.chat.equal_on_all_nodes else "NOT the same everywhere"
    typer.echo(f"room {report.chat.room}: {len(report.chat.messages)} messages, {same}")
    for text in report.chat.messages:
        typer.echo(f"  > {text}")
