"""Batches of seeds: those that failed once, some every time, and many where there is time.

`OUTCRY_LONG_MINUTES` bounds the long batch; the seeds of every run start where the last one of
`OUTCRY_LONG_FIRST_SEED` says, so that many machines can share the work.
"""

import json
import os
from pathlib import Path

import pytest

from devnet.simulation import KINDS, World, generate, run_range
from devnet.simulation.outcome import Outcome

FAILED = json.loads(Path(__file__).with_name("seeds.json").read_text())
AGREEMENT_SEEDS, FULL_SEEDS, GROUP_SEEDS = 60, 10, 10
LONG_MINUTES = 60.0
LONG_FIRST_SEED = 1_000_000


def sentences(outcomes: list[Outcome]) -> list[str]:
    return [f"seed {o.seed} {o.nodes}: {o.violation}" for o in outcomes]


@pytest.mark.parametrize("first", range(0, AGREEMENT_SEEDS, GROUP_SEEDS))
def test_seeds_of_the_agreement_pass(first: int) -> None:
    report = run_range(first, first + GROUP_SEEDS)
    assert sentences(report.failures) == []
    assert report.passed == GROUP_SEEDS
    assert report.messages > 1_000


@pytest.mark.parametrize("first", range(0, FULL_SEEDS, GROUP_SEEDS // 2))
def test_seeds_of_full_nodes_pass(first: int) -> None:
    report = run_range(first, first + GROUP_SEEDS // 2, "full")
    assert sentences(report.failures) == []
    assert report.passed == GROUP_SEEDS // 2


def test_every_seed_that_ever_failed_passes() -> None:
    """An entry of the list also says which check failed, and why."""
    failed = []
    for entry in FAILED:
        assert {"seed", "nodes", "check", "why"} <= entry.keys()
        assert entry["nodes"] in KINDS
        failed.append(World(generate(entry["seed"], entry["nodes"])).run())
    assert sentences([outcome for outcome in failed if outcome.violation is not None]) == []


@pytest.mark.long
@pytest.mark.parametrize("nodes", KINDS)
def test_an_hour_of_seeds_passes(nodes: str) -> None:
    minutes = float(os.environ.get("OUTCRY_LONG_MINUTES", LONG_MINUTES)) / len(KINDS)
    first = int(os.environ.get("OUTCRY_LONG_FIRST_SEED", LONG_FIRST_SEED))
    workers = os.cpu_count() or 1
    report = run_range(first, first + 10**8, nodes, workers=workers, seconds_max=minutes * 60)
    assert sentences(report.failures) == []
    assert report.scenarios > 0
