"""Blocks come back as they were put, or the store says what is wrong."""

import apsw
import pytest

from primitives.cid import RAW, cid_of
from storage import BLOCK_BYTES_MAX, BlockDamaged, BlockMismatch, Index
from storage.faults import BlockOversized


def test_a_block_comes_back_after_a_restart(tmp_path, network):
    index = Index.open(tmp_path / "index.db", network)
    index.blocks.put(cid_of(b"data", RAW), b"data")
    index.close()
    index = Index.open(tmp_path / "index.db", network)
    assert index.blocks.get(cid_of(b"data", RAW)) == b"data"
    index.close()


def test_an_absent_block_is_none(index):
    assert index.blocks.get(cid_of(b"absent")) is None
    assert not index.blocks.has(cid_of(b"absent"))
    assert index.blocks.statistics().misses == 1


def test_putting_twice_keeps_one(index):
    for _ in range(2):
        index.blocks.put(cid_of(b"x"), b"x")
    statistics = index.blocks.statistics()
    assert (statistics.blocks, statistics.bytes) == (1, 1)


def test_bytes_that_their_cid_does_not_name_are_refused_with_all_others(index):
    with pytest.raises(BlockMismatch):
        index.blocks.put_many([(cid_of(b"good"), b"good"), (cid_of(b"one"), b"other")])
    assert index.blocks.statistics().blocks == 0


def test_a_name_that_is_no_cid_is_refused(index):
    with pytest.raises(BlockMismatch):
        index.blocks.put(b"\x00" * 5, b"data")


def test_the_largest_block_fits_and_one_byte_more_does_not(index):
    largest = bytes(BLOCK_BYTES_MAX)
    index.blocks.put(cid_of(largest), largest)
    assert index.blocks.get(cid_of(largest)) == largest
    with pytest.raises(BlockOversized):
        index.blocks.put(cid_of(largest + b"x"), largest + b"x")


def test_damage_on_disk_is_found_and_names_the_block(tmp_path, network):
    index = Index.open(tmp_path / "index.db", network)
    cid = cid_of(b"precious")
    index.blocks.put(cid, b"precious")
    index.close()
    other = apsw.Connection(str(tmp_path / "index.db"))
    other.execute("UPDATE blocks SET data = ? WHERE cid = ?", (b"preciouz", cid))
    other.close()
    index = Index.open(tmp_path / "index.db", network)
    with pytest.raises(BlockDamaged) as caught:
        index.blocks.get(cid)
    assert caught.value.cid == cid
    index.close()


def test_iteration_gives_every_cid_in_order_and_may_write_meanwhile(index):
    blocks = [(cid_of(data), data) for data in (str(number).encode() for number in range(1_100))]
    index.blocks.put_many(blocks)
    found = []
    for cid in index.blocks.iterate():
        found.append(cid)
        if len(found) == 1:
            index.blocks.put(cid_of(b"written meanwhile"), b"written meanwhile")
    assert found == sorted(found)
    assert {cid for cid, _ in blocks} <= set(found)


def test_deleting_forgets_and_keeps_the_totals_right(index):
    index.blocks.put_many([(cid_of(b"a"), b"a"), (cid_of(b"bc"), b"bc")])
    index.blocks.delete([cid_of(b"bc"), cid_of(b"never there")])
    statistics = index.blocks.statistics()
    assert (statistics.blocks, statistics.bytes) == (1, 1)
    assert index.blocks.get(cid_of(b"bc")) is None
