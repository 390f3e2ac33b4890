"""Five real validators on this machine: throughput, latency at an observer, one of them dead.

The peer of the throughput row is `benchmarks.ceiling`: five processes that verify every signature,
vote, and do nothing else. Whatever agreement, sequencing, matching, storage, HTTP and encryption
cost lies in between. Throughput is looked for by asking for more and more until the network no
longer keeps up; the best of these loads is shown.
"""

import tempfile
from pathlib import Path

import trio

from benchmarks.ceiling import MEMBERS, Ceiling, measure_ceiling
from benchmarks.rows import Row
from devnet.cluster import Cluster
from devnet.creation import Plan
from devnet.load import LoadPlan, LoadReport, run_load
from node.genesis import load_genesis

VALIDATORS = MEMBERS
ACCOUNTS = 100
SECONDS = 30
WARM_UP_SECONDS = 5
LATENCY_RATE = 100
LATENCY_MS_MAX = 100.0
RATES = (1_000, 1_500, 2_000, 2_500, 3_000, 4_000)  # asked for in turn, until one is too much
KEPT_UP_SHARE = 0.95  # of what was asked for; less, and the network did not keep up
FAULT_RATE = 600
FAULT_SECONDS = 30
KILL_AFTER_SECONDS = 5
RECOVERY_SECONDS = 10  # what happens so long after a validator died is not counted
_VICTIM = "v1"


def measure(seconds: int = SECONDS) -> list[Row]:
    """Start a cluster, load it, kill one validator, stop it; beside it the ceiling."""
    ceiling = measure_ceiling()
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory) / "cluster") as cluster,
    ):
        cluster.up(Plan(validators=VALIDATORS))
        _load(cluster, LoadPlan(LATENCY_RATE, WARM_UP_SECONDS, ACCOUNTS))
        latency = _load(cluster, LoadPlan(LATENCY_RATE, seconds, ACCOUNTS))
        loads = _saturate(cluster, seconds)
        memory = [round(cluster.rss_mb(node.name), 1) for node in cluster.state.nodes]
        whole = _load(cluster, _fault_plan())
        broken = trio.run(_load_and_kill, cluster)
    best = max(loads, key=lambda report: report.executed_per_second)
    return [
        *_throughput_rows(loads, best, ceiling),
        Row(
            name=f"cluster: submit to executed, p50 at {LATENCY_RATE} orders/s",
            ours=latency.latency_ms.p50,
            peer="limit",
            peer_value=LATENCY_MS_MAX,
            ratio=round(latency.latency_ms.p50 / LATENCY_MS_MAX, 3),
            unit="ms",
            samples=[latency.latency_ms.p50],
        ),
        _fault_row(whole, broken),
        Row(
            name="cluster: memory of the largest validator afterwards",
            ours=max(memory),
            peer="limit",
            peer_value=400.0,
            ratio=round(max(memory) / 400.0, 3),
            unit="MB",
            samples=memory,
        ),
    ]


def _throughput_rows(loads: list[LoadReport], best: LoadReport, ceiling: Ceiling) -> list[Row]:
    return [
        Row(
            name="cluster: orders/s committed and executed, seen by a node that did not take them",
            ours=best.executed_per_second,
            peer="ceiling: signatures and votes only",
            peer_value=round(ceiling.per_second, 1),
            ratio=round(best.executed_per_second / ceiling.per_second, 3),
            unit="orders/s",
            samples=[report.executed_per_second for report in loads],
        ),
        Row(
            name="cluster: processor time of all five for one order",
            ours=best.cpu_ms_per_order,
            peer="ceiling: signatures and votes only",
            peer_value=round(ceiling.cpu_ms, 3),
            ratio=round(best.cpu_ms_per_order / ceiling.cpu_ms, 3),
            unit="ms",
            samples=[report.cpu_ms_per_order for report in loads],
        ),
    ]


def _fault_row(whole: LoadReport, broken: LoadReport) -> Row:
    """Both over the same seconds of their loads."""
    rates = [_steady_rate(report) for report in (whole, broken)]
    return Row(
        name=f"cluster: orders/s of {FAULT_RATE}, {RECOVERY_SECONDS} s after one of five died",
        ours=rates[1],
        peer="all five alive",
        peer_value=rates[0],
        ratio=round(rates[1] / max(rates[0], 1.0), 3),
        unit="orders/s",
        samples=[rates[1]],
    )


def _steady_rate(report: LoadReport) -> float:
    """Executions a second, from when the network should have recovered until the load ended."""
    first, last = KILL_AFTER_SECONDS + RECOVERY_SECONDS, FAULT_SECONDS
    return round(sum(report.executed_in_second[first:last]) / (last - first), 1)


def _saturate(cluster: Cluster, seconds: int) -> list[LoadReport]:
    """Loads of rising rates, up to the first that the network does not keep up with."""
    reports = []
    for rate in RATES:
        reports.append(_load(cluster, LoadPlan(rate, seconds, ACCOUNTS)))
        if reports[-1].executed_per_second < KEPT_UP_SHARE * rate:
            break
    return reports


def _fault_plan() -> LoadPlan:
    return LoadPlan(FAULT_RATE, FAULT_SECONDS, ACCOUNTS, spare=_VICTIM)


async def _load_and_kill(cluster: Cluster) -> LoadReport:
    """One load, in the midst of which a validator is killed."""
    killing = trio.Event()

    async def kill() -> None:
        await killing.wait()
        await trio.sleep(KILL_AFTER_SECONDS)
        await trio.to_thread.run_sync(cluster.kill, _VICTIM)

    def progress(message: str) -> None:
        if message.startswith("sending"):
            killing.set()

    genesis = load_genesis(cluster.layout.genesis)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kill)
        return await run_load(cluster.state, genesis, _fault_plan(), progress)


def _load(cluster: Cluster, plan: LoadPlan) -> LoadReport:
    genesis = load_genesis(cluster.layout.genesis)
    return trio.run(run_load, cluster.state, genesis, plan, lambda _: None)
