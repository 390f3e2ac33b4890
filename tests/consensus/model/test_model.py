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


def block_of(number, author, path):
    """A block whose round and height are its number."""
    qc = {"round": number - 1, "block": number - 1}
    return {str(number): {"round": number, "author": author, "qc": qc, "path": path}}


def test_who_lacks_the_highest_certified_block_shows_the_one_below():
    """No trace has this: with two honest voters among three nobody is left to learn from it."""
    cluster = Cluster([2, 1, 1, 1, 2], [0, 1, 2, 3, 4], [4])
    cluster.do({"kind": "propose", "who": [1], "block": 1}, block_of(1, 1, []))
    cluster.do({"kind": "proposal", "who": [0, 2, 3], "block": 1}, {})
    cluster.do({"kind": "certificate", "who": [2], "qc": {"round": 1, "block": 1}}, {})
    cluster.do({"kind": "propose", "who": [2], "block": 2}, block_of(2, 2, [1]))
    cluster.do({"kind": "proposal", "who": [0, 3], "block": 2}, {})
    cluster.do({"kind": "certificate", "who": [3], "qc": {"round": 2, "block": 2}}, {})
    cluster.do({"kind": "propose", "who": [3], "block": 3}, block_of(3, 3, [1, 2]))
    cluster.do({"kind": "proposal", "who": [0], "block": 3}, {})
    cluster.do({"kind": "certificate", "who": [2], "qc": {"round": 3, "block": 3}}, {})
    before = cluster.observed()
    assert (before["1"]["qc"], before["2"]["qc"]) == (0, 3)
    cluster.do({"kind": "chain", "who": [1], "voter": 2}, {})
    assert cluster.observed() == before | {"1": before["1"] | {"qc": 1, "round": 2}}
