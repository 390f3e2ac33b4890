"""What the embedded chain keeps on disk: py-evm's keys, and what JSON-RPC asks for most.

One SQLite transaction holds everything that one block changes, and it is flushed to the disk
before the block's sender is answered: a killed process never forgets an acknowledged
transaction, and never keeps half a block. A write costs as much as the block is large, however
long the chain. Rendered blocks, receipts and logs are stored beside the trie, so that reading
them needs no EVM.
"""

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import apsw
import msgspec

from primitives.durable import sync_directory
from settlement.faults import EvmStateUnusable

FILE_NAME = "chain.sqlite"
SCHEMA_VERSION = 1
PAGE_CACHE_KB = 32_768
LOGS_ANSWERED_MAX = 10_000  # more: the question is refused and must name fewer blocks
WAIT_FOR_LOCK_MS = 1_000  # a second process on the same directory is refused after this

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta(name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS trie(key BLOB PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks(
  number INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS transactions(
  hash BLOB PRIMARY KEY, number INTEGER NOT NULL, body BLOB NOT NULL, receipt BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS transactions_by_number ON transactions(number);
CREATE TABLE IF NOT EXISTS logs(
  number INTEGER NOT NULL, position INTEGER NOT NULL, address BLOB NOT NULL, topic BLOB NOT NULL,
  topics BLOB NOT NULL, body BLOB NOT NULL, PRIMARY KEY(number, position));
CREATE INDEX IF NOT EXISTS logs_by_source ON logs(address, topic, number);
"""


class StoredLog(msgspec.Struct, frozen=True):
    """One log as JSON, with the fields that filters look at; `topics` are concatenated words."""

    address: bytes
    topics: bytes
    body: bytes


class StoredTransaction(msgspec.Struct, frozen=True):
    """One mined transaction as JSON."""

    hash: bytes
    body: bytes
    receipt: bytes


class StoredBlock(msgspec.Struct, frozen=True):
    """One block as JSON, and all that belongs to it."""

    number: int
    hash: bytes
    body: bytes
    transactions: list[StoredTransaction] = []
    logs: list[StoredLog] = []


class LogQuery(msgspec.Struct, frozen=True):
    """`addresses` empty: any. `topics[i]` empty: anything at that place."""

    first: int
    last: int
    addresses: tuple[bytes, ...]
    topics: tuple[tuple[bytes, ...], ...]


class TooManyLogs(Exception):
    """The answer would hold more than `LOGS_ANSWERED_MAX` logs."""


class EvmStore:
    """The chain's database. All methods may be called from any thread."""

    def __init__(self, directory: Path, identity: str) -> None:
        """Open or create the database of the chain called `identity` in `directory`.

        Errors: `EvmStateUnusable` for another chain's, another process's or a damaged file.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._dirty: dict[bytes, bytes | None] = {}
        try:
            self._database = apsw.Connection(str(directory / FILE_NAME))
            self._database.set_busy_timeout(WAIT_FOR_LOCK_MS)
            for pragma in (
                "locking_mode=EXCLUSIVE",
                "journal_mode=WAL",
                "synchronous=FULL",
                f"cache_size=-{PAGE_CACHE_KB}",
            ):
                self._database.execute(f"PRAGMA {pragma}").fetchall()
            with self._database:
                self._database.execute(_SCHEMA)
                self._claim(directory, f"{identity} schema {SCHEMA_VERSION}")
        except (apsw.BusyError, apsw.LockedError):
            raise EvmStateUnusable(str(directory), "in use by another process") from None
        except (apsw.NotADBError, apsw.CorruptError, apsw.CantOpenError) as error:
            raise EvmStateUnusable(str(directory), f"unreadable ({error})") from None
        sync_directory(directory)

    def _claim(self, directory: Path, identity: str) -> None:
        self._database.execute("INSERT OR IGNORE INTO meta VALUES('identity', ?)", (identity,))
        found = self._database.execute("SELECT value FROM meta WHERE name='identity'").get
        if found != identity:
            raise EvmStateUnusable(str(directory), f"holds {found}, not {identity}")

    def close(self) -> None:
        """Give the file back; whatever was not committed is gone."""
        with self._lock:
            self._dirty.clear()
            self._database.close()

    # py-evm's half: keys and values, buffered until the block is complete

    def get(self, key: bytes) -> bytes | None:
        """The value of a trie key, uncommitted ones included."""
        with self._lock:
            if key in self._dirty:
                return self._dirty[key]
            row = self._database.execute("SELECT value FROM trie WHERE key=?", (key,)).fetchone()
            return row[0] if row else None

    def put(self, key: bytes, value: bytes | None) -> None:
        """Remember a value (None: its absence) for the next commit."""
        with self._lock:
            self._dirty[key] = value

    def discard(self) -> None:
        """Forget everything since the last commit."""
        with self._lock:
            self._dirty.clear()

    def commit(self, block: StoredBlock) -> None:
        """Write the buffered keys and `block` durably, all or nothing."""
        with self._lock:
            execute, many = self._database.execute, self._database.executemany
            with self._database:
                many(
                    "INSERT OR REPLACE INTO trie VALUES(?,?)",
                    [(k, v) for k, v in self._dirty.items() if v is not None],
                )
                many(
                    "DELETE FROM trie WHERE key=?", [(k,) for k, v in self._dirty.items() if not v]
                )
                execute("INSERT INTO blocks VALUES(?,?,?)", (block.number, block.hash, block.body))
                many(
                    "INSERT INTO transactions VALUES(?,?,?,?)",
                    [(tx.hash, block.number, tx.body, tx.receipt) for tx in block.transactions],
                )
                many(
                    "INSERT INTO logs VALUES(?,?,?,?,?,?)",
                    [
                        (block.number, position, log.address, log.topics[:32], log.topics, log.body)
                        for position, log in enumerate(block.logs)
                    ],
                )
            self._dirty.clear()

    # JSON-RPC's half

    def head(self) -> int | None:
        """The highest block's number, None before genesis."""
        found: int | None = self._get("SELECT max(number) FROM blocks", ())
        return found

    def block(self, number: int) -> bytes | None:
        """The JSON of the block at `number`, with transaction hashes."""
        found: bytes | None = self._get("SELECT body FROM blocks WHERE number=?", (number,))
        return found

    def number_of(self, block_hash: bytes) -> int | None:
        """The number of the block with this hash."""
        found: int | None = self._get("SELECT number FROM blocks WHERE hash=?", (block_hash,))
        return found

    def transaction(self, tx_hash: bytes) -> bytes | None:
        """The JSON of a mined transaction."""
        found: bytes | None = self._get("SELECT body FROM transactions WHERE hash=?", (tx_hash,))
        return found

    def transactions(self, number: int) -> list[bytes]:
        """The JSON of all transactions of a block (one, as each block mines one)."""
        with self._lock:
            rows = self._database.execute(
                "SELECT body FROM transactions WHERE number=?", (number,)
            ).fetchall()
        return [bytes(cast(bytes, row[0])) for row in rows]

    def receipt(self, tx_hash: bytes) -> bytes | None:
        """The JSON of a mined transaction's receipt."""
        found: bytes | None = self._get("SELECT receipt FROM transactions WHERE hash=?", (tx_hash,))
        return found

    def logs(self, query: LogQuery) -> list[bytes]:
        """The JSON of all logs that match, in the chain's order.

        Errors: `TooManyLogs`.
        """
        where, values = ["number BETWEEN ? AND ?"], [query.first, query.last]
        for column, wanted in (("address", query.addresses), ("topic", query.topics[:1])):
            options = wanted[0] if column == "topic" and wanted else wanted
            if options:
                where.append(f"{column} IN ({','.join('?' * len(options))})")
                values.extend(options)  # type: ignore[arg-type]
        statement = (
            f"SELECT topics, body FROM logs WHERE {' AND '.join(where)} ORDER BY number, position"
        )
        found: list[bytes] = []
        with self._lock:
            for topics, body in self._database.execute(statement, values):
                if _topics_match(topics, query.topics):
                    found.append(body)
                    if len(found) > LOGS_ANSWERED_MAX:
                        raise TooManyLogs
        return found

    def _get(self, statement: str, values: Sequence[int | bytes]) -> Any:
        with self._lock:
            row = self._database.execute(statement, values).fetchone()
        return row[0] if row else None


def _topics_match(topics: bytes, wanted: Iterable[tuple[bytes, ...]]) -> bool:
    words = [topics[i : i + 32] for i in range(0, len(topics), 32)]
    for place, options in enumerate(wanted):
        if place >= len(words) or (options and words[place] not in options):
            return False
    return True
