"""Writing one committed block into the index, inside a transaction of the caller."""

import apsw

from storage.blockstore import write_blocks
from storage.candles import UPSERT, candles_of
from storage.faults import IndexContradiction
from storage.rows import BlockRow, ChainRecord, OrderRow


def is_recorded(connection: apsw.Connection, block: BlockRow) -> bool:
    """Whether this very block was recorded before.

    Errors: `IndexContradiction` for another block at its height, or a gap below it.
    """
    newest = connection.execute("SELECT max(height) FROM heights").get
    if newest is None or block.height == newest + 1:
        return False
    row = connection.execute("SELECT * FROM heights WHERE height = ?", (block.height,)).fetchone()
    if row is None:
        raise IndexContradiction(f"height {block.height} next to {newest}")
    if BlockRow._make(row) != block:
        raise IndexContradiction(f"a second block at height {block.height}")
    return True


def write_record(connection: apsw.Connection, record: ChainRecord) -> None:
    """Insert all rows of a block that is not recorded yet; its blocks are verified."""
    write_blocks(connection, record.blocks)
    connection.execute("INSERT INTO heights VALUES(?, ?, ?, ?, ?)", record.block)
    _write_orders(connection, record)
    many = connection.executemany
    many("INSERT OR IGNORE INTO transactions VALUES(?, ?, ?, ?, ?)", record.transactions)
    many("INSERT OR IGNORE INTO rejections VALUES(?, ?, ?, ?)", record.rejections)
    many(
        "INSERT INTO keys(account, key, time_ms, scope, expires_ms) VALUES(?, ?, ?, ?, ?)",
        record.keys,
    )
    many("INSERT INTO rollups VALUES(?, ?, ?, ?, ?, ?, ?, ?)", record.rollups)
    many(
        "INSERT INTO withdrawals(rollup, leaf, account, token, units) VALUES(?, ?, ?, ?, ?)",
        record.withdrawals,
    )
    many("INSERT OR REPLACE INTO marks VALUES(?, ?)", record.marks)


def _write_orders(connection: apsw.Connection, record: ChainRecord) -> None:
    """Insert orders and trades; an order that the block also filled or closed enters as it ended,
    because a second visit to its row and indexes costs as much as the first."""
    fills: dict[tuple[int, int], int] = {}
    for trade in record.trades:
        for order in (trade.maker_order, trade.taker_order):
            fills[trade.market, order] = fills.get((trade.market, order), 0) + trade.size
    closed = {(row.market, row.order): row.status for row in record.closed}
    connection.executemany(
        """INSERT INTO orders(id, account, market, side, price, size, filled, status, client_id,
               source, height) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        [_as_it_ended(row, fills, closed)[:-1] for row in record.orders],
    )
    connection.executemany(
        "INSERT INTO trades VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", record.trades
    )
    both = fills.keys() & closed.keys()
    connection.executemany(
        "UPDATE orders SET filled = filled + ?, status = ? WHERE market = ? AND id = ?",
        [(fills.pop(key), closed.pop(key), *key) for key in both],
    )
    connection.executemany(
        "UPDATE orders SET filled = filled + ? WHERE market = ? AND id = ?",
        [(size, *key) for key, size in fills.items()],
    )
    connection.executemany(
        "UPDATE orders SET status = ? WHERE market = ? AND id = ?",
        [(status, *key) for key, status in closed.items()],
    )
    connection.executemany(
        UPSERT,
        (
            (market, interval, *candle)
            for (market, interval, _), candle in candles_of(record.trades).items()
        ),
    )


def _as_it_ended(
    row: OrderRow, fills: dict[tuple[int, int], int], closed: dict[tuple[int, int], str]
) -> OrderRow:
    """`row` after its block; what it takes of `fills` and `closed` is gone from them."""
    key = row.market, row.order
    if key in fills or key in closed:
        return row._replace(
            filled=row.filled + fills.pop(key, 0), status=closed.pop(key, row.status)
        )
    return row
