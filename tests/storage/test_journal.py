"""What the journal has said yes to is there after any end of the process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import DiskFull, Journal, SlotTaken, StorageFault
from storage.faults import (
    EntryRefused,
    JournalDamaged,
    JournalInUse,
    JournalMismatch,
    JournalMissing,
    SchemaMismatch,
)
from storage.journal import KEY_BYTES_MAX, KIND_BYTES_MAX, VALUE_BYTES_MAX, WRITE_ENTRIES_MAX

ROOT = Path(__file__).resolve().parents[2]
OWNER, NETWORK = b"o" * 32, b"n" * 32
KILLS = 5

CHILD = """
import sys
from pathlib import Path
from storage import Journal
journal = Journal.open(Path(sys.argv[1]), b"o" * 32, b"n" * 32, once=["vote"])
slot = len(journal.read("vote"))
while True:
    key = slot.to_bytes(8, "big")
    journal.write([("vote", key, b"v" + key), ("safety", b"", key)])
    sys.stdout.write(f"{slot}\\n")
    sys.stdout.flush()
    slot += 1
"""


def slot(number: int) -> bytes:
    return number.to_bytes(8, "big")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path):
    opened = Journal.open(path, OWNER, NETWORK, once=("vote", "timeout"))
    yield opened
    opened.close()


def test_entries_are_there_after_a_restart(path):
    journal = Journal.open(path, OWNER, NETWORK, once=("vote",))
    journal.write([("vote", slot(1), b"yes"), ("safety", b"", b"state")])
    journal.close()
    journal = Journal.open(path, OWNER, NETWORK, create=False)
    assert journal.read("vote") == {slot(1): b"yes"}
    assert journal.get("safety", b"") == b"state"
    assert journal.get("safety", b"x") is None
    journal.close()


def test_a_slot_takes_the_same_value_again_and_no_other(journal):
    journal.write([("vote", slot(1), b"yes")])
    journal.write([("vote", slot(1), b"yes")])
    with pytest.raises(SlotTaken):
        journal.write([("vote", slot(1), b"no")])
    assert journal.read("vote") == {slot(1): b"yes"}
    assert journal.statistics().slots_refused == 1


def test_nothing_of_a_refused_write_remains(journal):
    journal.write([("vote", slot(1), b"yes")])
    with pytest.raises(SlotTaken):
        journal.write([("safety", b"", b"new"), ("vote", slot(2), b"b"), ("vote", slot(1), b"no")])
    assert journal.read("safety") == {}
    assert journal.read("vote") == {slot(1): b"yes"}


def test_two_values_for_one_slot_in_one_write_are_refused(journal):
    with pytest.raises(SlotTaken):
        journal.write([("vote", slot(1), b"yes"), ("vote", slot(1), b"no")])
    assert journal.read("vote") == {}


def test_a_kind_stays_guarded_when_it_is_no_longer_declared(path):
    journal = Journal.open(path, OWNER, NETWORK, once=("vote",))
    journal.write([("vote", slot(1), b"yes")])
    journal.close()
    journal = Journal.open(path, OWNER, NETWORK)
    with pytest.raises(SlotTaken):
        journal.write([("vote", slot(1), b"no")])
    journal.close()


def test_other_kinds_may_change_and_go(journal):
    journal.write([("safety", b"a", b"1"), ("safety", b"b", b"1")])
    journal.write([("safety", b"a", b"2")], deletes=[("safety", b"b")])
    assert journal.read("safety") == {b"a": b"2"}


def test_a_guarded_slot_cannot_be_deleted(journal):
    journal.write([("vote", slot(1), b"yes")])
    with pytest.raises(SlotTaken):
        journal.write([], deletes=[("vote", slot(1))])
    assert journal.get("vote", slot(1)) == b"yes"


def test_pruning_keeps_the_newest_and_closes_the_rest(journal):
    journal.write([("vote", slot(number), b"yes") for number in range(1, 11)])
    assert journal.prune("vote", keep_last=3) == 7
    assert list(journal.read("vote")) == [slot(8), slot(9), slot(10)]
    for number in (0, 1, 7):
        with pytest.raises(SlotTaken):
            journal.write([("vote", slot(number), b"yes")])
    journal.write([("vote", slot(11), b"yes")])
    assert journal.prune("vote", keep_last=100) == 0


def test_pruned_slots_stay_closed_after_a_restart(path):
    journal = Journal.open(path, OWNER, NETWORK, once=("vote",))
    journal.write([("vote", slot(1), b"yes"), ("vote", slot(2), b"yes")])
    journal.prune("vote", keep_last=0)
    journal.close()
    journal = Journal.open(path, OWNER, NETWORK, once=("vote",))
    with pytest.raises(SlotTaken):
        journal.write([("vote", slot(2), b"no")])
    journal.close()


@given(st.lists(st.tuples(st.integers(0, 5), st.binary(max_size=1)), max_size=30))
def test_the_first_value_of_every_slot_stays(tmp_path_factory, writes):
    path = tmp_path_factory.mktemp("law") / "journal.db"
    journal = Journal.open(path, OWNER, NETWORK, once=("vote",))
    first: dict[bytes, bytes] = {}
    for number, value in writes:
        expected = first.setdefault(slot(number), value)
        if expected == value:
            journal.write([("vote", slot(number), value)])
        else:
            with pytest.raises(SlotTaken):
                journal.write([("vote", slot(number), value)])
    assert journal.read("vote") == dict(sorted(first.items()))
    journal.close()


@pytest.mark.parametrize(("owner", "network"), [(b"x" * 32, NETWORK), (OWNER, b"x" * 32)])
def test_a_journal_of_another_key_or_network_is_refused(path, owner, network):
    Journal.open(path, OWNER, NETWORK).close()
    with pytest.raises(JournalMismatch):
        Journal.open(path, owner, network)


def test_a_journal_that_must_exist_is_not_made_up(path):
    with pytest.raises(JournalMissing):
        Journal.open(path, OWNER, NETWORK, create=False)
    path.touch()
    with pytest.raises(JournalMissing):
        Journal.open(path, OWNER, NETWORK, create=False)


def test_a_second_process_cannot_open_it(path, journal):
    code = (
        "from pathlib import Path; from storage import Journal; import sys\n"
        "try: Journal.open(Path(sys.argv[1]), b'o' * 32, b'n' * 32)\n"
        "except Exception as fault: sys.exit(fault.code + str(fault))"
    )
    second = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True
    )
    assert second.stderr.startswith("E613")
    assert str(os.getpid()) in second.stderr
    with pytest.raises(JournalInUse):
        Journal.open(path, OWNER, NETWORK)
    journal.write([("vote", slot(1), b"still ours")])


def test_a_closed_journal_is_free_for_others(path):
    for _ in range(2):
        Journal.open(path, OWNER, NETWORK).close()


def test_a_changed_value_is_found_when_it_is_opened(path):
    journal = Journal.open(path, OWNER, NETWORK, once=("vote",))
    journal.write([("vote", slot(1), b"yes")])
    journal.close()
    other = apsw.Connection(str(path))
    other.execute("UPDATE entries SET value = ?", (b"no",))
    other.close()
    with pytest.raises(JournalDamaged):
        Journal.open(path, OWNER, NETWORK)


def test_a_torn_file_is_found_when_it_is_opened(path):
    journal = Journal.open(path, OWNER, NETWORK)
    journal.write([("safety", slot(number), bytes(500)) for number in range(200)])
    journal.close()
    data = bytearray(path.read_bytes())
    data[8_192:12_288] = bytes(4_096)
    path.write_bytes(data)
    with pytest.raises(JournalDamaged):
        Journal.open(path, OWNER, NETWORK)


@pytest.mark.parametrize("content", [b"garbage" * 1_000, b"SQLite format 3\x00" + bytes(4_080)])
def test_garbage_is_no_journal(path, content):
    path.write_bytes(content)
    with pytest.raises(JournalDamaged):
        Journal.open(path, OWNER, NETWORK)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(path):
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE theirs(x)")
    other.close()
    with pytest.raises(JournalDamaged):
        Journal.open(path, OWNER, NETWORK)


def test_another_layout_is_refused(path):
    Journal.open(path, OWNER, NETWORK).close()
    other = apsw.Connection(str(path))
    other.pragma("user_version", 99)
    other.close()
    with pytest.raises(SchemaMismatch, match="newer version"):
        Journal.open(path, OWNER, NETWORK)


@pytest.mark.parametrize(
    "entries",
    [
        [("k" * (KIND_BYTES_MAX + 1), b"", b"")],
        [("k", b"k" * (KEY_BYTES_MAX + 1), b"")],
        [("k", b"", bytes(VALUE_BYTES_MAX + 1))],
        [("k", slot(number), b"") for number in range(WRITE_ENTRIES_MAX + 1)],
    ],
)
def test_an_entry_beyond_the_bounds_is_refused(journal, entries):
    with pytest.raises(EntryRefused):
        journal.write(entries)


def test_a_full_journal_says_so_and_keeps_what_it_had(path):
    journal = Journal.open(path, OWNER, NETWORK, once=("vote",), bytes_max=200_000)
    written = 0

    def write_for_ever() -> None:
        nonlocal written
        while True:
            journal.write([("vote", slot(written), bytes(2_000))])
            written += 1

    with pytest.raises(DiskFull):
        write_for_ever()
    assert len(journal.read("vote")) == written > 10
    journal.prune("vote", keep_last=5)
    journal.write([("vote", slot(written), b"room again")])
    journal.close()


def test_statistics_count_durable_writes(journal):
    before = journal.statistics()
    journal.write([("safety", b"a", b"1"), ("safety", b"b", b"1")])
    after = journal.statistics()
    assert after.writes == before.writes + 1
    assert after.entries == 2
    assert after.fsync_ms_max >= after.fsync_ms_mean > 0
    assert after.bytes > 0


def test_every_acknowledged_vote_survives_kill_9(path):
    acknowledged = -1
    for kill in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout
        for _ in range(3 + 7 * kill):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split("\n")[:-1]
        acknowledged = int(rest[-1]) if rest else acknowledged
        child.wait()
        child.stdout.close()
        journal = Journal.open(path, OWNER, NETWORK, create=False)
        votes = journal.read("vote")
        assert len(votes) in (acknowledged + 1, acknowledged + 2)
        assert all(value == b"v" + key for key, value in votes.items())
        assert journal.get("safety", b"") == max(votes)
        journal.close()


def test_what_forbids_signing_is_one_family_of_local_faults(path):
    Journal.open(path, OWNER, NETWORK).close()
    with pytest.raises(StorageFault) as caught:
        Journal.open(path, b"x" * 32, NETWORK)
    assert caught.value.code == "E610"
    assert "start with the journal of this key" in caught.value.sentence
