"""One process at a time: an advisory lock on a file beside the one that is guarded.

The database file itself must not be opened a second time: closing that descriptor would
silently drop SQLite's own POSIX locks.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from primitives.faults import LocalFault

_HOLDER_BYTES_MAX = 20  # of the lock file are read: a process id


class Lock(Protocol):
    """What keeps others out of a file until it is released."""

    def release(self) -> None:
        """Let others have it."""


class FileLock:
    """Holds `<path>.lock` until `release` or the end of the process, however it ends."""

    def __init__(self, path: Path, in_use: Callable[[Path, str], LocalFault]) -> None:
        """Errors: what `in_use(path, process id)` makes, when another process holds it."""
        lock = path.with_name(path.name + ".lock")
        self._descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, _HOLDER_BYTES_MAX, 0).decode(errors="replace")
            os.close(self._descriptor)
            raise in_use(path, holder.strip() or "unknown") from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have it. The file stays: removing it would let two processes in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
