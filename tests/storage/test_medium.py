"""Journal and index on another medium than the file system: here a disk in memory."""

import random
from pathlib import Path

import pytest

from devnet.simulation.disk import Disk
from storage import Index, Journal, SlotTaken
from storage.faults import IndexMismatch, JournalInUse, JournalMissing
from storage.rows import BlockRow, ChainRecord

JOURNAL, INDEX = Path("/journal.db"), Path("/index.db")
OWNER, NETWORK = b"o" * 32, b"n" * 32


@pytest.fixture
def disk():
    return Disk(random.Random(1))


def open_journal(disk, **options):
    return Journal.open(JOURNAL, OWNER, NETWORK, once=["vote"], medium=disk, **options)


def record(height):
    name = height.to_bytes(32, "big")
    return ChainRecord(BlockRow(height, b"b" + name, b"c" + name, height, name))


def test_a_journal_lives_on_another_medium_and_leaves_no_file(disk):
    journal = open_journal(disk)
    journal.write([("vote", b"1", b"a"), ("safety", b"", b"s")])
    journal.close()
    assert not JOURNAL.exists()
    again = open_journal(disk, create=False)
    assert again.read("vote") == {b"1": b"a"}
    with pytest.raises(SlotTaken):
        again.write([("vote", b"1", b"b")])
    again.close()


def test_a_missing_journal_is_missing_there_too(disk):
    with pytest.raises(JournalMissing):
        open_journal(disk, create=False)


def test_a_medium_keeps_a_second_process_out_until_the_first_one_is_gone(disk):
    journal = open_journal(disk)
    with pytest.raises(JournalInUse):
        open_journal(disk)
    journal.close()
    open_journal(disk).close()


def test_an_index_without_shared_memory_reads_through_its_writer(disk):
    index = Index.open(INDEX, NETWORK, medium=disk)
    for height in (1, 2, 3):
        assert index.record_block(record(height))
    assert [row.height for row in index.heights(1, 9, 9)] == [1, 2, 3]
    assert index.newest().height == 3
    assert index.statistics().height == 3
    index.check()
    index.close()
    again = Index.open(INDEX, NETWORK, medium=disk)
    assert again.newest().height == 3
    again.close()
    with pytest.raises(IndexMismatch):
        Index.open(INDEX, b"m" * 32, medium=disk)


def test_an_index_and_a_journal_share_a_medium(disk):
    index = Index.open(INDEX, NETWORK, medium=disk)
    journal = open_journal(disk)
    journal.write([("safety", b"", b"s")])
    index.record_block(record(1))
    assert index.newest().height == 1
    assert journal.get("safety", b"") == b"s"
    journal.close()
    index.close()
