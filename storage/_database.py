"""One SQLite file: a durable writer, readers that never block it, faults with names.

`synchronous=FULL` in WAL mode: COMMIT returns after the log has been flushed. After a failed
flush the pages in memory and on disk may differ, so such a writer refuses to go on.
"""

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Protocol

import apsw

from primitives.faults import LocalFault
from storage.faults import (
    DiskFull,
    IndexContradiction,
    QueriesBusy,
    QueryTooSlow,
    SchemaMismatch,
    StorageUnusable,
)
from storage.medium import FILES, Medium

BUSY_MS_MAX = 5_000  # waiting for a lock of this file longer: StorageUnusable
LOG_KEPT_BYTES_MAX = 16_777_216  # a longer write-ahead log is cut back after a checkpoint
READER_WAIT_MS_MAX = 2_000  # waiting for a free reader longer: QueriesBusy
PAGE_BYTES = 4_096
_DEADLINE_STEPS = 2_000  # instructions between two looks at the clock

Damaged = Callable[[Path, str], LocalFault]


@contextmanager
def named_faults(path: Path, damaged: Damaged) -> Iterator[None]:
    """Turn what SQLite raises into faults that say what to do."""
    try:
        yield
    except apsw.FullError:
        raise DiskFull(path) from None
    except (apsw.CorruptError, apsw.NotADBError, apsw.FormatError) as error:
        raise damaged(path, str(error)) from error
    except apsw.ConstraintError as error:
        raise IndexContradiction(str(error)) from error
    except (
        apsw.IOError,
        apsw.CantOpenError,
        apsw.ReadOnlyError,
        apsw.PermissionsError,
        apsw.BusyError,
        apsw.LockedError,
        apsw.ConnectionClosedError,
        apsw.ProtocolError,
        apsw.NoMemError,
    ) as error:
        raise StorageUnusable(path, str(error) or type(error).__name__) from error


@dataclass(frozen=True, slots=True)
class CommitTimes:
    """How long durable commits took since the file was opened."""

    commits: int
    ms_max: float
    ms_mean: float


class Writer:
    """The one connection that writes. Threads take turns; a transaction is durable or absent."""

    def __init__(
        self,
        path: Path,
        damaged: Damaged,
        bytes_max: int,
        *,
        alone: bool,
        medium: Medium = FILES,
    ) -> None:
        """Open or create `path`; `alone` keeps every other connection out of the file."""
        self.path = path
        self._damaged = damaged
        self._lock = RLock()
        self._broken: LocalFault | None = None
        self._commits = 0
        self._ms_max = 0.0
        self._ms_sum = 0.0
        created = not medium.exists(path)
        with named_faults(path, damaged):
            self._connection = medium.connect(path)
            try:
                self._configure(bytes_max, alone=alone)
                if created:
                    medium.sync_directory(path.parent)
            except BaseException:
                self.abandon()
                raise

    def _configure(self, bytes_max: int, *, alone: bool) -> None:
        connection = self._connection
        connection.set_busy_timeout(BUSY_MS_MAX)
        if alone:
            connection.pragma("locking_mode", "EXCLUSIVE")
        connection.pragma("journal_mode", "WAL")
        connection.pragma("synchronous", "FULL")
        connection.pragma("cell_size_check", "ON")
        connection.pragma("journal_size_limit", LOG_KEPT_BYTES_MAX)
        connection.pragma("max_page_count", max(1, bytes_max // PAGE_BYTES))

    def establish(self, application: int, version: int, layout: str) -> bool:
        """Make the tables in a new file (True), or check that the file is of this layout.

        Errors: the file's damage fault when it is another program's, `SchemaMismatch`.
        """
        with named_faults(self.path, self._damaged):
            found = self._connection.pragma("application_id")
            found_version = self._connection.pragma("user_version")
            tables = self._connection.execute("SELECT count(*) FROM sqlite_schema").get
        if not found and not tables:
            with self.transaction() as connection:
                connection.execute(layout)
                connection.pragma("application_id", application)
                connection.pragma("user_version", version)
            return True
        if found != application:
            raise self._damaged(self.path, "it is no file of this kind")
        if found_version != version:
            raise SchemaMismatch(self.path, found_version, version)
        return False

    @contextmanager
    def transaction(self) -> Iterator[apsw.Connection]:
        """A durable transaction; an exception inside leaves nothing of it."""
        with self._lock:
            if self._broken is not None:
                raise self._broken
            try:
                with named_faults(self.path, self._damaged):
                    self._connection.execute("BEGIN IMMEDIATE")
                    try:
                        yield self._connection
                        self._commit()
                    except BaseException:
                        if self._connection.in_transaction:
                            self._connection.execute("ROLLBACK")
                        raise
            except StorageUnusable as fault:
                self._broken = fault
                raise

    def _commit(self) -> None:
        begun = time.perf_counter()
        self._connection.execute("COMMIT")
        spent = (time.perf_counter() - begun) * 1_000
        self._commits += 1
        self._ms_sum += spent
        self._ms_max = max(self._ms_max, spent)

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """Read through the writer's own connection, in turn with its transactions."""
        with self._lock, named_faults(self.path, self._damaged):
            yield self._connection

    def check(self) -> None:
        """Read the whole file.

        Errors: the file's damage fault, with the first thing that is wrong.
        """
        with self.reading() as connection:
            verdict = connection.execute("PRAGMA integrity_check(1)").get
        if verdict != "ok":
            raise self._damaged(self.path, str(verdict))

    def times(self) -> CommitTimes:
        """Durable commits since the file was opened."""
        with self._lock:
            mean = self._ms_sum / self._commits if self._commits else 0.0
            return CommitTimes(self._commits, self._ms_max, mean)

    def abandon(self) -> None:
        """Close the file after a fault of its own; that it then fails again says nothing new."""
        with suppress(apsw.Error):
            self.close()

    def close(self) -> None:
        """Close the file; the log is written back when this was the last connection."""
        with self._lock:
            self._connection.close()


class Readers(Protocol):
    """Whatever lends connections for reading."""

    def reading(self) -> AbstractContextManager[apsw.Connection]:
        """A connection for one query. Errors: `QueriesBusy`, `QueryTooSlow`."""

    def close(self) -> None:
        """No reads after this one."""


class WriterReads:
    """Reads in turn with the writes, where a file takes only one connection."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def reading(self) -> AbstractContextManager[apsw.Connection]:
        """The writer's own connection."""
        return self._writer.reading()

    def close(self) -> None:
        """Nothing: the writer closes its connection."""


class ReaderPool:
    """Read-only connections for concurrent threads, each query under a deadline."""

    def __init__(self, path: Path, damaged: Damaged, readers: int, query_ms_max: int) -> None:
        self._path = path
        self._damaged = damaged
        self._readers = readers
        self._query_ms_max = query_ms_max
        self._idle: queue.LifoQueue[apsw.Connection] = queue.LifoQueue()
        for _ in range(readers):
            with named_faults(path, damaged):
                connection = apsw.Connection(str(path))
                connection.set_busy_timeout(BUSY_MS_MAX)
                connection.pragma("query_only", "ON")
            self._idle.put(connection)

    @contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """A connection for one query.

        Errors: `QueriesBusy` when none becomes free, `QueryTooSlow` past the deadline.
        """
        connection = self._take()
        deadline = time.monotonic() + self._query_ms_max / 1_000
        try:
            with named_faults(self._path, self._damaged):
                connection.set_progress_handler(
                    lambda: time.monotonic() > deadline, _DEADLINE_STEPS
                )
                yield connection
        except apsw.InterruptError:
            raise QueryTooSlow(self._query_ms_max) from None
        finally:
            self._idle.put(connection)

    def _take(self) -> apsw.Connection:
        try:
            return self._idle.get(timeout=READER_WAIT_MS_MAX / 1_000)
        except queue.Empty:
            raise QueriesBusy(READER_WAIT_MS_MAX) from None

    def close(self) -> None:
        """Close all; a query that is still running ends first. Later reads: StorageUnusable."""
        connections = [self._take() for _ in range(self._readers)]
        for connection in connections:
            connection.close()
            self._idle.put(connection)
