"""Reading the index: every query has a row limit and a deadline, and never blocks the writer.

Lists come newest first unless said otherwise. A cursor `before` is the number, position or
height of the last row of the page before; None starts at the newest.
"""

from typing import Any, Final, NamedTuple, TypeVar

from storage._database import Readers
from storage.candles import INTERVALS_MS
from storage.faults import QueryInvalid
from storage.rows import (
    BlockRow,
    CandleRow,
    ChatRow,
    KeyRow,
    OrderRow,
    RejectionRow,
    RollupRow,
    TradeRow,
    TransactionRow,
    WithdrawalRow,
)

QUERY_ROWS_MAX: Final = 1_000  # a larger limit: QueryInvalid
QUERY_MS_MAX: Final = 2_000  # a query that takes longer: QueryTooSlow
_INTEGER_MAX: Final = 2**63 - 1

_ORDER_COLUMNS: Final = (
    "id, account, market, side, price, size, filled, status, client_id, source, height, position"
)
_ROLLUP_COLUMNS: Final = (
    "number, height, root, withdrawal_root, deposits, accumulator, signatures, tx"
)
_WITHDRAWAL_COLUMNS: Final = "rollup, leaf, account, token, units"
_KEY_COLUMNS: Final = "account, key, time_ms, scope, expires_ms"
_CHAT_COLUMNS: Final = "room, cid, account, sequence, time_ms, shown"

Row = TypeVar("Row", bound=NamedTuple)


class Queries:
    """The reading half of the index.

    Errors of every method: `QueryInvalid`, `QueryTooSlow`, `QueriesBusy`, and the local faults of
    a damaged or unusable file.
    """

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._queries = 0

    def block(self, height: int) -> BlockRow | None:
        """The block at `height`, or None."""
        return self._one(BlockRow, "SELECT * FROM heights WHERE height = ?", _integer(height))

    def newest(self) -> BlockRow | None:
        """The newest recorded block, or None."""
        return self._one(BlockRow, "SELECT * FROM heights ORDER BY height DESC LIMIT 1")

    def oldest(self) -> BlockRow | None:
        """The oldest recorded block, or None."""
        return self._one(BlockRow, "SELECT * FROM heights ORDER BY height LIMIT 1")

    def block_by_cid(self, cid: bytes) -> BlockRow | None:
        """The recorded block with this CID, or None."""
        return self._one(BlockRow, "SELECT * FROM heights WHERE block = ?", cid)

    def heights(self, first: int, last: int, limit: int) -> list[BlockRow]:
        """Blocks from height `first` to `last`, both included, oldest first."""
        return self._many(
            BlockRow,
            "SELECT * FROM heights WHERE height BETWEEN ? AND ? ORDER BY height LIMIT ?",
            _integer(first),
            _integer(last),
            _rows(limit),
        )

    def trades(self, market: int, limit: int, before: int | None = None) -> list[TradeRow]:
        """Trades of a market with numbers below `before`."""
        return self._many(
            TradeRow,
            "SELECT * FROM trades WHERE market = ? AND number < ? ORDER BY number DESC LIMIT ?",
            _integer(market),
            _cursor(before),
            _rows(limit),
        )

    def account_trades(
        self, account: bytes, market: int, limit: int, before: int | None = None
    ) -> list[TradeRow]:
        """Trades of an account in a market, on either side, with numbers below `before`."""
        one_side = """SELECT * FROM (SELECT * FROM trades WHERE {0} = ?1 AND market = ?2
            AND number < ?3 ORDER BY number DESC LIMIT ?4)"""
        return self._many(
            TradeRow,
            f"{one_side.format('maker_account')} UNION {one_side.format('taker_account')} "
            "ORDER BY number DESC LIMIT ?4",
            account,
            _integer(market),
            _cursor(before),
            _rows(limit),
        )

    def candles(
        self, market: int, interval: str, from_ms: int, to_ms: int, limit: int
    ) -> list[CandleRow]:
        """Candles that begin in [from_ms, to_ms), oldest first; spans without trades are absent.

        `interval` is one of "1m", "5m", "1h", "1d". The next page begins after the last start.
        """
        if interval not in INTERVALS_MS:
            raise QueryInvalid(f"no such interval; choose one of {', '.join(INTERVALS_MS)}")
        return self._many(
            CandleRow,
            """SELECT start_ms, open, high, low, close, volume, trades FROM candles
            WHERE market = ? AND interval_ms = ? AND start_ms >= ? AND start_ms < ?
            ORDER BY start_ms LIMIT ?""",
            _integer(market),
            INTERVALS_MS[interval],
            _integer(from_ms),
            _integer(to_ms),
            _rows(limit),
        )

    def order(self, market: int, order: int) -> OrderRow | None:
        """One order, or None."""
        return self._one(
            OrderRow,
            f"SELECT {_ORDER_COLUMNS} FROM orders WHERE market = ? AND id = ?",
            _integer(market),
            _integer(order),
        )

    def orders(
        self,
        account: bytes,
        market: int | None = None,
        status: str | None = None,
        *,
        limit: int,
        before: int | None = None,
    ) -> list[OrderRow]:
        """Orders of an account, of one market and status or (None) of all.

        `before` is the `position` of a row.
        """
        conditions = ["account = ?", "position < ?"]
        values: list[Any] = [account, _cursor(before)]
        if market is not None:
            conditions.append("market = ?")
            values.append(_integer(market))
        if status == "open":
            conditions.append("status = 'open'")  # in words, so that the partial index serves it
        elif status is not None:
            conditions.append("status = ?")
            values.append(status)
        return self._many(
            OrderRow,
            f"SELECT {_ORDER_COLUMNS} FROM orders WHERE {' AND '.join(conditions)} "
            "ORDER BY position DESC LIMIT ?",
            *values,
            _rows(limit),
        )

    def transaction(self, source: bytes) -> TransactionRow | None:
        """What became of a transaction, or None while it is not in a block."""
        return self._one(TransactionRow, "SELECT * FROM transactions WHERE source = ?", source)

    def sequenced(self, first: int, last: int) -> list[tuple[int, bytes]]:
        """(height, id) of all transactions in the blocks from `first` to `last`, in sequence.

        At most `QUERY_ROWS_MAX` heights; who needs more reads page by page.
        """
        _integer(first)
        _rows(max(1, _integer(last) - first + 1))
        self._queries += 1
        with self._readers.reading() as connection:
            rows: list[Any] = connection.execute(
                "SELECT height, source FROM transactions WHERE height BETWEEN ? AND ? "
                "ORDER BY height, position",
                (first, last),
            ).fetchall()
        return rows

    def transactions_at(
        self, height: int, limit: int, after: int | None = None
    ) -> list[TransactionRow]:
        """Transactions of the block at `height` after position `after`, in sequence."""
        return self._many(
            TransactionRow,
            """SELECT * FROM transactions WHERE height = ? AND position > ?
            ORDER BY position LIMIT ?""",
            _integer(height),
            -1 if after is None else _integer(after),
            _rows(limit),
        )

    def rejections(self, source: bytes, limit: int) -> list[RejectionRow]:
        """The refused actions of a transaction, in order."""
        return self._many(
            RejectionRow,
            "SELECT * FROM rejections WHERE source = ? ORDER BY action LIMIT ?",
            source,
            _rows(limit),
        )

    def key_at(self, account: bytes, key: bytes, time_ms: int) -> KeyRow | None:
        """The authorization of `key` that was in force at block time `time_ms`, or None."""
        return self._one(
            KeyRow,
            f"""SELECT {_KEY_COLUMNS} FROM keys WHERE account = ? AND key = ? AND time_ms <= ?
            ORDER BY time_ms DESC, position DESC LIMIT 1""",
            account,
            key,
            _integer(time_ms),
        )

    def rollup(self, number: int) -> RollupRow | None:
        """A rollup block, or None."""
        return self._one(
            RollupRow, f"SELECT {_ROLLUP_COLUMNS} FROM rollups WHERE number = ?", _integer(number)
        )

    def rollups(self, limit: int, before: int | None = None) -> list[RollupRow]:
        """Rollup blocks with numbers below `before`."""
        return self._many(
            RollupRow,
            f"SELECT {_ROLLUP_COLUMNS} FROM rollups WHERE number < ? ORDER BY number DESC LIMIT ?",
            _cursor(before),
            _rows(limit),
        )

    def rollup_withdrawals(
        self, number: int, limit: int, after: int | None = None
    ) -> list[WithdrawalRow]:
        """The leaves of a rollup block after leaf `after`, in the order of the tree."""
        return self._many(
            WithdrawalRow,
            f"""SELECT {_WITHDRAWAL_COLUMNS} FROM withdrawals WHERE rollup = ? AND leaf > ?
            ORDER BY leaf LIMIT ?""",
            _integer(number),
            -1 if after is None else _integer(after),
            _rows(limit),
        )

    def withdrawals(
        self, account: bytes, limit: int, before: tuple[int, int] | None = None
    ) -> list[WithdrawalRow]:
        """Withdrawals of an account; `before` is (rollup, leaf) of a row."""
        rollup, leaf = before or (_INTEGER_MAX, _INTEGER_MAX)
        return self._many(
            WithdrawalRow,
            f"""SELECT {_WITHDRAWAL_COLUMNS} FROM withdrawals
            WHERE account = ? AND (rollup, leaf) < (?, ?)
            ORDER BY rollup DESC, leaf DESC LIMIT ?""",
            account,
            _integer(rollup),
            _integer(leaf),
            _rows(limit),
        )

    def chat(self, room: str) -> list[ChatRow]:
        """All kept messages of a room in the order in which they were recorded."""
        found: list[ChatRow] = []
        last = 0
        while True:
            with self._readers.reading() as connection:
                page: list[Any] = connection.execute(
                    f"""SELECT position, {_CHAT_COLUMNS} FROM chat
                    WHERE room = ? AND position > ? ORDER BY position LIMIT ?""",
                    (room, last, QUERY_ROWS_MAX),
                ).fetchall()
            if not page:
                return found
            found += [ChatRow._make(row[1:]) for row in page]
            last = page[-1][0]

    def mark(self, name: str) -> bytes | None:
        """The newest value recorded under `name`, or None."""
        with self._readers.reading() as connection:
            value = connection.execute("SELECT value FROM marks WHERE name = ?", (name,)).get
        return None if value is None else bytes(value)

    def _one(self, kind: type[Row], sql: str, *values: Any) -> Row | None:
        self._queries += 1
        with self._readers.reading() as connection:
            row = connection.execute(sql, values).fetchone()
        return None if row is None else kind._make(row)

    def _many(self, kind: type[Row], sql: str, *values: Any) -> list[Row]:
        self._queries += 1
        with self._readers.reading() as connection:
            rows = connection.execute(sql, values).fetchall()
        return [kind._make(row) for row in rows]


def _rows(limit: int) -> int:
    if not 1 <= limit <= QUERY_ROWS_MAX:
        raise QueryInvalid(f"a limit of {limit}; choose one of 1 to {QUERY_ROWS_MAX}")
    return limit


def _cursor(before: int | None) -> int:
    return _INTEGER_MAX if before is None else _integer(before)


def _integer(value: int) -> int:
    if not 0 <= value <= _INTEGER_MAX:
        raise QueryInvalid(f"{str(value)[:32]} is out of range; choose a number below 2^63")
    return value
