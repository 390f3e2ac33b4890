"""Real replicas do what the model in docs/model does, step by step."""

import json
from pathlib import Path

import pytest

from tests.consensus.model.replay import Cluster

TRACES = json.loads(Path(__file__).with_name("traces.json").read_text())
KINDS = {
    "propose", "byzantine", "proposal", "vote", "certificate", "timer", "timeout",
    "timeout_certificate", "chain", "restart",
}  # fmt: skip


def replay(trace):
    """Do the trace; the number and kind of the first step after which somebody differs."""
    cluster = Cluster(trace["powers"], trace["leaders"], trace["byzantine"])
    expected = {}
    signed = {"votes": [], "timeouts": []}
    for number, state in enumerate(trace["states"]):
        cluster.do(state["step"], state["blocks"])
        expected |= state["nodes"]
        for kind, slots in state["signed"].items():
            signed[kind] = sorted(signed[kind] + slots)
        where = f"step {number}: {state['step']}"
        assert cluster.observed() == expected, where
        assert cluster.signed() == signed, where


@pytest.mark.parametrize("trace", TRACES, ids=lambda t: f"{t['network']}-{t['seed']}")
def test_replicas_follow_the_model(trace):
    replay(trace)


def test_the_traces_take_every_kind_of_step():
    steps = [state["step"]["kind"] for trace in TRACES for state in trace["states"]]
    assert set(steps) == KINDS


def test_the_traces_commit_skip_rounds_and_certify_two_branches():
    blocks = [
        {number: block for state in trace["states"] for number, block in state["blocks"].items()}
        for trace in TRACES
    ]
    heights = [
        max(node["height"] for state in trace["states"] for node in state["nodes"].values())
        for trace in TRACES
    ]
    assert sum(height > 0 for height in heights) >= 10
    assert max(heights) >= 3
    assert any(block["tc"]["round"] > 0 for made in blocks for block in made.values())


@pytest.mark.parametrize("field", ["round", "last_voted", "height"])
def test_a_replay_notices_a_replica_that_differs(field):
    trace = json.loads(json.dumps(TRACES[0]))
    for state in reversed(trace["states"]):
        if state["nodes"]:
            next(iter(state["nodes"].values()))[field] += 1
            break
    with pytest.raises(AssertionError, match="step"):
        replay(trace)
