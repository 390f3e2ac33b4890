"""How many simulations this machine's one core does a minute, and how fast a validator returns.

Processor time of this process is what counts, so that other work on the machine changes little.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx

from benchmarks.rows import Row
from devnet.cluster import Cluster
from devnet.creation import Plan as ClusterPlan
from devnet.simulation import World, generate
from devnet.simulation.crashes import run_crash_points
from devnet.simulation.scenario import EAGER, Scenario
from devnet.simulation.twins import Plan, sweep

TWINS_SCENARIOS = 1_000
TWINS_A_MINUTE = 6_000.0
FULL_SCENARIOS = 60
FULL_A_MINUTE = 600.0
FULL_HEAL_MS = 400
FULL_ENVELOPES = 12
CRASH_POINTS = 500
SEED = 1
KILLS = 3
RETURN_S = 5.0
RETURN_S_MAX = 60.0
LOOK_PAUSE_S = 0.05
HISTORY_S = 20.0  # the cluster has run so long before anybody is killed
_ROUNDS_BEHIND_MAX = 3
_SECONDS_A_MINUTE = 60.0


def measure() -> list[Row]:
    """The rows of the simulator, and of a validator that was killed."""
    return [
        _a_minute(
            "Twins scenarios, n = 4, agreement only", _twins, TWINS_SCENARIOS, TWINS_A_MINUTE
        ),
        _a_minute("whole nodes: four, a crash, 12 orders", _whole, FULL_SCENARIOS, FULL_A_MINUTE),
        _a_minute("crash points with torn writes", _crashes, CRASH_POINTS, None),
        _return_row(),
    ]


def _a_minute(name: str, work: Callable[[], None], count: int, wanted: float | None) -> Row:
    began = time.process_time()
    work()
    rate = count * _SECONDS_A_MINUTE / (time.process_time() - began)
    return Row(
        name=f"simulator: {name}",
        ours=round(rate),
        peer="" if wanted is None else "aim",
        peer_value=wanted,
        ratio=None if wanted is None else round(rate / wanted, 2),
        unit="a minute and core",
        samples=[round(rate)],
    )


def _twins() -> None:
    report = sweep(Plan(4, scenarios=TWINS_SCENARIOS, seed=SEED, envelopes_every=0))
    if report.failed:
        raise AssertionError(f"{report.failed} Twins scenarios failed; run: outcry devnet twins")


def short_scenario(seed: int) -> Scenario:
    """About as much as a Twins scenario has, on whole nodes: one crash, bad weather, orders."""
    whole = generate(seed, "full", 4)
    crash = [item for item in whole.disturbances if item.kind == "crash"][:1]
    return replace(
        whole,
        timing=EAGER,
        disturbances=tuple(
            replace(item, at_ms=FULL_HEAL_MS // 4, until_ms=FULL_HEAL_MS // 2) for item in crash
        ),
        load=tuple(replace(item, at_ms=min(item.at_ms, FULL_HEAL_MS)) for item in whole.load)[
            :FULL_ENVELOPES
        ],
        heal_ms=FULL_HEAL_MS,
    )


def _whole() -> None:
    for seed in range(SEED, SEED + FULL_SCENARIOS):
        outcome = World(short_scenario(seed)).run()
        if outcome.violation is not None:
            raise AssertionError(f"seed {seed}: {outcome.violation}")


def _crashes() -> None:
    report = run_crash_points(SEED, CRASH_POINTS)
    if report.contradictions:
        raise AssertionError(f"contradictory signatures: {report.contradictions[:3]}")


def _return_row() -> Row:
    """Seconds from starting a killed validator to a vote of it that another one has heard."""
    with (
        tempfile.TemporaryDirectory() as directory,
        Cluster(Path(directory) / "cluster") as cluster,
    ):
        cluster.up(ClusterPlan(validators=5))
        time.sleep(HISTORY_S)
        samples = [_kill_and_wait(cluster, f"v{1 + number}") for number in range(KILLS)]
    worst = max(samples)
    return Row(
        name="cluster: voting again after kill -9, the slowest, idle network",
        ours=worst,
        peer="limit",
        peer_value=RETURN_S,
        ratio=round(worst / RETURN_S, 2),
        unit="s",
        samples=samples,
    )


def _kill_and_wait(cluster: Cluster, name: str) -> float:
    metrics = f"{cluster.node('v0').api}/metrics"
    cluster.kill(name)
    while _behind(metrics, name) <= 2 * _ROUNDS_BEHIND_MAX:
        time.sleep(LOOK_PAUSE_S)
    began = time.monotonic()
    cluster.start_node(name, wait=False)
    while _behind(metrics, name) > _ROUNDS_BEHIND_MAX:
        if time.monotonic() - began > RETURN_S_MAX:
            raise AssertionError(f"{name} does not vote again")
        time.sleep(LOOK_PAUSE_S)
    took = round(time.monotonic() - began, 2)
    cluster.wait_all()
    return took


def _behind(metrics: str, name: str) -> int:
    start = f'outcry_validator_rounds_behind{{validator="{name}"}} '
    for line in httpx.get(metrics, trust_env=False).text.splitlines():
        if line.startswith(start):
            return int(float(line.removeprefix(start)))
    return 0
