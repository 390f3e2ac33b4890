"""Where database files live: the machine's file system, or anything that behaves like one.

Journal and index reach their files through a `Medium` only, so that the same code runs on a
disk that fails on purpose. Whoever gives none gets `FILES`, the real one.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import apsw

from primitives.durable import sync_directory
from primitives.faults import LocalFault
from storage._lock import FileLock, Lock

InUse = Callable[[Path, str], LocalFault]


class Medium(Protocol):
    """What databases need of a file system."""

    @property
    def has_shared_memory(self) -> bool:
        """Whether several connections may have one file open; else the writer serves readers."""

    def exists(self, path: Path) -> bool: ...

    def connect(self, path: Path) -> apsw.Connection:
        """A connection to the file, made when there is none. Errors: those of SQLite."""

    def sync_directory(self, path: Path) -> None:
        """Make new and removed names in the directory `path` durable."""

    def lock(self, path: Path, in_use: InUse) -> Lock:
        """Keep other processes out. Errors: what `in_use(path, process id)` makes."""


class Files:
    """The file system of this machine."""

    has_shared_memory = True

    def exists(self, path: Path) -> bool:
        return path.exists()

    def connect(self, path: Path) -> apsw.Connection:
        return apsw.Connection(str(path))

    def sync_directory(self, path: Path) -> None:
        sync_directory(path)

    def lock(self, path: Path, in_use: InUse) -> Lock:
        return FileLock(path, in_use)


FILES: Medium = Files()
