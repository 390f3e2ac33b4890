"""The vote journal: what this validator must not forget before it speaks.

    journal = Journal.open(path, key.public, network, once=("vote", "timeout", "proposal"))
    journal.write([("vote", slot, vote), ("safety", b"", state)])  # durable when it returns
    send(vote)

Entries of kinds declared `once` can never be replaced: a second, different value for a slot is
refused and nothing of that write remains. This is the last line of defence against signing
twice, behind all rules of consensus. A declaration is remembered by the file.

Keys sort as bytes: write slot numbers as fixed-width big-endian integers, so that `prune`
keeps the newest. Of a kind that is `once`, pruned slots stay closed for ever.

A journal that was exported is sealed and cannot be opened: two copies would sign twice. One
that was imported, or begun for a key that may have signed elsewhere, says `watch`: its owner
signs nothing until an epoch has begun, and then calls `end_watch`.

The journal is its own file, so that no query and no full index can ever delay a vote.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self

import apsw

from storage._database import Writer
from storage._lock import Lock
from storage.faults import (
    EntryRefused,
    JournalDamaged,
    JournalExported,
    JournalInUse,
    JournalMismatch,
    JournalMissing,
    SlotTaken,
)
from storage.medium import FILES, Medium

JOURNAL_BYTES_MAX: Final = 268_435_456  # a larger file: DiskFull; pruning keeps it far below
KIND_BYTES_MAX: Final = 32  # longer: EntryRefused
KEY_BYTES_MAX: Final = 128  # longer: EntryRefused
VALUE_BYTES_MAX: Final = 4_194_304  # longer: EntryRefused
WRITE_ENTRIES_MAX: Final = 4_096  # more in one write: EntryRefused

APPLICATION: Final = 0x4F544A31  # "OTJ1"
VERSION: Final = 1
SEALED: Final = "sealed"  # in the owner's table: the SHA-256 of what was exported
WATCH: Final = "watch"  # in the owner's table: present while nothing may be signed
_SUM_BYTES: Final = 8
LAYOUT: Final = """
CREATE TABLE owner(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE once(kind TEXT PRIMARY KEY, pruned BLOB) STRICT, WITHOUT ROWID;
CREATE TABLE entries(
    kind TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, sum BLOB NOT NULL,
    PRIMARY KEY(kind, key)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class JournalStatistics:
    """Durable writes since the journal was opened; nearly all of a commit is the flush."""

    writes: int
    entries: int
    slots_refused: int
    fsync_ms_max: float
    fsync_ms_mean: float
    bytes: int


class Journal:
    """Durable entries (kind, key, value); one process, any thread."""

    def __init__(self, writer: Writer, lock: Lock, once: frozenset[str]) -> None:
        """Use `Journal.open`."""
        self._writer = writer
        self._lock = lock
        self._once = once
        self._watch = WATCH in owner_rows(writer)
        self._entries = 0
        self._slots_refused = 0

    @classmethod
    def open(
        cls,
        path: Path,
        owner: bytes,
        network: bytes,
        *,
        once: Iterable[str] = (),
        create: bool = True,
        watch: bool = False,
        bytes_max: int = JOURNAL_BYTES_MAX,
        medium: Medium = FILES,
    ) -> Self:
        """The journal of the consensus key `owner` (public, 32 bytes) in `network`.

        `create` False refuses to begin a new one. `watch` is for a key that has signed before,
        or may have: a journal that has to be begun says `watch`; one that is there is as it is.
        Errors: `JournalInUse`, `JournalMissing`, `JournalMismatch`, `JournalDamaged`,
            `JournalExported`, `SchemaMismatch`, `DiskFull`, `StorageUnusable`.
        """
        if not create and not medium.exists(path):
            raise JournalMissing(path)
        lock = medium.lock(path, JournalInUse)
        writer: Writer | None = None
        try:
            writer = Writer(path, JournalDamaged, bytes_max, alone=True, medium=medium)
            begun = _establish(writer, owner, network, create=create, watch=watch)
            if not begun:
                writer.check()
                if SEALED in check_owner(writer, owner, network):
                    raise JournalExported(path)
            with writer.transaction() as connection:
                for kind in once:
                    connection.execute("INSERT OR IGNORE INTO once(kind) VALUES(?)", (kind,))
                kinds: list[Any] = connection.execute("SELECT kind FROM once").fetchall()
            journal = cls(writer, lock, frozenset(kind for (kind,) in kinds))
            journal._check_sums()
        except BaseException:
            if writer is not None:
                writer.abandon()
            lock.release()
            raise
        return journal

    def write(
        self,
        entries: Sequence[tuple[str, bytes, bytes]],
        deletes: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        """Delete, then write (kind, key, value) entries, all in one durable transaction.

        An entry replaces an older one, except of a kind that is `once`: there the same value
        again changes nothing, and another value is refused.
        Errors: `SlotTaken`, `EntryRefused`, `DiskFull`, `StorageUnusable`: nothing is written.
        """
        _check_sizes(entries, deletes)
        with self._counted(), self._writer.transaction() as connection:
            for kind, key in deletes:
                if kind in self._once:
                    raise SlotTaken(kind, key, "is kept for ever and cannot be deleted")
                connection.execute("DELETE FROM entries WHERE kind = ? AND key = ?", (kind, key))
            for kind, key, value in entries:
                if kind in self._once and self._is_written(connection, kind, key, value):
                    continue
                connection.execute(
                    "INSERT OR REPLACE INTO entries VALUES(?, ?, ?, ?)",
                    (kind, key, value, entry_sum(kind, key, value)),
                )
        self._entries += len(entries)

    def get(self, kind: str, key: bytes) -> bytes | None:
        """The value of one entry, or None.

        Errors: `JournalDamaged`.
        """
        with self._writer.reading() as connection:
            row = connection.execute(
                "SELECT key, value, sum FROM entries WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return None if row is None else self._checked(kind, *row)

    def read(self, kind: str) -> dict[bytes, bytes]:
        """All entries of a kind in the order of their keys.

        Errors: `JournalDamaged`.
        """
        with self._writer.reading() as connection:
            rows: list[Any] = connection.execute(
                "SELECT key, value, sum FROM entries WHERE kind = ? ORDER BY key", (kind,)
            ).fetchall()
        return {row[0]: self._checked(kind, *row) for row in rows}

    def prune(self, kind: str, keep_last: int) -> int:
        """Forget all entries of a kind but those with the `keep_last` greatest keys.

        Slots of a `once` kind up to the greatest one forgotten stay closed. Returns how many
        were forgotten.
        """
        with self._writer.transaction() as connection:
            edge = connection.execute(
                "SELECT key FROM entries WHERE kind = ? ORDER BY key DESC LIMIT 1 OFFSET ?",
                (kind, max(0, keep_last)),
            ).get
            if edge is None:
                return 0
            if kind in self._once:
                connection.execute("UPDATE once SET pruned = ? WHERE kind = ?", (edge, kind))
            connection.execute("DELETE FROM entries WHERE kind = ? AND key <= ?", (kind, edge))
            return connection.changes()

    @property
    def watch(self) -> bool:
        """Whether nothing may be signed until an epoch has begun."""
        return self._watch

    def end_watch(self) -> None:
        """An epoch has begun: this journal knows all that its key signs from now on. Durable.

        Errors: `DiskFull`, `StorageUnusable`: the watch goes on.
        """
        with self._writer.transaction() as connection:
            connection.execute("DELETE FROM owner WHERE name = ?", (WATCH,))
        self._watch = False

    def statistics(self) -> JournalStatistics:
        """Writes and flush times since the journal was opened, and the file's size."""
        times = self._writer.times()
        with self._writer.reading() as connection:
            size = connection.pragma("page_count") * connection.pragma("page_size")
        return JournalStatistics(
            times.commits, self._entries, self._slots_refused, times.ms_max, times.ms_mean, size
        )

    def close(self) -> None:
        """Close the file and let another process have it."""
        self._writer.close()
        self._lock.release()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        try:
            yield
        except SlotTaken:
            self._slots_refused += 1
            raise

    def _is_written(self, connection: apsw.Connection, kind: str, key: bytes, value: bytes) -> bool:
        """Whether the slot holds this very value already.

        Errors: `SlotTaken` when it holds another, or lies at or below what was pruned.
        """
        row = connection.execute(
            "SELECT key, value, sum FROM entries WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        if row is not None:
            if self._checked(kind, *row) != value:
                raise SlotTaken(kind, key, "was written with another value")
            return True
        pruned = connection.execute("SELECT pruned FROM once WHERE kind = ?", (kind,)).get
        if pruned is not None and key <= pruned:
            raise SlotTaken(kind, key, "was pruned and stays closed")
        return False

    def _checked(self, kind: str, key: bytes, value: bytes, expected: bytes) -> bytes:
        if entry_sum(kind, key, value) != expected:
            raise JournalDamaged(self._writer.path, f"entry {kind} {key.hex()} has changed")
        return value

    def _check_sums(self) -> None:
        with self._writer.reading() as connection:
            for kind, *row in connection.execute("SELECT kind, key, value, sum FROM entries"):
                self._checked(kind, *row)


def _establish(writer: Writer, owner: bytes, network: bytes, *, create: bool, watch: bool) -> bool:
    """Make the tables and the owner's row in a new file; True when it was new.

    A crash between the two leaves a file without an owner: it has never been written to.
    """
    begun = writer.establish(APPLICATION, VERSION, LAYOUT)
    with writer.transaction() as connection:
        if connection.execute("SELECT count(*) FROM owner").get:
            return False
        if not create:
            raise JournalMissing(writer.path)
        rows = [("key", owner), ("network", network), *([(WATCH, b"")] if watch else [])]
        connection.executemany("INSERT INTO owner VALUES(?, ?)", rows)
    return begun


def owner_rows(writer: Writer) -> dict[str, bytes]:
    """The owner's table: key and network, and what is marked; empty in a file never used."""
    with writer.reading() as connection:
        rows: list[Any] = connection.execute("SELECT name, value FROM owner").fetchall()
    return dict(rows)


def check_owner(writer: Writer, owner: bytes, network: bytes) -> dict[str, bytes]:
    """The owner's table. Errors: `JournalMismatch`."""
    found = owner_rows(writer)
    if found.get("key") != owner:
        raise JournalMismatch(writer.path, "consensus key")
    if found.get("network") != network:
        raise JournalMismatch(writer.path, "network")
    return found


def _check_sizes(
    entries: Sequence[tuple[str, bytes, bytes]], deletes: Sequence[tuple[str, bytes]]
) -> None:
    if len(entries) + len(deletes) > WRITE_ENTRIES_MAX:
        raise EntryRefused("a write", len(entries) + len(deletes), WRITE_ENTRIES_MAX)
    for kind, key, value in entries:
        if len(kind.encode()) > KIND_BYTES_MAX:
            raise EntryRefused("a kind", len(kind), KIND_BYTES_MAX)
        if len(key) > KEY_BYTES_MAX:
            raise EntryRefused("a key", len(key), KEY_BYTES_MAX)
        if len(value) > VALUE_BYTES_MAX:
            raise EntryRefused("a value", len(value), VALUE_BYTES_MAX)


def entry_sum(kind: str, key: bytes, value: bytes) -> bytes:
    """Catches a changed byte, which SQLite's structural check does not see."""
    header = b"%s\0%d\0" % (kind.encode(), len(key))
    return sha256(header + key + value).digest()[:_SUM_BYTES]
