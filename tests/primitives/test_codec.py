"""One encoding per value, and the same bytes as a plain msgpack library writes."""

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives import codec
from primitives.codec import Bytes32, Malformed, Oversized, Record, Unsigned


class Inner(Record):
    amount: Unsigned
    note: str


class Outer(Record):
    key: Bytes32
    items: list[Inner]
    last: bytes | None


inners = st.builds(Inner, amount=st.integers(0, 2**63 - 1), note=st.text(max_size=40))
outers = st.builds(
    Outer,
    key=st.binary(min_size=32, max_size=32),
    items=st.lists(inners, max_size=20),
    last=st.none() | st.binary(max_size=300),
)


def as_plain(value):
    if isinstance(value, Record):
        return [as_plain(getattr(value, name)) for name in value.__struct_fields__]
    return [as_plain(item) for item in value] if isinstance(value, list) else value


@given(outers)
def test_plain_msgpack_reads_and_writes_the_same_bytes(value):
    data = codec.encode(value)
    assert msgpack.packb(as_plain(value), use_bin_type=True) == data
    assert msgpack.unpackb(data, raw=False) == as_plain(value)
    assert codec.decode(Outer, data, bytes_max=100_000) == value


@given(outers, st.data())
def test_a_changed_byte_never_means_the_same_value(value, data):
    encoded = bytearray(codec.encode(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(Malformed):
        assert codec.decode(Outer, bytes(encoded), bytes_max=100_000) != value


@given(st.binary(max_size=200))
def test_garbage_is_malformed_or_canonical(data):
    with contextlib.suppress(Malformed):
        assert codec.encode(codec.decode(Outer, data, bytes_max=200)) == data


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb([b"k" * 32, [], None]) + b"\x00",
        msgpack.packb([b"k" * 32, []]),
        msgpack.packb([b"k" * 32, [], None, 1]),
        msgpack.packb([b"k" * 31, [], None]),
        msgpack.packb([b"k" * 32, [[-1, "x"]], None]),
        msgpack.packb([b"k" * 32, [[2**63, "x"]], None]),
        msgpack.packb([b"k" * 32, [[1.0, "x"]], None]),
        msgpack.packb({"key": b"k" * 32, "items": [], "last": None}),
        b"\x93\xc5\x00\x20" + b"k" * 32 + b"\x90\xc0",  # a longer length form than needed
        b"\x93\xc4\x20" + b"k" * 32 + b"\x91\x92\xcd\x00\x05\xa1x\xc0",  # a longer integer
        b"\x93" * 5_000,
    ],
)
def test_other_shapes_and_longer_forms_are_refused(data):
    with pytest.raises(Malformed):
        codec.decode(Outer, data, bytes_max=100_000)


def test_too_many_bytes_are_refused_before_they_are_read():
    with pytest.raises(Oversized, match="at most 10"):
        codec.decode(Outer, b"\x00" * 11, bytes_max=10)
