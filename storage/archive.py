"""A range of the chain as a CARv1 file, and reading one back strictly.

    export_heights(index, path, first, last)
    with ArchiveReader.open(path) as archive:
        blocks = dict(archive)  # cid -> bytes; archive.root is the newest block

A file is a length and a DAG-CBOR header {"roots": [root], "version": 1}, then for every block a
length, its CID and its bytes; lengths are unsigned LEB128. (IPLD CARv1 specification.) Read
back are only files with one root, minimal lengths, CIDs that name their bytes, no block twice
and the root among them: anything else is an `ArchiveInvalid` with the offset.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from primitives import dagcbor
from primitives.cid import CID_BYTES, is_cid, matches
from primitives.codec import Oversized
from primitives.dagcbor import Link, NotDagCbor
from primitives.durable import sync_directory
from storage.blockstore import BLOCK_BYTES_MAX
from storage.faults import ArchiveInvalid, BlockMissing, QueryInvalid
from storage.index import Index
from storage.queries import QUERY_ROWS_MAX

ARCHIVE_HEIGHTS_MAX: Final = 100_000  # more in one export: QueryInvalid
ARCHIVE_BLOCKS_MAX: Final = 200_000  # more in one file: ArchiveInvalid
HEADER_BYTES_MAX: Final = 256  # a longer header: ArchiveInvalid
LENGTH_BYTES_MAX: Final = 4  # a longer length: ArchiveInvalid
_SECTION_BYTES_MAX: Final = CID_BYTES + BLOCK_BYTES_MAX


@dataclass(frozen=True, slots=True)
class ArchiveSummary:
    """What an export wrote; `root` is the CID of its newest block."""

    root: bytes
    first: int
    last: int
    blocks: int
    bytes: int


def export_heights(index: Index, path: Path, first: int, last: int) -> ArchiveSummary:
    """Write the blocks and batches of heights `first` to `last` to `path`, oldest first.

    The file appears whole or not at all.
    Errors: `QueryInvalid` when a height is not recorded or the range too long, `BlockMissing`,
        `BlockDamaged`, OSError of the file.
    """
    newest = index.block(last)
    if newest is None or index.block(first) is None or first > last:
        raise QueryInvalid(f"heights {first} to {last} are not recorded; ask for recorded ones")
    if last - first >= ARCHIVE_HEIGHTS_MAX:
        raise QueryInvalid(f"too many heights; ask for at most {ARCHIVE_HEIGHTS_MAX}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as file:
            count, size = write_archive(file, newest.block, _chain_blocks(index, first, last))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return ArchiveSummary(newest.block, first, last, count, size)


def write_archive(
    file: BinaryIO, root: bytes, blocks: Iterable[tuple[bytes, bytes]]
) -> tuple[int, int]:
    """Write (cid, bytes) pairs as a CARv1 file; returns how many blocks and bytes."""
    header = dagcbor.encode({"roots": [Link(root)], "version": 1})
    size = file.write(_length(len(header)) + header)
    count = 0
    for cid, data in blocks:
        size += file.write(_length(len(cid) + len(data)) + cid + data)
        count += 1
    return count, size


class ArchiveReader:
    """Yields (cid, bytes) of a CARv1 file once, in its order, every block verified."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the header.

        Errors: `ArchiveInvalid`.
        """
        self._file = file
        self._offset = 0
        self.root = self._read_header()

    @classmethod
    def open(cls, path: Path) -> Self:
        """A reader of the file at `path`; close it, or use it in a `with`."""
        file = path.open("rb")
        try:
            return cls(file)
        except BaseException:
            file.close()
            raise

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        seen: set[bytes] = set()
        while (section := self._section(CID_BYTES, _SECTION_BYTES_MAX)) is not None:
            cid, data = section[:CID_BYTES], section[CID_BYTES:]
            if not is_cid(cid):
                raise ArchiveInvalid(self._offset, "not a CIDv1 with SHA-256")
            if not matches(cid, data):
                raise ArchiveInvalid(self._offset, "the bytes are not what their CID names")
            if cid in seen:
                raise ArchiveInvalid(self._offset, "a block occurs twice")
            if len(seen) == ARCHIVE_BLOCKS_MAX:
                raise ArchiveInvalid(self._offset, f"more than {ARCHIVE_BLOCKS_MAX} blocks")
            seen.add(cid)
            yield cid, data
        if self.root not in seen:
            raise ArchiveInvalid(self._offset, "the root is not among the blocks")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _read_header(self) -> bytes:
        data = self._section(1, HEADER_BYTES_MAX)
        if data is None:
            raise ArchiveInvalid(0, "the file is empty")
        try:
            header = dagcbor.decode(data, bytes_max=HEADER_BYTES_MAX)
        except (NotDagCbor, Oversized) as fault:
            raise ArchiveInvalid(0, f"header: {fault.sentence}") from None
        roots = header.get("roots") if isinstance(header, dict) else None
        if (
            not isinstance(roots, list)
            or len(roots) != 1
            or not isinstance(roots[0], Link)
            or set(header) != {"roots", "version"}
            or type(header["version"]) is not int  # True equals 1, but is no version
            or header["version"] != 1
        ):
            raise ArchiveInvalid(0, "the header is not that of a CARv1 file with one root")
        return roots[0].cid

    def _section(self, size_min: int, size_max: int) -> bytes | None:
        """The next section, or None at the end of the file."""
        size = self._read_length()
        if size is None:
            return None
        if not size_min <= size <= size_max:
            raise ArchiveInvalid(self._offset, f"a section of {size} bytes")
        return self._read(size)

    def _read_length(self) -> int | None:
        value = 0
        for position in range(LENGTH_BYTES_MAX):
            data = self._file.read(1)
            if not data and position == 0:
                return None
            if not data:
                raise ArchiveInvalid(self._offset, "the file ends inside a length")
            self._offset += 1
            value |= (data[0] & 0x7F) << (7 * position)
            if data[0] < 0x80:
                if data[0] == 0 and position > 0:
                    raise ArchiveInvalid(self._offset, "a length in a longer form than needed")
                return value
        raise ArchiveInvalid(self._offset, f"a length of more than {LENGTH_BYTES_MAX} bytes")

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise ArchiveInvalid(self._offset, f"the file ends {size - len(data)} bytes early")
        self._offset += size
        return data


def _chain_blocks(index: Index, first: int, last: int) -> Iterator[tuple[bytes, bytes]]:
    """Blocks and batches of a range, each CID once (empty batches are all the same)."""
    written: set[bytes] = set()
    while first <= last:
        rows = index.heights(first, last, QUERY_ROWS_MAX)
        if not rows:
            raise QueryInvalid(f"height {first} is not recorded; ask for recorded ones")
        for row in rows:
            for cid in (row.batch, row.block):
                if cid in written:
                    continue
                data = index.blocks.get(cid)
                if data is None:
                    raise BlockMissing(cid)
                written.add(cid)
                yield cid, data
        first = rows[-1].height + 1


def _length(value: int) -> bytes:
    """Unsigned LEB128."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
