"""Statistics become metrics with the names that Prometheus expects."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass

import pytest

from consensus import ReplicaStatistics
from consensus._meter import RoundStatistics
from node.anchor import AnchorStatistics
from node.driver import DriverStatistics
from node.feed import FeedStatistics
from node.intake import IntakeStatistics
from node.ledger import LedgerStatistics
from node.mempool import MempoolStatistics
from node.metrics import LABEL_VALUES_MAX, Metric, Shown, exposition, from_statistics
from node.sync import SyncStatistics
from node.talk import TalkStatistics
from node.vitals import SHOWN, of_agreement, of_disk, of_peers
from p2p import NetworkStatistics, PeerStatus
from p2p.statistics import GossipStatistics, RequestStatistics
from storage import BlockstoreStatistics, Index, IndexStatistics, JournalStatistics
from storage.faults import QueriesBusy

PARTS = {
    "consensus": (ReplicaStatistics, RoundStatistics),
    "ledger": (LedgerStatistics,),
    "mempool": (MempoolStatistics,),
    "intake": (IntakeStatistics,),
    "sync": (SyncStatistics,),
    "chat": (TalkStatistics,),
    "feed": (FeedStatistics,),
    "p2p": (NetworkStatistics, GossipStatistics, RequestStatistics),
    "exchange": (),
    "driver": (DriverStatistics,),
    "anchor": (AnchorStatistics,),
    "index": (IndexStatistics, BlockstoreStatistics),
    "journal": (JournalStatistics,),
}


@dataclass(frozen=True)
class Inner:
    hits: int


@dataclass(frozen=True)
class Work:
    """What was done.

    flushes        waits for the disk
    late: what came too late
    """

    flushes: int
    flush_ms_total: int
    flush_ms_max: float
    late: int
    is_well: bool
    name: str
    leader: int | None
    refused: Mapping[str, int]
    inner: Inner


WORK = Work(3, 4_500, 1_250.0, 1, True, "x", None, {"E101": 2}, Inner(7))
SHOWN_WORK = Shown(frozenset({"flushes", "flush_ms_total", "refused", "hits"}), {"refused": "code"})


def by_name(metrics):
    return {metric.name: metric for metric in metrics}


def test_counters_end_in_total_and_durations_are_seconds():
    found = by_name(from_statistics("work", WORK, SHOWN_WORK))
    assert {name: metric.value for name, metric in found.items()} == {
        "work_flushes_total": 3,
        "work_flush_seconds_total": 4.5,
        "work_flush_max_seconds": 1.25,
        "work_late": 1,
        "work_is_well": 1,
        "work_refused_total": 2,
        "work_inner_hits_total": 7,
    }
    assert found["work_refused_total"].labels == {"code": "E101"}
    assert {name for name, metric in found.items() if metric.grows} == {
        name for name in found if name.endswith("_total")
    }


def test_a_metric_says_what_the_docstring_says_of_its_field():
    found = by_name(from_statistics("work", WORK, SHOWN_WORK))
    assert found["work_flushes_total"].help == "waits for the disk"
    assert found["work_late"].help == "what came too late"
    assert found["work_is_well"].help == "What was done."


def test_hidden_fields_are_left_out_and_mappings_are_bounded():
    full = Work(0, 0, 0, 0, True, "", 1, {str(i): i for i in range(1_000)}, Inner(0))
    found = list(from_statistics("work", full, Shown(hidden=frozenset({"late"}))))
    assert "work_late" not in by_name(found)
    assert sum(metric.name == "work_refused" for metric in found) == LABEL_VALUES_MAX


def test_what_is_no_statistics_dataclass_is_refused():
    with pytest.raises(TypeError):
        list(from_statistics("work", {"a": 1}))


def test_counters_and_gauges_have_their_type_in_the_exposition():
    text = exposition([Metric("a_total", "A.", 1, grows=True), Metric("b", "B.", 2, {"k": "v"})])
    lines = text.decode().splitlines()
    assert "# TYPE a_total counter" in lines
    assert "a_total 1.0" in lines
    assert "# TYPE b gauge" in lines
    assert 'b{k="v"} 2.0' in lines


def test_every_part_is_described():
    assert SHOWN.keys() == PARTS.keys()


@pytest.mark.parametrize("part", PARTS)
def test_what_is_called_a_counter_or_labelled_exists(part):
    held = {field.name for kind in PARTS[part] for field in fields(kind)}
    assert all(is_dataclass(kind) for kind in PARTS[part])
    shown = SHOWN[part]
    assert shown.counters | shown.labels.keys() | shown.hidden <= held


def replica(**changed):
    rounds = RoundStatistics(9, 1, 9, 5, 6, 50, {"0": 0, "1": 4}, {"0": 0, "1": 30})
    usual = {field.name: 0 for field in fields(ReplicaStatistics)}
    return ReplicaStatistics(
        **{**usual, "passed_over": (1,), "refused": {}, "rounds": rounds, "votes": 8, **changed}
    )


def test_validators_are_called_by_name():
    found = {
        (metric.name, metric.labels.get("validator")): metric.value
        for metric in of_agreement(["ann", "bob"], replica(), (0,), signing=False)
    }
    assert found["outcry_validator_missed_votes_total", "bob"] == 4
    assert found["outcry_validator_rounds_behind", "bob"] == 30
    assert found["outcry_validator_passed_over", "bob"] == 1
    assert found["outcry_validator_passed_over", "ann"] == 0
    assert found["outcry_validator_accused", "ann"] == 1
    assert found["outcry_validator_accused", "bob"] == 0
    assert found["outcry_consensus_signing", None] == 0
    assert found["outcry_consensus_votes", None] == 8


def test_only_validators_are_shown_as_peers():
    def status(validator):
        text = {"peer_id": "p", "address": "", "last_error": ""}
        counts = {"dropped": {"not_linked": 2, "full": 3}, "refused": {"E501": 4}}
        usual = {field.name: 0 for field in fields(PeerStatus)}
        return PeerStatus(**{**usual, **text, **counts, "validator": validator})

    found = list(of_peers(["ann", "bob"], [status(1), status(None), status(7)], is_validator=True))
    assert {metric.labels["validator"] for metric in found} == {"bob", "7"}
    assert by_name(found)["outcry_peer_dropped_total"].value == 5
    assert by_name(found)["outcry_peer_refused_total"].value == 4
    assert "outcry_peer_linked" in by_name(found)
    of_gateway = by_name(of_peers(["ann", "bob"], [status(1)], is_validator=False))
    assert "outcry_peer_connected" in of_gateway
    assert not of_gateway.keys() & {"outcry_peer_linked", "outcry_peer_queue_messages"}


def test_a_busy_index_does_not_hide_the_disk(tmp_path):
    index = Index.open(tmp_path / "index.db", bytes(32))

    class Busy:
        def statistics(self):
            raise QueriesBusy(4)

    try:
        names = by_name(of_disk(index, None, tmp_path)).keys()
        left = by_name(of_disk(Busy(), None, tmp_path)).keys()
    finally:
        index.close()
    assert "outcry_index_commits_total" in names
    assert left == {"outcry_disk_size_bytes", "outcry_disk_free_bytes"}
