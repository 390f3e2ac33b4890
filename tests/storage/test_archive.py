"""Archives are CARv1 to the byte, and nothing else is read back."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives import dagcbor
from primitives.cid import RAW, cid_of
from primitives.dagcbor import Link
from storage import ArchiveReader, QueryInvalid, export_heights, write_archive
from storage.blockstore import BLOCK_BYTES_MAX
from storage.faults import ArchiveInvalid, BlockMissing

DATA = b"hello"
CID = cid_of(DATA, RAW)
# {"roots": [42(0x00 + CID)], "version": 1} by hand: map of 2, text of 5, array of 1, tag 42,
# 37 bytes, text of 7, 1. The keys are in the canonical order: the shorter one first.
HEADER = (
    b"\xa2\x65roots\x81\xd8\x2a\x58\x25\x00" + CID + b"\x67version\x01"
)  # fmt: skip
SECTION = bytes([36 + len(DATA)]) + CID + DATA
FILE = bytes([len(HEADER)]) + HEADER + SECTION


def read(data: bytes) -> dict[bytes, bytes]:
    return dict(ArchiveReader(BytesIO(data)))


def test_a_file_made_by_hand_is_read():
    reader = ArchiveReader(BytesIO(FILE))
    assert reader.root == CID
    assert list(reader) == [(CID, DATA)]


def test_the_file_is_what_the_specification_says_to_the_byte():
    file = BytesIO()
    assert write_archive(file, CID, [(CID, DATA)]) == (1, len(FILE))
    assert file.getvalue() == FILE


def test_long_sections_have_lengths_of_several_bytes():
    data = bytes(300)
    file = BytesIO()
    write_archive(file, cid_of(data), [(cid_of(data), data)])
    section = file.getvalue()[1 + len(HEADER) :]
    assert section[:2] == bytes([336 & 0x7F | 0x80, 336 >> 7])
    assert read(file.getvalue()) == {cid_of(data): data}


@given(st.lists(st.binary(max_size=400), min_size=1, max_size=20, unique=True))
def test_what_was_written_is_read_back(contents):
    blocks = [(cid_of(data), data) for data in contents]
    file = BytesIO()
    write_archive(file, blocks[-1][0], blocks)
    assert list(ArchiveReader(BytesIO(file.getvalue()))) == blocks


def header_of(value: object) -> bytes:
    encoded = dagcbor.encode(value)
    return bytes([len(encoded)]) + encoded


@pytest.mark.parametrize(
    "data",
    [
        b"",
        FILE[:-1],
        FILE[: len(HEADER) + 2],
        FILE[:20],
        FILE + b"\x80",
        FILE + b"\x00",
        FILE + SECTION,
        FILE.replace(b"hello", b"hellp"),
        FILE[: -len(SECTION)],
        FILE[: -len(SECTION)] + bytes([36 + 5]) + b"\x01\x70" + CID[2:] + DATA,
        bytes([len(HEADER) | 0x80, 0]) + HEADER + SECTION,
        b"\xff\xff\xff\xff\x01" + HEADER,
        header_of({"roots": [Link(CID)], "version": 2}) + SECTION,
        header_of({"roots": [Link(CID)], "version": True}) + SECTION,
        header_of({"roots": [], "version": 1}) + SECTION,
        header_of({"roots": [Link(CID)] * 2, "version": 1}) + SECTION,
        header_of({"roots": [Link(CID)], "version": 1, "x": 1}) + SECTION,
        header_of([Link(CID)]) + SECTION,
        header_of({"roots": [CID], "version": 1}) + SECTION,
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(ArchiveInvalid):
        read(data)


def test_a_length_beyond_the_largest_block_is_refused_before_it_is_read():
    size = 36 + BLOCK_BYTES_MAX + 1
    length = bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14 & 0x7F | 0x80])
    length += bytes([size >> 21])
    with pytest.raises(ArchiveInvalid, match="section of"):
        read(FILE + length)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_anything_but_invalid(data):
    with pytest.raises(ArchiveInvalid):
        read(data)


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_changed_byte_is_always_found(position, change):
    changed = bytearray(FILE)
    changed[position] ^= change
    with pytest.raises(ArchiveInvalid):
        read(bytes(changed))


def test_a_range_of_heights_is_exported_and_read_back(tmp_path, index, record_of):
    for height in range(6):
        index.record_block(record_of(height))
    path = tmp_path / "range.car"
    summary = export_heights(index, path, 2, 4)
    assert summary.root == record_of(4).block.block
    assert (summary.first, summary.last, summary.blocks) == (2, 4, 6)
    assert summary.bytes == path.stat().st_size
    with ArchiveReader.open(path) as archive:
        assert archive.root == summary.root
        expected = [block for height in (2, 3, 4) for block in record_of(height).blocks]
        assert list(archive) == expected
    assert [found.name for found in tmp_path.glob("*.new")] == []


def test_heights_that_are_not_recorded_cannot_be_exported(tmp_path, index, record_of):
    index.record_block(record_of(0))
    for first, last in ((0, 1), (1, 0), (5, 6)):
        with pytest.raises(QueryInvalid):
            export_heights(index, tmp_path / "x.car", first, last)


def test_an_export_with_a_missing_block_leaves_no_file(tmp_path, index, record_of):
    for height in range(3):
        index.record_block(record_of(height))
    index.blocks.delete([record_of(1).block.batch])
    with pytest.raises(BlockMissing):
        export_heights(index, tmp_path / "x.car", 0, 2)
    assert not list(tmp_path.glob("*x.car*"))
