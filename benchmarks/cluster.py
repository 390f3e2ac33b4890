"""Five real validators on this machine: throughput, and latency at an observer.

The peer of the throughput row is the ceiling that signatures set: how many Ed25519 verifications
per second this machine does on its two cores, divided by the five nodes that each verify every
order. Whatever agreement, sequencing, matching, storage and the network cost lies in between.
"""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import trio

from benchmarks.rows import Row
from devnet.cluster import Cluster
from devnet.creation import Plan
from devnet.load import LoadPlan, LoadReport, run_load
from node.genesis import load_genesis
from primitives import ed25519

VALIDATORS = 5
ACCOUNTS = 100
SECONDS = 60
WARM_UP_SECONDS = 5
THROUGHPUT_RATE = 600  # what is asked for; the figure to reach is 500
LATENCY_RATE = 100
_CORES = 2
_VERIFICATIONS = 4_000


def verification_ceiling() -> float:
    """Ed25519 verifications per second over all cores, by threads."""
    key = ed25519.SigningKey(bytes(32))
    message = bytes(120)
    signature = key.sign(message)

    def verify_some(count: int) -> None:
        for _ in range(count):
            ed25519.verify(key.public, message, signature)

    with ThreadPoolExecutor(_CORES) as pool:
        started = perf_counter()
        list(pool.map(verify_some, [_VERIFICATIONS // _CORES] * _CORES))
        return _VERIFICATIONS / (perf_counter() - started)


def measure(seconds: int = SECONDS) -> list[Row]:
    """Start a cluster, load it twice, stop it; two rows."""
    ceiling = verification_ceiling() / VALIDATORS
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory) / "cluster") as cluster,
    ):
        cluster.up(Plan(validators=VALIDATORS))
        _load(cluster, LATENCY_RATE, WARM_UP_SECONDS)
        latency = _load(cluster, LATENCY_RATE, seconds)
        throughput = _load(cluster, THROUGHPUT_RATE, seconds)
        memory = [round(cluster.rss_mb(node.name), 1) for node in cluster.state.nodes]
    return [
        Row(
            name="cluster: orders/s committed and executed, seen by a node that did not take them",
            ours=throughput.executed_per_second,
            peer="Ed25519 verifications/s of this machine / 5 nodes",
            peer_value=round(ceiling, 1),
            ratio=round(throughput.executed_per_second / ceiling, 3),
            unit="orders/s",
            samples=[throughput.executed_per_second],
        ),
        Row(
            name=f"cluster: submit to executed, p50 at {LATENCY_RATE} orders/s",
            ours=latency.latency_ms.p50,
            peer="limit",
            peer_value=250.0,
            ratio=round(latency.latency_ms.p50 / 250.0, 3),
            unit="ms",
            samples=[latency.latency_ms.p50],
        ),
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


def _load(cluster: Cluster, rate: int, seconds: int) -> LoadReport:
    genesis = load_genesis(cluster.layout.genesis)
    plan = LoadPlan(rate, seconds, ACCOUNTS)
    return trio.run(run_load, cluster.state, genesis, plan, lambda _: None)
