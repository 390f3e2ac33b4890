"""The benchmark compares like with like: one order flow, the same trades in every engine."""

import pytest

from benchmarks.engine import OURS, measure
from benchmarks.workload import CANCEL, generate


@pytest.mark.parametrize("flow", ["mixed", "crossing"])
def test_a_seed_gives_one_flow(flow):
    first, again = (generate(flow, messages=400, seed=3) for _ in range(2))
    assert first == again
    assert first != generate(flow, messages=400, seed=4)


def test_the_mixed_flow_cancels_and_crosses_and_the_crossing_flow_only_places():
    mixed = generate("mixed", messages=6_000, seed=7)
    cancels = sum(side == CANCEL for _, _, side, _, _ in mixed.messages)
    assert 0.2 < cancels / len(mixed.messages) < 0.5
    crossing = generate("crossing", messages=2_000, seed=7)
    assert all(side != CANCEL for _, _, side, _, _ in crossing.messages)
    assert crossing.fills > mixed.fills / 6_000 * 2_000 > 0


def test_every_engine_makes_the_same_trades_or_the_benchmark_stops():
    rows = measure(messages=1_200, repetitions=1)
    assert {row.name for row in rows} == {f"{p}, {f}" for p in OURS for f in ("mixed", "crossing")}
    for row in rows:
        assert row.peer
        assert row.ratio == pytest.approx(row.ours / row.peer_value)
        assert len(row.samples) == 1
