"""What can go wrong with a cluster is said before or instead of half-starting it."""

import sys

import msgspec
import pytest

from devnet import processes
from devnet.cluster import Cluster
from devnet.faults import (
    CheckFailed,
    ClusterRunning,
    DemoFailed,
    DevnetFault,
    NoCluster,
    NotReadyInTime,
    ProcessDied,
    ReportUnreadable,
    UnknownNode,
)
from devnet.layout import ClusterState, Layout, NodeState
from devnet.replay import replay
from devnet.report import load_report, percentile
from node.faults import NotFound, RequestFault
from primitives.cid import cid_of
from storage import write_archive
from tests.genesis import make_genesis

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)  # evm-marker settlement.evm"]


def node(name="v0", pid=None):
    return NodeState(
        name=name,
        role="validator",
        index=0,
        api="http://127.0.0.1:9",
        p2p="/ip4/127.0.0.1/tcp/9/p2p/x",
        peer_id="x",
        evm_address="0x" + "00" * 20,
        pid=pid,
    )


def state(**changes):
    fields = {
        "network": "00" * 32,
        "chain_id": 1,
        "vault": "0x",
        "tokens": {},
        "evm": "http://127.0.0.1:9",
        "evm_kind": "embedded",
        "nodes": [node()],
        "traders": [],
    }
    return ClusterState(**(fields | changes))


def test_a_directory_without_a_cluster_says_how_to_make_one(tmp_path):
    with pytest.raises(NoCluster, match="outcry devnet up"):
        _ = Cluster(tmp_path).state


@pytest.mark.parametrize("data", [b"", b"[]", b'{"network": 5}', b"\xff", b" " * 2_000_000])
def test_a_damaged_cluster_file_is_refused(tmp_path, data):
    (tmp_path / "cluster.json").write_bytes(data)
    with pytest.raises(NoCluster):
        Layout(tmp_path).load()


def test_a_running_cluster_is_not_started_twice(tmp_path):
    pid = processes.start(SLEEPER, tmp_path / "log", {})
    try:
        cluster = Cluster(tmp_path)
        cluster.layout.save(state(evm_pid=pid))
        with pytest.raises(ClusterRunning, match="outcry devnet status"):
            cluster.up(None)
        cluster.down()
        assert processes.find(pid, "settlement.evm") is None
    finally:
        left = processes.find(pid, "settlement.evm")
        if left is not None:
            processes.kill(left)


def test_a_pid_that_belongs_to_somebody_else_is_left_alone(tmp_path):
    pid = processes.start(SLEEPER, tmp_path / "log", {})
    try:
        assert processes.find(pid, "another marker") is None
        assert processes.find(pid, "settlement.evm") is not None
    finally:
        processes.kill(processes.find(pid, "settlement.evm"))


def test_an_unknown_node_is_refused_with_the_known_ones(tmp_path):
    cluster = Cluster(tmp_path)
    cluster.layout.save(state())
    with pytest.raises(UnknownNode, match="there are v0"):
        cluster.kill("v9")


def test_a_process_that_dies_or_never_answers_is_reported_with_its_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("the reason")
    with pytest.raises(ProcessDied, match="the reason"):
        processes.wait_until(lambda: False, lambda: False, "it", log, 1_000)
    with pytest.raises(NotReadyInTime, match="the reason"):
        processes.wait_until(lambda: False, lambda: True, "it", log, 10)


@pytest.mark.parametrize("data", [None, b"", b"{}", b"\xff", b'{"network": 1}'])
def test_a_file_that_is_no_report_is_refused(tmp_path, data):
    path = tmp_path / "report.json"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ReportUnreadable):
        load_report(path)


def test_an_archive_without_a_chain_fails_the_check(tmp_path):
    path = tmp_path / "chain.car"
    block = b"\xa0"
    with path.open("wb") as file:
        write_archive(file, cid_of(block), [(cid_of(block), block)])
    with pytest.raises(CheckFailed, match="no blocks"):
        replay(path, make_genesis())


def test_all_of_them_can_be_caught_as_one():
    for kind in (DemoFailed, NoCluster, CheckFailed):
        with pytest.raises(DevnetFault):
            raise kind("as one")


def test_requests_of_clients_fail_as_one_kind():
    with pytest.raises(RequestFault):
        raise NotFound("as one")


def test_free_ports_are_different_and_free():
    ports = processes.free_ports(8)
    assert len(set(ports)) == 8
    assert all(processes.is_free(port) for port in ports)


def test_a_state_survives_its_file(tmp_path):
    layout = Layout(tmp_path)
    layout.save(state(nodes=[node("v0", 5), node("v1")]))
    assert msgspec.to_builtins(layout.load()) == msgspec.to_builtins(
        state(nodes=[node("v0", 5), node("v1")])
    )


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0.0), ([3.0], 0.99, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 3.0), ([2.0, 1.0], 1.0, 2.0)],
)
def test_percentiles_are_values_that_occurred(values, share, expected):
    assert percentile(values, share) == expected
