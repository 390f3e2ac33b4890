"""The simulated disk keeps what it promised to keep, and loses what it may lose."""

import random
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devnet.simulation.disk import SYNC_MS, Disk, Fate
from storage import DiskFull, Index, Journal
from storage.faults import StorageUnusable
from storage.rows import BlockRow, ChainRecord

JOURNAL, INDEX = Path("/journal.db"), Path("/index.db")
OWNER, NETWORK = b"o" * 32, b"n" * 32
WRITES_MAX = 40


def open_journal(disk):
    return Journal.open(JOURNAL, OWNER, NETWORK, once=["vote"], medium=disk)


def slot(number):
    return number.to_bytes(8, "big")


def close(*opened):
    """What a crash leaves open is closed without a word: it cannot write any more."""
    for item in opened:
        try:
            item.close()
        except apsw.Error:
            continue


def write_until_cut(disk):
    """Slots that were acknowledged before the power failed."""
    done, journal = [], None
    try:
        journal = open_journal(disk)
        for number in range(WRITES_MAX):
            values = [("vote", slot(number), bytes([number]) * 900), ("safety", b"", slot(number))]
            journal.write(values)
            done.append(number)
    except (StorageUnusable, apsw.Error):
        assert disk.is_cut
    if journal is not None:
        close(journal)
    return done


@settings(max_examples=80)
@given(seed=st.integers(0, 10**6), operations=st.integers(1, 200), fate=st.sampled_from(Fate))
def test_what_was_acknowledged_is_there_after_any_power_cut(seed, operations, fate):
    disk = Disk(random.Random(seed))
    disk.cut_after(operations, fate)
    done = write_until_cut(disk)
    disk.cut(fate)
    disk.power_on()
    journal = open_journal(disk)
    votes = journal.read("vote")
    kept = [int.from_bytes(key, "big") for key in votes]
    assert kept[: len(done)] == done
    assert len(kept) <= len(done) + 1, "at most the one that was under way"
    assert all(
        value == bytes([number]) * 900 for number, value in zip(kept, votes.values(), strict=False)
    )
    newest = journal.get("safety", b"")
    assert newest == (slot(kept[-1]) if kept else None), "a transaction is whole or absent"
    journal.write([("vote", b"\xff" * 8, b"on")])
    journal.close()


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), operations=st.integers(1, 120))
def test_a_block_is_recorded_whole_or_not_at_all(seed, operations):
    disk = Disk(random.Random(seed))
    index = Index.open(INDEX, NETWORK, medium=disk)
    disk.cut_after(operations)
    recorded = 0
    try:
        for height in range(1, WRITES_MAX):
            name = height.to_bytes(32, "big")
            row = BlockRow(height, b"b" + name, b"c" + name, height, name)
            index.record_block(ChainRecord(row))
            recorded = height
    except StorageUnusable:
        assert disk.is_cut
    disk.cut()
    close(index)
    disk.power_on()
    again = Index.open(INDEX, NETWORK, medium=disk)
    newest = again.newest()
    assert (newest.height if newest else 0) in (recorded, recorded + 1)
    again.check()
    again.close()


def test_power_cuts_lose_tear_and_keep_unsynced_writes():
    lost = torn = kept = 0
    for seed in range(60):
        disk = Disk(random.Random(seed))
        disk.cut_after(40 + seed)
        write_until_cut(disk)
        found = disk.statistics()
        lost, torn, kept = lost + found.lost, torn + found.torn, kept + found.kept
    assert lost
    assert torn
    assert kept


def test_the_same_seed_fails_in_the_same_way():
    def run():
        disk = Disk(random.Random(5))
        disk.cut_after(61)
        return write_until_cut(disk), disk.statistics(), disk.spent_ms

    assert run() == run()


def test_a_disk_that_ignores_syncs_loses_what_was_acknowledged():
    disk = Disk(random.Random(1))
    journal = open_journal(disk)
    journal.write([("vote", slot(1), b"a")])
    disk.ignores_syncs = True
    journal.write([("vote", slot(2), b"b")])
    disk.cut(Fate.LOST)
    close(journal)
    disk.power_on()
    assert list(open_journal(disk).read("vote")) == [slot(1)]


def test_a_full_disk_refuses_the_write_and_goes_on_when_there_is_room():
    disk = Disk(random.Random(1))
    journal = open_journal(disk)
    disk.fill()
    with pytest.raises(DiskFull):
        journal.write([("vote", slot(1), b"v" * 100_000)])
    disk.spare()
    assert journal.read("vote") == {}
    journal.write([("vote", slot(1), b"v" * 100_000)])
    journal.close()


@pytest.mark.parametrize("seed", range(10))
def test_after_a_failed_sync_the_journal_refuses_and_a_restart_has_what_was_acknowledged(seed):
    disk = Disk(random.Random(seed))
    journal = open_journal(disk)
    journal.write([("vote", slot(1), b"a")])
    disk.syncs_to_fail = 1
    with pytest.raises(StorageUnusable):
        journal.write([("vote", slot(2), b"b")])
    with pytest.raises(StorageUnusable):
        journal.write([("vote", slot(3), b"c")])
    disk.cut()
    close(journal)
    disk.power_on()
    again = open_journal(disk)
    assert again.read("vote")[slot(1)] == b"a"
    assert slot(3) not in again.read("vote")
    assert disk.statistics().syncs_failed == 1


def test_syncs_take_virtual_time_and_a_slow_disk_more():
    disk = Disk(random.Random(1))
    journal = open_journal(disk)
    disk.take_spent_ms()
    journal.write([("vote", slot(1), b"a")])
    assert SYNC_MS[0] <= disk.take_spent_ms() <= 2 * SYNC_MS[1]
    disk.sync_ms = (500, 500)
    journal.write([("vote", slot(2), b"a")])
    assert disk.take_spent_ms() >= 500
    journal.close()


def test_a_name_is_durable_only_after_its_directory_was_synced():
    disk = Disk(random.Random(1))
    connection = disk.connect(JOURNAL)
    connection.execute("CREATE TABLE t(a)")
    connection.close()
    disk.cut(Fate.LOST)
    disk.power_on()
    assert disk.exists(JOURNAL), "the rollback journal's sync made the directory durable"
    other = Disk(random.Random(1))
    connection = other.connect(JOURNAL)
    connection.pragma("journal_mode", "OFF")
    connection.execute("CREATE TABLE t(a)")
    connection.close()
    other.cut(Fate.LOST)
    other.power_on()
    assert not other.exists(JOURNAL)


def test_an_image_starts_another_disk_where_the_first_one_was():
    disk = Disk(random.Random(1))
    journal = open_journal(disk)
    journal.write([("vote", slot(1), b"a")])
    journal.close()
    copy = Disk(random.Random(2), disk.image())
    assert open_journal(copy).read("vote") == {slot(1): b"a"}


def test_files_of_before_a_power_cut_stay_dead():
    disk = Disk(random.Random(1))
    journal = open_journal(disk)
    disk.cut()
    disk.power_on()
    with pytest.raises(StorageUnusable):
        journal.write([("vote", slot(1), b"a")])
    again = open_journal(disk)
    assert again.read("vote") == {}
    close(journal)
    again.write([("vote", slot(1), b"b")])
    again.close()
