"""A disk in memory that fails as disks do, as a VFS of SQLite: nothing touches the real one.

    disk = Disk(random.Random(seed))
    journal = Journal.open(Path("/journal.db"), key, network, medium=disk)
    disk.cut_after(17)              # the power fails in the seventeenth operation from here
    ...                             # StorageUnusable comes out of whatever was going on
    disk.is_cut, disk.power_on()    # what survived is there again

Writes are durable after a sync, and only then. When the power fails, what was not synced is lost,
kept, kept up to some point, or kept here and there; a write at the edge may be torn, sector by
sector or within one. Names of files are durable after a sync of their directory.
"""

import itertools
import random
import weakref
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import apsw

from devnet.simulation._platter import PlatterFile, State, Write, apply
from storage.medium import InUse

SECTOR_BYTES: Final = 512  # the disk writes these one by one; a torn one is cut anywhere
SYNC_MS: Final = (1, 4)  # how long a sync takes unless told otherwise, virtual milliseconds
_VFS_NAME: Final = "outcry-simulated-disk"
_PATH_BYTES_MAX: Final = 256
_CREATE: Final = apsw.SQLITE_OPEN_CREATE
_LOGS: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


class Fate(Enum):
    """What becomes of writes that no sync covered when the power fails."""

    LOST = "lost"
    KEPT = "kept"
    PREFIX = "prefix"
    SCATTERED = "scattered"


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """Operations since the disk was made, and what power cuts did to unsynced writes."""

    operations: int
    syncs: int
    syncs_failed: int
    cuts: int
    lost: int
    torn: int
    kept: int


@dataclass(slots=True)
class _Counts:
    operations: int = 0
    syncs: int = 0
    syncs_failed: int = 0
    cuts: int = 0
    lost: int = 0
    torn: int = 0
    kept: int = 0


class Disk:
    """One machine's disk. It fulfils `storage.medium.Medium` and survives its machine's crashes.

    sync_ms         a sync takes from .. to virtual milliseconds, added to `spent_ms`
    bytes_max       files together grow to this; then writes fail as on a full disk
    syncs_to_fail   so many of the next syncs fail, and what they covered may never be durable
    ignores_syncs   the disk lies: syncs succeed and do nothing
    """

    has_shared_memory = False

    def __init__(self, rng: random.Random, image: Mapping[str, bytes] | None = None) -> None:
        """`image` as `Disk.image` gives it: the files that are there from the beginning."""
        self._random = rng
        self._number = next(_NUMBERS)
        self._files = {name: PlatterFile(bytearray(data)) for name, data in (image or {}).items()}
        self._durable_files = dict(self._files)
        self._locked: set[str] = set()
        self._generation = 0
        self._cut_at: int | None = None
        self._cut_in_sync = False
        self._fate: Fate | None = None
        self._permille: int | None = None
        self._order = 0
        self._counts = _Counts()
        self.is_cut = False
        self.spent_ms = 0
        self.sync_ms = SYNC_MS
        self.bytes_max: int | None = None
        self.syncs_to_fail = 0
        self.ignores_syncs = False
        _DISKS[self._number] = self

    # What storage uses

    def exists(self, path: Path) -> bool:
        return str(path) in self._files

    def connect(self, path: Path) -> apsw.Connection:
        """Errors: `apsw.IOError` while the power is off."""
        return apsw.Connection(f"/{self._number}{path}", vfs=_VFS_NAME)

    def sync_directory(self, _path: Path) -> None:
        """Make names durable: there is one directory."""
        self.operation()
        self._durable_files = dict(self._files)

    def lock(self, path: Path, in_use: InUse) -> "DiskLock":
        if str(path) in self._locked:
            raise in_use(path, "simulated")
        self._locked.add(str(path))
        return DiskLock(self, str(path))

    # What a simulation does to it

    def cut_after(self, operations: int, fate: Fate | None = None) -> None:
        """The power fails within the operation with this number, counted from 1 from here."""
        self._cut_at = self._counts.operations + operations
        self._fate = fate

    def cut_in_sync(self, fate: Fate, permille: int | None = None) -> None:
        """The power fails in the next sync; of a prefix, `permille` of the writes are kept."""
        self._cut_in_sync = True
        self._fate, self._permille = fate, permille

    def spare(self) -> None:
        """The power does not fail as was said; syncs are honest, there is room."""
        self._cut_at, self._cut_in_sync, self._fate, self._permille = None, False, None, None
        self.sync_ms, self.bytes_max = SYNC_MS, None
        self.syncs_to_fail, self.ignores_syncs = 0, False

    def fill(self) -> None:
        """From now on no file can grow."""
        self.bytes_max = self._size()

    def cut(self, fate: Fate | None = None) -> None:
        """The power fails now; without a `fate` the disk's random numbers choose one."""
        if self.is_cut:
            return
        self.is_cut = True
        self._cut_at, self._cut_in_sync = None, False
        self._generation += 1
        self._locked.clear()
        self._counts.cuts += 1
        chosen = fate or self._fate or self._random.choice(list(Fate))
        permille, self._fate, self._permille = self._permille, None, None
        self._settle_names(chosen)
        self._settle_writes(chosen, permille)

    def power_on(self) -> None:
        """Let the machine start again with what survived."""
        self.is_cut = False

    def take_spent_ms(self) -> int:
        """Virtual milliseconds that syncs took since this was asked last."""
        spent, self.spent_ms = self.spent_ms, 0
        return spent

    def image(self) -> dict[str, bytes]:
        """Everything durable, by name."""
        return {name: bytes(file.platter()) for name, file in self._durable_files.items()}

    def statistics(self) -> DiskStatistics:
        return DiskStatistics(*astuple(self._counts))

    # What files use

    def operation(self) -> None:
        """Count something that changes the disk; the power may fail in it."""
        if self.is_cut:
            raise _power_is_off()
        self._counts.operations += 1
        if self._cut_at is not None and self._counts.operations >= self._cut_at:
            self.cut()
            raise _power_is_off()

    def open(self, name: str | None, flags: list[int]) -> "_Handle":
        if self.is_cut:
            raise _power_is_off()
        if name is None:
            return _Handle(self, PlatterFile(), 0)
        file = self._files.get(name)
        if file is None:
            if not flags[0] & _CREATE:
                raise apsw.CantOpenError(f"there is no {name}")
            self.operation()
            file = self._files[name] = PlatterFile()
        flags[1] = flags[0]
        return _Handle(self, file, flags[0])

    def delete(self, name: str, sync: bool) -> None:
        """A machine without power removes nothing, and there is nobody to be told."""
        if self.is_cut:
            return
        self.operation()
        if self._files.pop(name, None) is None:
            raise apsw.IOError(f"there is no {name}")
        if sync:
            self._durable_files = dict(self._files)

    def has(self, name: str) -> bool:
        return name in self._files

    def write(self, file: PlatterFile, data: bytes, offset: int) -> None:
        """Errors: `apsw.FullError`."""
        end = offset + len(data)
        grows = end - len(file.content)
        if grows > 0 and self.bytes_max is not None and self._size() + grows > self.bytes_max:
            raise apsw.FullError("the simulated disk is full")
        self._change(file, offset, data)
        self.operation()

    def truncate(self, file: PlatterFile, size: int) -> None:
        self._change(file, size, None)
        self.operation()

    def sync(self, file: PlatterFile, *, names: bool) -> None:
        """Make a file durable, and with a log its name. Errors: `apsw.IOError`."""
        if self._cut_in_sync:
            self.cut_after(1, self._fate)
        self.operation()
        self._counts.syncs += 1
        self.spent_ms += self._random.randint(*self.sync_ms)
        if self.ignores_syncs:
            return
        if self.syncs_to_fail > 0:
            self.syncs_to_fail -= 1
            self._fail_sync(file)
        file.settle(State.DURABLE)
        if names:
            self._durable_files = dict(self._files)

    @property
    def failed_syncs(self) -> int:
        """Syncs that failed since the disk was made."""
        return self._counts.syncs_failed

    @property
    def generation(self) -> int:
        """Counts power cuts: what was open before one stays dead."""
        return self._generation

    def unlock(self, name: str) -> None:
        self._locked.discard(name)

    # How it fails

    def _change(self, file: PlatterFile, offset: int, data: bytes | None) -> None:
        self._order += 1
        file.change(self._order, offset, data)

    def _size(self) -> int:
        return sum(len(file.content) for file in self._files.values())

    def _fail_sync(self, file: PlatterFile) -> None:
        """The kernel takes the pages for clean now: whatever did not get there never will,
        although reads show it until the power fails."""
        self._counts.syncs_failed += 1
        for write in file.pending():
            write.state = State.DURABLE if self._random.random() < 0.5 else State.DOOMED
        error = apsw.IOError("the simulated sync failed")
        error.extendedresult = apsw.SQLITE_IOERR_FSYNC  # type: ignore[attr-defined]
        raise error

    def _settle_names(self, fate: Fate) -> None:
        """A name that was made or removed since the directory was synced may be so or not."""
        for name in sorted(self._files.keys() | self._durable_files.keys()):
            now, then = self._files.get(name), self._durable_files.get(name)
            if now is then:
                continue
            if fate is Fate.KEPT or (fate is not Fate.LOST and self._random.random() < 0.5):
                then = now
            if then is None:
                self._files.pop(name, None)
            else:
                self._files[name] = then
        self._durable_files = dict(self._files)

    def _settle_writes(self, fate: Fate, permille: int | None) -> None:
        """Bring every file to what the platter holds after the cut."""
        edge = 0
        orders = sorted(w.order for file in self._files.values() for w in file.pending())
        if orders and fate is Fate.PREFIX:
            share = self._random.randrange(1_000) if permille is None else min(permille, 999)
            edge = orders[share * len(orders) // 1_000]
        for name in sorted(self._files):
            file = self._files[name]
            if not file.changes:
                continue
            platter = file.platter()
            for write in file.pending():
                match fate:
                    case Fate.LOST:
                        self._counts.lost += 1
                    case Fate.KEPT:
                        self._keep(platter, write)
                    case Fate.PREFIX:
                        self._keep_up_to(platter, write, edge)
                    case Fate.SCATTERED:
                        self._scatter(platter, write)
            file.changes.clear()
            file.content = platter

    def _keep(self, platter: bytearray, write: Write) -> None:
        apply(platter, write.offset, write.data)
        self._counts.kept += 1

    def _keep_up_to(self, platter: bytearray, write: Write, edge: int) -> None:
        if write.order < edge:
            self._keep(platter, write)
        elif write.order > edge or not write.data:
            self._counts.lost += 1
        else:
            cut = self._random.randrange(len(write.data))
            apply(platter, write.offset, write.data[:cut])
            self._counts.torn += 1

    def _scatter(self, platter: bytearray, write: Write) -> None:
        """Each sector by itself, in whatever order the disk liked, one perhaps in part."""
        if not write.data:
            if self._random.random() < 0.5:
                self._keep(platter, write)
            else:
                self._counts.lost += 1
            return
        whole = 0
        sectors = range(0, len(write.data), SECTOR_BYTES)
        for start in sectors:
            piece = write.data[start : start + SECTOR_BYTES]
            luck = self._random.random()
            if luck < 0.45:
                continue
            if luck < 0.55:
                piece = piece[: self._random.randrange(len(piece))]
            else:
                whole += 1
            apply(platter, write.offset + start, piece)
        if whole == len(sectors):
            self._counts.kept += 1
        elif whole:
            self._counts.torn += 1
        else:
            self._counts.lost += 1


class DiskLock:
    """Holds a name on a disk until `release` or the end of the machine's power."""

    def __init__(self, disk: Disk, name: str) -> None:
        self._disk = disk
        self._name = name
        self._generation = disk.generation

    def release(self) -> None:
        """Let others have it; a lock from before a power cut is gone already."""
        if self._disk.generation == self._generation:
            self._disk.unlock(self._name)


class _Handle:
    """An open file, for SQLite: the methods are its VFS's."""

    def __init__(self, disk: Disk, file: PlatterFile, flags: int) -> None:
        self._disk = disk
        self._file = file
        self._generation = disk.generation
        self._is_log = bool(flags & _LOGS)
        self._level = 0

    def _check(self) -> None:
        if self._generation != self._disk.generation:
            raise _power_is_off()

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._check()
        return bytes(self._file.content[offset : offset + amount])

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        self._check()
        self._disk.write(self._file, bytes(data), offset)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._check()
        self._disk.truncate(self._file, size)

    def xSync(self, _flags: int) -> None:  # noqa: N802
        self._check()
        self._disk.sync(self._file, names=self._is_log)

    def xFileSize(self) -> int:  # noqa: N802
        self._check()
        return len(self._file.content)

    def xLock(self, level: int) -> None:  # noqa: N802
        """One machine with one process: `Disk.lock` keeps others out."""
        self._level = level

    def xUnlock(self, level: int) -> None:  # noqa: N802
        self._level = level

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return self._level >= apsw.SQLITE_LOCK_RESERVED

    def xFileControl(self, _operation: int, _pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR_BYTES

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        """As of a real disk under Unix: a write never harms bytes beside it."""
        return int(apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE)

    def xClose(self) -> None:  # noqa: N802
        return None


class _DiskVFS(apsw.VFS):
    """All simulated disks; a path begins with the number of its disk."""

    def __init__(self) -> None:
        super().__init__(_VFS_NAME, None, maxpathname=_PATH_BYTES_MAX)
        self._random = random.Random(0)

    def xOpen(  # type: ignore[override]  # noqa: N802
        self, name: Any, flags: list[int]
    ) -> _Handle:
        if name is None:
            return _Handle(_NOWHERE, PlatterFile(), 0)
        path = name if isinstance(name, str) else name.filename()
        disk, inner = _locate(path)
        return disk.open(inner, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        disk, inner = _locate(filename)
        disk.delete(inner, syncdir)

    def xAccess(self, pathname: str, _flags: int) -> bool:  # noqa: N802
        disk, inner = _locate(pathname)
        return disk.has(inner)

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name

    def xRandomness(self, numbytes: int) -> bytes:  # noqa: N802
        return self._random.randbytes(numbytes)

    def xSleep(self, microseconds: int) -> int:  # noqa: N802
        return microseconds

    def xCurrentTimeInt64(self) -> int:  # noqa: N802
        return 0

    def xGetLastError(self) -> tuple[int, str | None]:  # noqa: N802
        return 0, None


def _power_is_off() -> apsw.IOError:
    return apsw.IOError("the simulated disk has no power")


def _locate(path: str) -> tuple[Disk, str]:
    number, _, rest = path[1:].partition("/")
    disk = _DISKS.get(int(number))
    if disk is None:
        raise apsw.CantOpenError(f"no simulated disk holds {path}")
    return disk, "/" + rest


_NUMBERS = itertools.count(1)
_DISKS: "weakref.WeakValueDictionary[int, Disk]" = weakref.WeakValueDictionary()
_NOWHERE = Disk(random.Random(0))
_VFS = _DiskVFS()
