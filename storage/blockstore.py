"""Blocks by their CID: verified when they come in and again when they go out.

    store.put(cid_of(data), data)
    assert store.get(cid) == data

What comes in with the wrong CID is the sender's fault (`BlockMismatch`); what goes out wrong
has been damaged here (`BlockDamaged`), and the process must not go on as if nothing were.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import apsw

from primitives.cid import matches
from storage._database import Writer
from storage.faults import BlockDamaged, BlockMismatch, BlockOversized

BLOCK_BYTES_MAX: Final = 8_388_608  # larger: BlockOversized; a batch of 256 large envelopes fits
PUT_BLOCKS_MAX: Final = 4_096  # more at once: put in several transactions of this many
_PAGE_ROWS: Final = 512  # CIDs read at a time while iterating

BLOCK_TABLES: Final = """
CREATE TABLE blocks(cid BLOB NOT NULL UNIQUE, data BLOB NOT NULL) STRICT;
CREATE TABLE totals(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO totals VALUES('blocks', 0), ('bytes', 0);
"""


@dataclass(frozen=True, slots=True)
class BlockstoreStatistics:
    """What the store holds, and what went through it since it was opened."""

    blocks: int
    bytes: int
    puts: int
    gets: int
    misses: int


class Blockstore(Protocol):
    """Where blocks live. Every method may be called from any thread."""

    def put(self, cid: bytes, data: bytes) -> None:
        """Keep `data`; durable when it returns. Again: nothing happens.

        Errors: `BlockMismatch`, `BlockOversized`.
        """

    def put_many(self, blocks: Sequence[tuple[bytes, bytes]]) -> None:
        """Keep several (cid, data), durably.

        Errors: those of `put`; then none of them is kept.
        """

    def get(self, cid: bytes) -> bytes | None:
        """The bytes of `cid`, or None.

        Errors: `BlockDamaged`.
        """

    def has(self, cid: bytes) -> bool:
        """Whether `get` would find it."""

    def delete(self, cids: Iterable[bytes]) -> None:
        """Forget these; unknown ones are passed over."""

    def iterate(self) -> Iterator[bytes]:
        """The CIDs of all blocks in ascending order; those put meanwhile may be missing."""

    def statistics(self) -> BlockstoreStatistics:
        """What the store holds at this instant."""


class Reading(Protocol):
    """Something that lends read connections."""

    def reading(self) -> AbstractContextManager[apsw.Connection]:
        """A connection for one query."""


class SqliteBlockstore:
    """The embedded default: a table in the node's database."""

    def __init__(self, writer: Writer, readers: Reading) -> None:
        self._writer = writer
        self._readers = readers
        self._puts = 0
        self._gets = 0
        self._misses = 0

    def put(self, cid: bytes, data: bytes) -> None:
        """See `Blockstore.put`."""
        self.put_many([(cid, data)])

    def put_many(self, blocks: Sequence[tuple[bytes, bytes]]) -> None:
        """See `Blockstore.put_many`."""
        verify_blocks(blocks)
        for start in range(0, len(blocks), PUT_BLOCKS_MAX):
            with self._writer.transaction() as connection:
                write_blocks(connection, blocks[start : start + PUT_BLOCKS_MAX])
        self._puts += len(blocks)

    def get(self, cid: bytes) -> bytes | None:
        """See `Blockstore.get`."""
        self._gets += 1
        with self._readers.reading() as connection:
            data = connection.execute("SELECT data FROM blocks WHERE cid = ?", (cid,)).get
        if data is None:
            self._misses += 1
            return None
        if not matches(cid, data):
            raise BlockDamaged(cid)
        return bytes(data)

    def has(self, cid: bytes) -> bool:
        """See `Blockstore.has`."""
        with self._readers.reading() as connection:
            return connection.execute("SELECT 1 FROM blocks WHERE cid = ?", (cid,)).get is not None

    def delete(self, cids: Iterable[bytes]) -> None:
        """See `Blockstore.delete`."""
        with self._writer.transaction() as connection:
            delete_blocks(connection, cids)

    def iterate(self) -> Iterator[bytes]:
        """See `Blockstore.iterate`."""
        last = b""
        while True:
            with self._readers.reading() as connection:
                page: list[Any] = connection.execute(
                    "SELECT cid FROM blocks WHERE cid > ? ORDER BY cid LIMIT ?", (last, _PAGE_ROWS)
                ).fetchall()
            if not page:
                return
            for (cid,) in page:
                yield cid
            last = page[-1][0]

    def statistics(self) -> BlockstoreStatistics:
        """See `Blockstore.statistics`."""
        with self._readers.reading() as connection:
            rows: list[Any] = connection.execute("SELECT name, value FROM totals").fetchall()
        totals: dict[str, int] = dict(rows)
        return BlockstoreStatistics(
            totals["blocks"], totals["bytes"], self._puts, self._gets, self._misses
        )


def verify_blocks(blocks: Iterable[tuple[bytes, bytes]]) -> None:
    """Check that every CID names its bytes.

    Errors: `BlockMismatch`, `BlockOversized`.
    """
    for cid, data in blocks:
        if len(data) > BLOCK_BYTES_MAX:
            raise BlockOversized(len(data), BLOCK_BYTES_MAX)
        if not matches(cid, data):
            raise BlockMismatch(cid)


def write_blocks(connection: apsw.Connection, blocks: Iterable[tuple[bytes, bytes]]) -> None:
    """Insert verified blocks inside a transaction, and keep the totals right."""
    count = size = 0
    for cid, data in blocks:
        connection.execute("INSERT OR IGNORE INTO blocks(cid, data) VALUES(?, ?)", (cid, data))
        if connection.changes():
            count += 1
            size += len(data)
    _add_to_totals(connection, count, size)


def delete_blocks(connection: apsw.Connection, cids: Iterable[bytes]) -> None:
    """Delete blocks inside a transaction, and keep the totals right."""
    count = size = 0
    for cid in cids:
        removed = connection.execute(
            "DELETE FROM blocks WHERE cid = ? RETURNING length(data)", (cid,)
        ).get
        if removed is not None:
            count += 1
            size += removed
    _add_to_totals(connection, -count, -size)


def _add_to_totals(connection: apsw.Connection, count: int, size: int) -> None:
    if count:
        connection.executemany(
            "UPDATE totals SET value = value + ? WHERE name = ?",
            [(count, "blocks"), (size, "bytes")],
        )
