"""A recorded block is there with all its rows, or not at all."""

import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from primitives.cid import cid_of
from storage import (
    QUERY_ROWS_MAX,
    BlockMismatch,
    BlockRow,
    ChainRecord,
    DiskFull,
    Index,
    KeyRow,
    OrderClosed,
    OrderRow,
    QueryInvalid,
    RollupRow,
    TradeRow,
    TransactionRow,
)
from storage import _database as database
from storage._database import ReaderPool
from storage.faults import (
    IndexContradiction,
    IndexDamaged,
    IndexInUse,
    IndexMismatch,
    QueriesBusy,
    QueryTooSlow,
    SchemaMismatch,
    StorageUnusable,
)

ROOT = Path(__file__).resolve().parents[2]
WRITER = Path(__file__).with_name("chain_writer.py")
ROWS_MAX = QUERY_ROWS_MAX
KILLS = 6


def assert_whole(index: Index, record: ChainRecord) -> None:
    """Every row of `record` is in the index."""
    block = record.block
    assert index.block(block.height) == block
    assert [index.blocks.get(cid) for cid, _ in record.blocks] == [d for _, d in record.blocks]
    assert index.transactions_at(block.height, ROWS_MAX) == list(record.transactions)
    newest_trade = record.trades[-1].number
    trades = index.trades(0, len(record.trades), before=newest_trade + 1)
    assert trades[::-1] == list(record.trades)
    for order in record.orders:
        found = index.order(order.market, order.order)
        assert found
        assert found.filled == 2
        assert found.status == ("filled" if order.order % 2 else "open")
    assert index.rollup(block.height) == record.rollups[0]
    leaves = index.rollup_withdrawals(block.height, ROWS_MAX)
    assert leaves == list(record.withdrawals)


def test_a_block_is_recorded_with_all_its_rows(index, record_of):
    for height in range(3):
        assert index.record_block(record_of(height))
    for height in range(3):
        assert_whole(index, record_of(height))
    assert index.newest() == record_of(2).block
    assert index.oldest() == record_of(0).block
    assert index.block_by_cid(record_of(1).block.block) == record_of(1).block
    assert index.mark("height") == b"2"
    assert index.mark("unknown") is None
    assert index.block(3) is None


def test_recording_again_changes_nothing(index, record_of):
    index.record_block(record_of(0))
    assert not index.record_block(record_of(0))
    assert_whole(index, record_of(0))
    assert index.statistics().blocks.blocks == 2


def test_the_first_height_may_be_any_and_then_there_is_no_gap(index, record_of):
    index.record_block(record_of(70))
    index.record_block(record_of(71))
    for height in (69, 73):
        with pytest.raises(IndexContradiction):
            index.record_block(record_of(height))
    assert index.oldest() == record_of(70).block


def test_a_second_block_at_a_height_is_refused(index, record_of):
    index.record_block(record_of(0))
    record = record_of(0)
    with pytest.raises(IndexContradiction):
        index.record_block(replace(record, block=record.block._replace(root=b"x" * 32)))


def test_nothing_of_a_refused_record_remains(index, record_of):
    index.record_block(record_of(0))
    overfilled = record_of(1).trades[0]._replace(number=999, size=100)
    with pytest.raises(IndexContradiction):
        index.record_block(replace(record_of(1), trades=[*record_of(1).trades, overfilled]))
    with pytest.raises(BlockMismatch):
        index.record_block(replace(record_of(1), blocks=[(cid_of(b"a"), b"b")]))
    assert index.newest() == record_of(0).block
    assert index.transaction(record_of(1).transactions[0].source) is None
    assert index.statistics().blocks.blocks == 2
    index.record_block(record_of(1))
    assert_whole(index, record_of(1))


def test_everything_is_there_after_a_restart(tmp_path, network, record_of):
    index = Index.open(tmp_path / "i.db", network)
    index.record_block(record_of(0))
    index.close()
    index = Index.open(tmp_path / "i.db", network)
    assert_whole(index, record_of(0))
    index.check()
    index.close()


def test_kill_9_at_any_point_leaves_whole_blocks(tmp_path, network, record_of):
    path = tmp_path / "index.db"
    told = -1
    for kill in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, str(WRITER), str(path)],
            env={"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout
        for _ in range(1 + 3 * kill):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read().split("\n")[:-1]
        told = int(rest[-1]) if rest else told
        child.wait()
        child.stdout.close()
        index = Index.open(path, network)
        newest = index.newest()
        assert newest
        assert newest.height in (told, told + 1)
        assert index.mark("height") == str(newest.height).encode()
        assert_whole(index, record_of(newest.height))
        assert_whole(index, record_of(newest.height // 2))
        after = newest.height + 1
        assert index.transactions_at(after, ROWS_MAX) == []
        assert index.order(0, after * 20) is None
        assert index.statistics().blocks.blocks == 2 * after
        index.check()
        index.close()


def test_trades_come_newest_first_in_pages(index, record_of):
    for height in range(3):
        index.record_block(record_of(height))
    first = index.trades(0, 20)
    second = index.trades(0, 20, before=first[-1].number)
    assert [trade.number for trade in first + second] == list(range(29, -1, -1))
    assert index.trades(1, 20) == []


def test_trades_of_an_account_hold_both_sides(index, record_of):
    record = record_of(0)
    swapped = record.trades[1]._replace(
        number=500, size=0, maker_account=(9).to_bytes(20, "big"), taker_account=bytes(20)
    )
    index.record_block(replace(record, trades=[*record.trades, swapped]))
    assert index.account_trades(bytes(20), 0, 10) == [swapped, record.trades[0]]
    assert index.account_trades(bytes(20), 0, 10, before=500) == [record.trades[0]]


def test_orders_are_found_by_market_and_status_in_pages(index, record_of):
    for height in range(4):
        index.record_block(record_of(height))
    maker, taker = (0).to_bytes(20, "big"), (1).to_bytes(20, "big")
    mine = index.orders(maker, limit=10)
    assert [row.order for row in mine] == [60, 40, 20, 0]
    assert [row.order for row in index.orders(maker, 0, "open", limit=10)] == [60, 40, 20, 0]
    assert index.orders(maker, 0, "filled", limit=10) == []
    assert [row.order for row in index.orders(taker, None, "filled", limit=10)] == [61, 41, 21, 1]
    page = index.orders(maker, limit=2)
    rest = index.orders(maker, limit=2, before=page[-1].position)
    assert page + rest == mine
    assert index.orders(maker, 5, limit=10) == []


def test_an_order_that_never_rests_is_closed_in_its_own_block(index, record_of):
    record = record_of(0)
    index.record_block(replace(record, closed=[*record.closed, OrderClosed(0, 0, "cancelled")]))
    found = index.order(0, 0)
    assert found
    assert (found.filled, found.status) == (2, "cancelled")


def test_fills_and_ends_of_orders_add_up_over_blocks(index):
    def block(height, **rows):
        data = b"%d" % height
        cid = cid_of(data)
        index.record_block(
            ChainRecord(BlockRow(height, cid, cid, height, bytes(32)), [(cid, data)], **rows)
        )

    def order(number, size):
        return OrderRow(
            number, bytes(20), 0, 0, 100, size, 0, "open", "", number.to_bytes(32, "big"), 1
        )

    def trade(number, size, maker, taker):
        return TradeRow(0, number, 1, 1, 100, size, 0, bytes(20), bytes(20), maker, taker)

    block(1, orders=[order(1, 10), order(2, 3)], trades=[trade(1, 3, 1, 2)],
          closed=[OrderClosed(0, 2, "filled")])  # fmt: skip
    block(2, orders=[order(3, 2), order(4, 9)], trades=[trade(2, 2, 1, 3), trade(3, 4, 1, 4)],
          closed=[OrderClosed(0, 3, "filled"), OrderClosed(0, 4, "cancelled")])  # fmt: skip
    block(3, orders=[order(5, 1)], trades=[trade(4, 1, 1, 5)],
          closed=[OrderClosed(0, 5, "filled"), OrderClosed(0, 1, "filled")])  # fmt: skip
    found = [index.order(0, number) for number in range(1, 6)]
    assert [(row.filled, row.status) for row in found] == [
        (10, "filled"), (3, "filled"), (2, "filled"), (4, "cancelled"), (1, "filled")
    ]  # fmt: skip


def test_more_fills_than_an_order_has_lots_are_refused(index, record_of):
    record = record_of(0)
    small = [row._replace(size=1) for row in record.orders]
    with pytest.raises(IndexContradiction):
        index.record_block(replace(record, orders=small))
    assert index.newest() is None


def test_a_transaction_keeps_what_it_did_first(index, record_of):
    index.record_block(record_of(0))
    repeated = record_of(0).transactions[0]._replace(height=1, status="rejected", code="E104")
    index.record_block(replace(record_of(1), transactions=[repeated]))
    assert index.transaction(repeated.source) == record_of(0).transactions[0]
    assert index.rejections(repeated.source, 10) == list(record_of(0).rejections)


def test_heights_come_in_order_within_the_range(index, record_of):
    for height in range(5):
        index.record_block(record_of(height))
    assert [row.height for row in index.heights(1, 3, 10)] == [1, 2, 3]
    assert [row.height for row in index.heights(1, 3, 2)] == [1, 2]


def test_candles_hold_the_exact_extremes(index):
    prices = [(0, 50, 3), (30_000, 70, 1), (59_999, 40, 2), (60_000, 45, 9), (3_600_000, 44, 1)]
    for height, (time_ms, price, size) in enumerate(prices):
        trade = TradeRow(2, height + 1, time_ms, height, price, size, 1, bytes(20), bytes(20), 1, 2)
        cid = cid_of(str(height).encode())
        index.record_block(
            ChainRecord(BlockRow(height, cid, cid, time_ms, bytes(32)), trades=[trade])
        )
    minutes = index.candles(2, "1m", 0, 10**9, 10)
    assert [tuple(candle) for candle in minutes] == [
        (0, 50, 70, 40, 40, 6, 3),
        (60_000, 45, 45, 45, 45, 9, 1),
        (3_600_000, 44, 44, 44, 44, 1, 1),
    ]
    assert [tuple(c) for c in index.candles(2, "5m", 0, 300_000, 10)] == [
        (0, 50, 70, 40, 45, 15, 4)
    ]
    assert [tuple(c) for c in index.candles(2, "1h", 0, 10**9, 1)] == [(0, 50, 70, 40, 45, 15, 4)]
    assert [tuple(c) for c in index.candles(2, "1d", 0, 10**9, 9)] == [(0, 50, 70, 40, 44, 16, 5)]
    assert index.candles(3, "1d", 0, 10**9, 9) == []


def test_a_volume_never_becomes_a_float(index):
    for height in range(3):
        trade = TradeRow(0, height + 1, 5, height, 1, 2**62 + 2**61, 1, bytes(20), bytes(20), 1, 2)
        cid = cid_of(str(height).encode())
        index.record_block(ChainRecord(BlockRow(height, cid, cid, 5, bytes(32)), trades=[trade]))
    (candle,) = index.candles(0, "1m", 0, 60_000, 10)
    assert candle.volume == 2**63 - 1
    assert isinstance(candle.volume, int)


def test_a_key_is_answered_for_the_time_asked(index):
    account, key = b"a" * 20, b"k" * 32
    rows = [KeyRow(account, key, 100, 9, 1_000), KeyRow(account, key, 200, 0, 0)]
    for height, row in enumerate(rows):
        cid = cid_of(str(height).encode())
        index.record_block(
            ChainRecord(BlockRow(height, cid, cid, row.time_ms, bytes(32)), keys=[row])
        )
    assert index.key_at(account, key, 99) is None
    assert index.key_at(account, key, 199) == rows[0]
    assert index.key_at(account, key, 5_000) == rows[1]
    assert index.key_at(b"b" * 20, key, 5_000) is None


def test_a_rollup_gets_its_signatures_and_its_transaction(index, record_of):
    index.record_block(record_of(0))
    index.sign_rollup(0, b"signatures")
    index.post_rollup(0, b"t" * 32)
    expected = RollupRow(0, 0, b"r" * 32, b"w" * 32, 0, b"a" * 32, b"signatures", b"t" * 32)
    assert index.rollup(0) == expected
    with pytest.raises(IndexContradiction):
        index.sign_rollup(7, b"signatures")


def test_withdrawals_come_newest_first_in_pages(index, record_of):
    for height in range(4):
        index.record_block(record_of(height))
    mine = (1).to_bytes(20, "big")
    page = index.withdrawals(mine, 3)
    rest = index.withdrawals(mine, 3, before=(page[-1].rollup, page[-1].leaf))
    assert [(row.rollup, row.leaf) for row in page + rest] == [(3, 1), (2, 1), (1, 1), (0, 1)]
    assert [row.leaf for row in index.rollup_withdrawals(2, 10, after=0)] == [1, 2]
    assert [row.number for row in index.rollups(2, before=3)] == [2, 1]


def test_marks_can_be_kept_without_a_block(index):
    index.record_marks([("cursor", b"1"), ("cursor", b"2")])
    assert index.mark("cursor") == b"2"


@pytest.mark.parametrize("limit", [0, -1, ROWS_MAX + 1])
def test_a_limit_out_of_range_is_refused(index, limit):
    with pytest.raises(QueryInvalid):
        index.trades(0, limit)


def test_numbers_and_intervals_out_of_range_are_refused(index):
    for ask in (
        lambda: index.trades(0, 1, before=2**63),
        lambda: index.trades(-1, 1),
        lambda: index.block(10**30),
        lambda: index.candles(0, "2m", 0, 1, 1),
    ):
        with pytest.raises(QueryInvalid):
            ask()


@pytest.mark.usefixtures("index")
def test_a_second_opening_is_refused(tmp_path, network):
    with pytest.raises(IndexInUse):
        Index.open(tmp_path / "index.db", network)


def test_an_index_of_another_network_is_refused(tmp_path, network):
    Index.open(tmp_path / "i.db", network).close()
    with pytest.raises(IndexMismatch):
        Index.open(tmp_path / "i.db", b"x" * 32)


@pytest.mark.parametrize(("version", "words"), [(99, "newer version"), (0, "build it again")])
def test_another_layout_is_refused_with_what_to_do(tmp_path, network, version, words):
    Index.open(tmp_path / "i.db", network).close()
    other = apsw.Connection(str(tmp_path / "i.db"))
    other.pragma("user_version", version)
    other.close()
    with pytest.raises(SchemaMismatch, match=words):
        Index.open(tmp_path / "i.db", network)


def test_garbage_is_no_index(tmp_path, network):
    (tmp_path / "i.db").write_bytes(b"garbage" * 1_000)
    with pytest.raises(IndexDamaged):
        Index.open(tmp_path / "i.db", network)


def test_a_damaged_page_is_found_by_the_check(tmp_path, network, record_of):
    path = tmp_path / "i.db"
    index = Index.open(path, network)
    for height in range(20):
        index.record_block(record_of(height))
    index.close()
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4_096] = b"\xff" * 4_096
    path.write_bytes(data)
    index = Index.open(path, network)
    with pytest.raises(IndexDamaged):
        index.check()
    index.close()


def test_a_full_disk_is_said_and_leaves_whole_blocks(tmp_path, network, record_of):
    index = Index.open(tmp_path / "i.db", network, bytes_max=600_000)
    height = 0

    def record_for_ever() -> None:
        nonlocal height
        while True:
            index.record_block(record_of(height))
            height += 1

    with pytest.raises(DiskFull, match="free space"):
        record_for_ever()
    assert height > 5
    assert index.newest() == record_of(height - 1).block
    assert_whole(index, record_of(height - 1))
    index.check()
    index.close()
    index = Index.open(tmp_path / "i.db", network)
    index.record_block(record_of(height))
    assert_whole(index, record_of(height))
    index.close()


def test_a_closed_index_says_so(tmp_path, network, record_of):
    index = Index.open(tmp_path / "i.db", network)
    index.close()
    with pytest.raises(StorageUnusable):
        index.newest()
    for _ in range(2):
        with pytest.raises(StorageUnusable):
            index.record_block(record_of(0))


def test_readers_see_whole_blocks_while_one_thread_writes(index, record_of):
    index.record_block(record_of(0))
    done = threading.Event()
    wrong = []
    looks = []

    def read() -> None:
        while not done.is_set():
            newest = index.newest()
            rows = index.transactions_at(newest.height, ROWS_MAX)
            looks.append(newest.height)
            if len(rows) != 20:
                wrong.append((newest, rows))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for height in range(1, 40):
        index.record_block(record_of(height))
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(set(looks)) > 1


def test_a_read_does_not_wait_for_a_transaction_that_is_open(tmp_path, index, record_of):
    index.record_block(record_of(0))
    writer = apsw.Connection(str(tmp_path / "index.db"))
    writer.execute("BEGIN IMMEDIATE; DELETE FROM heights; DELETE FROM blocks")
    assert index.newest() == record_of(0).block
    assert index.blocks.get(record_of(0).block.block)
    writer.execute("ROLLBACK")
    writer.close()


@pytest.mark.usefixtures("index")
def test_a_query_is_stopped_at_its_deadline(tmp_path):
    pool = ReaderPool(tmp_path / "index.db", IndexDamaged, readers=1, query_ms_max=30)
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"
    with pytest.raises(QueryTooSlow), pool.reading() as connection:
        connection.execute(endless).fetchall()
    with pool.reading() as connection:
        assert connection.execute("SELECT 1").get == 1
    pool.close()


@pytest.mark.usefixtures("index")
def test_a_reader_that_never_comes_free_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "READER_WAIT_MS_MAX", 20)
    pool = ReaderPool(tmp_path / "index.db", IndexDamaged, readers=1, query_ms_max=1_000)
    with pool.reading(), pytest.raises(QueriesBusy), pool.reading():
        pass
    pool.close()


def test_statistics_tell_height_size_and_commits(index, record_of):
    before = index.statistics()
    assert before.height is None
    index.record_block(record_of(0))
    after = index.statistics()
    assert after.height == 0
    assert after.commits == before.commits + 1
    assert after.bytes >= 4_096
    assert after.commit_ms_max >= after.commit_ms_mean > 0


def test_a_transaction_row_is_found_by_its_source(index, record_of):
    index.record_block(record_of(0))
    assert index.transaction(record_of(0).transactions[3].source) == TransactionRow(
        record_of(0).transactions[3].source, 0, 3, "executed", ""
    )
