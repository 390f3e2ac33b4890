"""Worlds of real replicas on virtual time: they agree, survive, and happen the same way twice."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from devnet.simulation import Disturbance, Drift, Scenario, Submission, Weather, World, generate
from devnet.simulation.scenario import EAGER

ROOT = Path(__file__).resolve().parents[3]
SOME_SEEDS = (1, 8, 11, 23)


def calm(count: int, *disturbances: Disturbance, heal_ms: int = 2_000) -> Scenario:
    """A scenario without anything wrong but `disturbances`; one envelope every 100 ms."""
    load = [Submission(at, at // 100, (at // 100 % count,)) for at in range(100, heal_ms, 100)]
    return Scenario(
        seed=1,
        nodes="agreement",
        signatures="stand-in",
        powers=(1,) * count,
        timing=EAGER,
        epoch_ms=0,
        weather=Weather(),
        drifts=(Drift(),) * count,
        liars=(),
        dead=(),
        disturbances=disturbances,
        load=tuple(load),
        heal_ms=heal_ms,
    )


@pytest.mark.parametrize("count", [4, 5, 7, 16])
def test_validators_commit_together(count: int) -> None:
    heal_ms = 600 if count == 16 else 1_500  # sixteen are slow to simulate
    world = World(calm(count, heal_ms=heal_ms))
    outcome = world.run()
    assert outcome.violation is None
    assert outcome.executed == heal_ms // 100 - 1
    heights = [len(history.blocks) for history in world.histories().values()]
    assert len(heights) == count
    assert min(heights) > 10


@pytest.mark.parametrize("seed", SOME_SEEDS)
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    one, other = World(generate(seed)).run(), World(generate(seed)).run()
    assert one == other
    assert one.trace_lines > 100


def test_another_seed_gives_another_trace() -> None:
    hashes = {World(generate(seed, count=4)).run().trace_hash for seed in SOME_SEEDS}
    assert len(hashes) == len(SOME_SEEDS)


@pytest.mark.parametrize("nodes", ["agreement", "full"])
def test_a_trace_does_not_depend_on_the_process(nodes: str) -> None:
    """Neither on the order of sets and dictionaries, which PYTHONHASHSEED changes."""
    program = (
        "from devnet.simulation import run_seed\n"
        f"print([run_seed(s, {nodes!r}, 4).trace_hash for s in (3, 9)])"
    )
    seen = set()
    for hash_seed in ("1", "77"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
            cwd=ROOT,
        )
        seen.add(done.stdout)
    assert len(seen) == 1


def test_the_signature_scheme_changes_only_bytes() -> None:
    scenario = calm(4)
    one = World(scenario)
    other = World(replace(scenario, signatures="ed25519"))
    assert (one.run().height, one.outcome().executed) == (
        other.run().height,
        other.outcome().executed,
    )
    assert one.histories()[0].blocks != other.histories()[0].blocks


@pytest.mark.parametrize("point", ["now", "effects", "lost", "torn", "behind"])
@pytest.mark.parametrize("kind", ["crash", "blackout"])
def test_a_crash_at_any_point_is_survived(kind: str, point: str) -> None:
    nodes = (1,) if kind == "crash" else (0, 1, 2, 3)
    world = World(calm(4, Disturbance(kind, 500, 900, nodes, 1, point)))
    outcome = world.run()
    assert outcome.violation is None
    assert outcome.crashes == len(nodes)
    assert outcome.executed >= 14  # what was handed to a node that was down got no receipt


def test_a_partition_stops_the_smaller_side_only_until_it_heals() -> None:
    world = World(calm(4, Disturbance("partition", 300, 1_500, (3,))))
    world.run_for(1_400)
    heights = {index: len(item.blocks) for index, item in world.histories().items()}
    assert heights[3] < min(heights[index] for index in (0, 1, 2))
    assert world.run().violation is None


def test_without_a_quorum_nothing_is_committed_until_it_is_back() -> None:
    world = World(calm(4, Disturbance("partition", 300, 1_900, (2, 3))))
    world.run_for(400)
    before = max(len(item.blocks) for item in world.histories().values())
    world.run_for(1_400)
    assert max(len(item.blocks) for item in world.histories().values()) <= before + 2
    assert world.run().violation is None


def test_one_deaf_direction_is_survived() -> None:
    world = World(calm(4, Disturbance("one-way", 100, 1_900, (0, 1))))
    outcome = world.run()
    assert outcome.violation is None
    assert outcome.lost > 10


def test_a_paused_process_does_nothing_and_catches_up() -> None:
    world = World(calm(4, Disturbance("pause", 300, 1_500, (2,))), keep=True)
    assert world.run().violation is None
    times = [int(line.split()[0]) for line in world.trace.lines if " v2 says " in line]
    assert not [time for time in times if 310 < time < 1_500]
    assert [time for time in times if time >= 1_500]


def test_a_full_disk_ends_the_process_until_there_is_room() -> None:
    world = World(calm(4, Disturbance("full-disk", 300, 1_200, (1,))), keep=True)
    assert world.run().violation is None
    ends = [line for line in world.trace.lines if " v1 ends" in line]
    assert ends
    assert "full" in ends[0]
    assert "1200 v1 starts" in world.trace.lines


def test_a_slow_disk_holds_a_nodes_words_back() -> None:
    fast, slow = World(calm(4)), World(calm(4, Disturbance("slow-disk", 0, 1_900, (0, 1, 2), 300)))
    assert fast.run().violation is None
    assert slow.run().violation is None
    assert slow.trace.count < fast.trace.count


@pytest.mark.parametrize("jump_ms", [-1_500, 1_500])
def test_a_clock_that_jumps_harms_nobody(jump_ms: int) -> None:
    world = World(calm(4, Disturbance("clock-jump", 500, 600, (1,), jump_ms)))
    assert world.run().violation is None


def test_a_validator_that_is_dead_never_starts() -> None:
    world = World(replace(calm(4), dead=(3,)), keep=True)
    outcome = world.run()
    assert outcome.violation is None
    assert not [line for line in world.trace.lines if " v3 " in line]


def test_a_receipt_comes_only_after_the_flush() -> None:
    world = World(calm(4, Disturbance("crash", 0, 1_000, (0,), 0, "lost")))
    world.run_for(50)
    name = world.submit(900, (0,))
    world.run_for(100)
    assert name not in world.facts.accepted  # the power failed with the write that held it
    other = world.submit(901, (1,))
    world.run_for(100)
    assert world.facts.accepted[other] == {1}


def test_who_was_away_catches_up_without_a_pause_for_every_batch() -> None:
    """Batches hold envelopes that it never saw, so it asks for those of each."""
    world = World(calm(4, Disturbance("crash", 200, 3_000, (3,), 1, "now"), heal_ms=3_000))
    world.run_for(4_200)
    histories = world.histories()
    assert sum(map(bool, histories[0].batches)) > 15
    executed = sum(map(len, histories[3].batches))
    assert executed == sum(map(len, histories[0].batches))
