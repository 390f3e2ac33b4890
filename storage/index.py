"""The index: blocks, what they did, and what traders ask about, in one SQLite database.

    index = Index.open(path, network)
    index.record_block(ChainRecord(BlockRow(height, cid, batch, time_ms, root), blocks=...))
    index.trades(market, limit=100)

One durable transaction per committed block: after any crash the newest recorded height is there
with all its rows, and nothing of the next one is. The index is a copy of what blocks say;
who loses it builds it again from peers.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from storage import _layout
from storage._database import ReaderPool, Readers, Writer, WriterReads
from storage._lock import Lock
from storage._recording import is_recorded, write_record
from storage.blockstore import (
    BlockstoreStatistics,
    SqliteBlockstore,
    delete_blocks,
    verify_blocks,
    write_blocks,
)
from storage.faults import IndexContradiction, IndexDamaged, IndexInUse, IndexMismatch
from storage.medium import FILES, Medium
from storage.queries import QUERY_MS_MAX, Queries
from storage.rows import ChainRecord, ChatRow

INDEX_BYTES_MAX: Final = 1_099_511_627_776  # default; a file that would grow larger: DiskFull
QUERY_READERS: Final = 4  # queries that run at once; more wait
BLOCK_READERS: Final = 2  # reads of blocks that run at once; queries never take these
BLOCK_READ_MS_MAX: Final = 30_000  # a block that takes longer to read: QueryTooSlow


@dataclass(frozen=True, slots=True)
class IndexStatistics:
    """What the index holds, and its durable commits since it was opened.

    `bytes` is the size of the database file without its write-ahead log.
    """

    height: int | None
    bytes: int
    blocks: BlockstoreStatistics
    queries: int
    commits: int
    commit_ms_max: float
    commit_ms_mean: float


class Index(Queries):
    """The database of one node: one writer at a time, readers that never wait for it."""

    def __init__(
        self, writer: Writer, lock: Lock, readers: Readers, block_readers: Readers
    ) -> None:
        """Use `Index.open`."""
        super().__init__(readers)
        self._writer = writer
        self._lock = lock
        self._block_readers = block_readers
        self.blocks = SqliteBlockstore(writer, block_readers)

    @classmethod
    def open(
        cls,
        path: Path,
        network: bytes,
        *,
        bytes_max: int = INDEX_BYTES_MAX,
        medium: Medium = FILES,
    ) -> Self:
        """The index of `network` at `path`, made when there is none.

        Errors: `IndexInUse`, `IndexMismatch`, `IndexDamaged`, `SchemaMismatch`, `DiskFull`,
            `StorageUnusable`.
        """
        lock = medium.lock(path, IndexInUse)
        writer: Writer | None = None
        try:
            alone = not medium.has_shared_memory
            writer = Writer(path, IndexDamaged, bytes_max, alone=alone, medium=medium)
            writer.establish(_layout.APPLICATION, _layout.VERSION, _layout.LAYOUT)
            _bind_network(writer, network)
            readers: Readers
            block_readers: Readers
            if alone:
                readers = block_readers = WriterReads(writer)
            else:
                readers = ReaderPool(path, IndexDamaged, QUERY_READERS, QUERY_MS_MAX)
                block_readers = ReaderPool(path, IndexDamaged, BLOCK_READERS, BLOCK_READ_MS_MAX)
        except BaseException:
            if writer is not None:
                writer.abandon()
            lock.release()
            raise
        return cls(writer, lock, readers, block_readers)

    def record_block(self, record: ChainRecord) -> bool:
        """Keep a committed block and all that it did, durably; False if it was there already.

        Heights follow each other without a gap; the first one may be any.
        Errors: `IndexContradiction`, `BlockMismatch`, `BlockOversized`, `DiskFull`,
            `StorageUnusable`: nothing of it is kept.
        """
        verify_blocks(record.blocks)
        with self._writer.transaction() as connection:
            if is_recorded(connection, record.block):
                return False
            write_record(connection, record)
        return True

    def sign_rollup(self, number: int, signatures: bytes) -> None:
        """Keep the validators' signatures of a rollup block.

        Errors: `IndexContradiction` when there is no such rollup block.
        """
        self._change_rollup(
            "UPDATE rollups SET signatures = ? WHERE number = ?", signatures, number
        )

    def post_rollup(self, number: int, transaction: bytes) -> None:
        """Keep the EVM transaction that carried a rollup block.

        Errors: `IndexContradiction` when there is no such rollup block.
        """
        self._change_rollup("UPDATE rollups SET tx = ? WHERE number = ?", transaction, number)

    def record_chat(
        self,
        rows: Sequence[ChatRow],
        blocks: Sequence[tuple[bytes, bytes]] = (),
        shown: Iterable[bytes] = (),
        dropped: Sequence[bytes] = (),
    ) -> None:
        """Keep new messages with their blocks, show waiting ones, and forget dropped ones.

        Durable and all or nothing. A dropped message's block is deleted too.
        Errors: `BlockMismatch`, `BlockOversized`, `DiskFull`, `StorageUnusable`.
        """
        verify_blocks(blocks)
        with self._writer.transaction() as connection:
            write_blocks(connection, blocks)
            connection.executemany(
                """INSERT OR IGNORE INTO chat(room, cid, account, sequence, time_ms, shown)
                VALUES(?, ?, ?, ?, ?, ?)""",
                rows,
            )
            connection.executemany(
                "UPDATE chat SET shown = 1 WHERE cid = ?", ((cid,) for cid in shown)
            )
            connection.executemany("DELETE FROM chat WHERE cid = ?", ((cid,) for cid in dropped))
            delete_blocks(connection, dropped)

    def record_marks(self, marks: Sequence[tuple[str, bytes]]) -> None:
        """Keep (name, value) pairs durably, outside of any block."""
        with self._writer.transaction() as connection:
            connection.executemany("INSERT OR REPLACE INTO marks VALUES(?, ?)", marks)

    def check(self) -> None:
        """Read the whole file; takes a while, and writers wait.

        Errors: `IndexDamaged`.
        """
        self._writer.check()

    def statistics(self) -> IndexStatistics:
        """What the index holds at this instant."""
        newest = self.newest()
        times = self._writer.times()
        with self._readers.reading() as connection:
            size = connection.pragma("page_count") * connection.pragma("page_size")
        return IndexStatistics(
            None if newest is None else newest.height,
            size,
            self.blocks.statistics(),
            self._queries,
            times.commits,
            times.ms_max,
            times.ms_mean,
        )

    def close(self) -> None:
        """Close the file after the reads that still run."""
        self._readers.close()
        self._block_readers.close()
        self._writer.close()
        self._lock.release()

    def _change_rollup(self, sql: str, value: bytes, number: int) -> None:
        with self._writer.transaction() as connection:
            connection.execute(sql, (value, number))
            if not connection.changes():
                raise IndexContradiction(f"a change of rollup block {number}, which it lacks")


def _bind_network(writer: Writer, network: bytes) -> None:
    with writer.transaction() as connection:
        found = connection.execute("SELECT id FROM network").get
        if found is None:
            connection.execute("INSERT INTO network VALUES(?)", (network,))
        elif found != network:
            raise IndexMismatch(writer.path, found)
