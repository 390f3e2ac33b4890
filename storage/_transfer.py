"""Moving a validator's journal to another machine, so that its key never signs twice.

    export_journal(path, Path("alice.journal"), key.public, network)       # seals the journal
    import_journal(Path("alice.journal"), elsewhere, key.public, network)  # which then watches

An export is one file: a line that names the format, one canonical msgpack record with the
owner, the network and all that the journal holds, and the SHA-256 of both. It holds no secret
key. The source is sealed before the export is written, so whatever happens in between, no two
journals can be signed with; a sealed journal can be exported again, and gives the same bytes.

An import takes everything in one transaction, or nothing. Where there is a journal already, all
that it has closed must be closed in the export too: no slot ever opens again.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn

import apsw

from primitives import codec
from primitives.codec import Bytes32, Record
from primitives.durable import replace_file
from storage._database import Writer
from storage.faults import (
    DiskFull,
    ExportDamaged,
    ExportExists,
    ExportMismatch,
    ExportOversized,
    JournalDamaged,
    JournalInUse,
    JournalMissing,
    JournalNewer,
    StorageUnusable,
)
from storage.journal import (
    APPLICATION,
    JOURNAL_BYTES_MAX,
    KEY_BYTES_MAX,
    KIND_BYTES_MAX,
    LAYOUT,
    SEALED,
    VALUE_BYTES_MAX,
    VERSION,
    WATCH,
    check_owner,
    entry_sum,
    owner_rows,
)
from storage.medium import FILES

EXPORT_BYTES_MAX: Final = 536_870_912  # more: E628 at the export, E617 at the import
_FAMILY: Final = b"outcry/journal-export/"
_FORMAT: Final = _FAMILY + b"1\n"
_DIGEST_BYTES: Final = 32
_MODE: Final = 0o600  # nobody else's business, though no secret


class _Once(Record):
    """A kind whose slots are written once; those up to `pruned` are closed for ever."""

    kind: str
    pruned: bytes | None


class _Entry(Record):
    kind: str
    key: bytes
    value: bytes


class _Export(Record):
    """All that a journal holds, in ascending order of kinds and keys."""

    owner: Bytes32
    network: Bytes32
    once: list[_Once]
    entries: list[_Entry]


@dataclass(frozen=True, slots=True)
class KindSummary:
    """One kind of entries; `last` is the greatest key that was written, even if pruned."""

    kind: str
    once: bool
    entries: int
    last: bytes | None


@dataclass(frozen=True, slots=True)
class JournalSummary:
    """Whose journal it is, whether it may be signed with, and how far each kind has come."""

    owner: bytes
    network: bytes
    sealed: bool
    watch: bool
    kinds: tuple[KindSummary, ...]


def export_journal(
    path: Path,
    to: Path,
    owner: bytes,
    network: bytes,
    *,
    bytes_max: int = JOURNAL_BYTES_MAX,
) -> JournalSummary:
    """Seal the journal at `path` and write all that it holds to the new file `to`, durably.

    A crash leaves the journal as it was, or sealed without an export: then export again.
    Errors: `JournalMissing`, `JournalInUse`, `JournalMismatch`, `JournalDamaged`,
        `ExportExists`, `ExportOversized`, `DiskFull`, `StorageUnusable`.
    """
    with _owned(path, owner, network, bytes_max) as writer:
        data = _encode(_contents(writer, owner, network))
        _check_target(to, data)
        with writer.transaction() as connection:
            _mark(connection, SEALED, data[-_DIGEST_BYTES:])
        try:
            replace_file(to, data, mode=_MODE)
        except OSError as error:
            _refuse(to, error)
        return _summary(writer)


def import_journal(
    source: Path,
    path: Path,
    owner: bytes,
    network: bytes,
    *,
    bytes_max: int = JOURNAL_BYTES_MAX,
) -> JournalSummary:
    """Put the export `source` in place of the journal at `path`, which then says `watch`.

    A journal that is there must be of the same owner and have closed nothing that the export
    leaves open; it may be sealed. After a crash there is what was there before, or all of it.
    Errors: `ExportDamaged`, `ExportMismatch`, `JournalNewer`, `JournalInUse`,
        `JournalMismatch`, `JournalDamaged`, `SchemaMismatch`, `DiskFull`, `StorageUnusable`:
        nothing was imported.
    """
    export = _read(source)
    if export.owner != owner:
        raise ExportMismatch(source, "consensus key", export.owner)
    if export.network != network:
        raise ExportMismatch(source, "network", export.network)
    with _held(path, bytes_max) as writer:
        writer.establish(APPLICATION, VERSION, LAYOUT)
        if owner_rows(writer):
            writer.check()
            check_owner(writer, owner, network)
            _check_never_back(writer, export)
        with writer.transaction() as connection:
            _replace(connection, export)
        return _summary(writer)


def resume_journal(
    path: Path, owner: bytes, network: bytes, *, bytes_max: int = JOURNAL_BYTES_MAX
) -> JournalSummary:
    """Take the seal off a journal whose export was never imported anywhere.

    Only a person can know that. In case the person errs, the journal says `watch` from then on.
    A journal that is not sealed stays as it is.
    Errors: `JournalMissing`, `JournalInUse`, `JournalMismatch`, `JournalDamaged`.
    """
    with _owned(path, owner, network, bytes_max) as writer:
        if SEALED in owner_rows(writer):
            with writer.transaction() as connection:
                connection.execute("DELETE FROM owner WHERE name = ?", (SEALED,))
                _mark(connection, WATCH, b"")
        return _summary(writer)


def inspect_journal(
    path: Path, owner: bytes, network: bytes, *, bytes_max: int = JOURNAL_BYTES_MAX
) -> JournalSummary:
    """What the journal at `path` holds; it may be sealed, and nothing of it changes.

    Errors: `JournalMissing`, `JournalInUse`, `JournalMismatch`, `JournalDamaged`.
    """
    with _owned(path, owner, network, bytes_max) as writer:
        return _summary(writer)


# ---- the journal's file ------------------------------------------------------------------------


@contextmanager
def _held(path: Path, bytes_max: int) -> Iterator[Writer]:
    """The file at `path`, made when there is none, with every other process kept out."""
    try:
        lock = FILES.lock(path, JournalInUse)
    except OSError as error:
        _refuse(path, error)
    try:
        writer = Writer(path, JournalDamaged, bytes_max, alone=True)
        try:
            yield writer
        finally:
            writer.close()
    finally:
        lock.release()


@contextmanager
def _owned(path: Path, owner: bytes, network: bytes, bytes_max: int) -> Iterator[Writer]:
    """An intact journal of this owner, sealed or not."""
    if not FILES.exists(path):
        raise JournalMissing(path)
    with _held(path, bytes_max) as writer:
        writer.establish(APPLICATION, VERSION, LAYOUT)
        if not owner_rows(writer):
            raise JournalMissing(path)
        writer.check()
        check_owner(writer, owner, network)
        yield writer


def _contents(writer: Writer, owner: bytes, network: bytes) -> _Export:
    """Everything in the journal.

    Errors: `JournalDamaged` for a changed byte, `ExportOversized`.
    """
    with writer.reading() as connection:
        size = connection.execute(
            "SELECT coalesce(sum(length(kind) + length(key) + length(value)), 0) FROM entries"
        ).get
        if size > EXPORT_BYTES_MAX:
            raise ExportOversized(writer.path, size, EXPORT_BYTES_MAX)
        once: list[Any] = connection.execute(
            "SELECT kind, pruned FROM once ORDER BY kind"
        ).fetchall()
        entries = [_Entry(*row) for row in _rows(connection, writer.path)]
    return _Export(owner, network, [_Once(*row) for row in once], entries)


def _rows(connection: apsw.Connection, path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """All entries, in order. Errors: `JournalDamaged`."""
    rows: Any = connection.execute("SELECT kind, key, value, sum FROM entries ORDER BY kind, key")
    for kind, key, value, expected in rows:
        if entry_sum(kind, key, value) != expected:
            raise JournalDamaged(path, f"entry {kind} {key.hex()} has changed")
        yield kind, key, value


def _check_never_back(writer: Writer, export: _Export) -> None:
    """Refuse an export that would open a slot which this journal has closed.

    Errors: `JournalNewer`, `JournalDamaged`.
    """
    closed = {item.kind: item.pruned for item in export.once}
    given = {(item.kind, item.key): item.value for item in export.entries}
    with writer.reading() as connection:
        marks: list[Any] = connection.execute("SELECT kind, pruned FROM once").fetchall()
        for kind, pruned in marks:
            edge = closed.get(kind)
            if pruned is not None and (edge is None or edge < pruned):
                what = f"has forgotten {kind} up to {pruned.hex()}, later than the export"
                raise JournalNewer(writer.path, what)
        guarded = {kind for kind, _ in marks}
        for kind, key, value in _rows(connection, writer.path):
            edge = closed.get(kind)
            if kind not in guarded or (edge is not None and key <= edge):
                continue
            found = given.get((kind, key))
            if found is None:
                what = f"has signed {kind} {key.hex()}, which the export does not hold"
                raise JournalNewer(writer.path, what)
            if found != value:
                what = f"and the export hold two signatures for {kind} {key.hex()}"
                raise JournalNewer(writer.path, what)


def _replace(connection: apsw.Connection, export: _Export) -> None:
    """Put the export in place of all there is; kinds that were declared here stay declared."""
    connection.execute("DELETE FROM entries")
    connection.executemany(
        "INSERT INTO entries VALUES(?, ?, ?, ?)",
        (
            (item.kind, item.key, item.value, entry_sum(item.kind, item.key, item.value))
            for item in export.entries
        ),
    )
    connection.executemany(
        "INSERT OR REPLACE INTO once VALUES(?, ?)",
        [(item.kind, item.pruned) for item in export.once],
    )
    connection.execute("DELETE FROM owner")
    for name, value in (("key", export.owner), ("network", export.network), (WATCH, b"")):
        _mark(connection, name, value)


def _mark(connection: apsw.Connection, name: str, value: bytes) -> None:
    connection.execute("INSERT OR REPLACE INTO owner VALUES(?, ?)", (name, value))


def _summary(writer: Writer) -> JournalSummary:
    rows = owner_rows(writer)
    with writer.reading() as connection:
        found: list[Any] = connection.execute(
            "SELECT kind, count(*), max(key) FROM entries GROUP BY kind"
        ).fetchall()
        once: list[Any] = connection.execute("SELECT kind, pruned FROM once").fetchall()
    marks = dict(once)
    counted = {kind: (count, last) for kind, count, last in found}
    kinds = []
    for kind in sorted(marks | counted):
        count, last = counted.get(kind, (0, None))
        last = marks.get(kind) if last is None else last
        kinds.append(KindSummary(kind, kind in marks, count, last))
    return JournalSummary(rows["key"], rows["network"], SEALED in rows, WATCH in rows, tuple(kinds))


# ---- the export's file -------------------------------------------------------------------------


def _encode(export: _Export) -> bytes:
    body = _FORMAT + codec.encode(export)
    return body + sha256(body).digest()


def _check_target(to: Path, data: bytes) -> None:
    """Whether the export can go to `to`: asked before anything is sealed.

    The same export may be there already, when a crash came just after it was written.
    Errors: `ExportExists`, `ExportOversized`, `StorageUnusable`.
    """
    if len(data) > EXPORT_BYTES_MAX:
        raise ExportOversized(to, len(data), EXPORT_BYTES_MAX)
    try:
        if to.exists():
            if to.stat().st_size != len(data) or to.read_bytes() != data:
                raise ExportExists(to)
        elif not os.access(to.parent, os.W_OK | os.X_OK):
            raise StorageUnusable(to, f"{to.parent} is no directory, or not writable")
    except OSError as error:
        _refuse(to, error)


def _read(source: Path) -> _Export:
    """The export at `source`. Errors: `ExportDamaged`, `StorageUnusable`."""
    try:
        size = source.stat().st_size
        if size > EXPORT_BYTES_MAX:
            raise ExportDamaged(source, f"{size} bytes, at most {EXPORT_BYTES_MAX}")
        data = source.read_bytes()
    except OSError as error:
        _refuse(source, error)
    if not data.startswith(_FAMILY):
        raise ExportDamaged(source, "it does not begin like one")
    body, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if sha256(body).digest() != digest:
        raise ExportDamaged(source, "bytes are missing or have changed")
    if not body.startswith(_FORMAT):
        raise ExportDamaged(source, "its format is of another version of outcry")
    try:
        export = codec.decode(_Export, body[len(_FORMAT) :], bytes_max=EXPORT_BYTES_MAX)
    except (codec.Malformed, codec.Oversized) as fault:
        raise ExportDamaged(source, fault.sentence) from None
    _check_order(source, export)
    return export


def _check_order(source: Path, export: _Export) -> None:
    """Whether the export is what a journal can hold. Errors: `ExportDamaged`."""
    kinds = [item.kind for item in export.once]
    slots = [(item.kind, item.key) for item in export.entries]
    if not _ascends(kinds) or not _ascends(slots):
        raise ExportDamaged(source, "entries are out of order or doubled")
    closed = {item.kind: item.pruned for item in export.once}
    for item in export.entries:
        edge = closed.get(item.kind)
        if edge is not None and item.key <= edge:
            raise ExportDamaged(source, f"{item.kind} {item.key.hex()} is below what was pruned")
        if (
            len(item.kind.encode()) > KIND_BYTES_MAX
            or len(item.key) > KEY_BYTES_MAX
            or len(item.value) > VALUE_BYTES_MAX
        ):
            raise ExportDamaged(source, f"an entry of {item.kind[:KIND_BYTES_MAX]} is too long")


def _ascends(items: list[Any]) -> bool:
    return all(items[i] < items[i + 1] for i in range(len(items) - 1))


def _refuse(path: Path, error: OSError) -> NoReturn:
    """An operating system's error as a fault."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DiskFull(path) from error
    raise StorageUnusable(path, error.strerror or type(error).__name__) from error
