"""Strict DAG-CBOR: one encoding a value, links that every IPFS tool reads."""

import contextlib

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives import dagcbor
from primitives.cid import cid_of, from_text, is_cid, matches, to_text
from primitives.codec import Oversized
from primitives.dagcbor import Link, NotDagCbor

BIG = 1_000_000
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.binary(max_size=80)
    | st.text(max_size=20)
    | st.builds(Link, st.binary(max_size=9).map(cid_of))
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=5)
    ),
    max_leaves=25,
)


@given(values)
def test_values_survive_and_have_one_encoding(value):
    data = dagcbor.encode(value)
    assert dagcbor.decode(data, bytes_max=BIG) == value
    assert dagcbor.encode(dagcbor.decode(data, bytes_max=BIG)) == data


@given(st.binary(max_size=120))
def test_garbage_is_refused_with_the_one_fault(data):
    with contextlib.suppress(NotDagCbor):
        assert dagcbor.encode(dagcbor.decode(data, bytes_max=BIG)) == data


@given(values, st.data())
def test_a_changed_byte_never_means_the_same_value(value, data):
    encoded = bytearray(dagcbor.encode(value))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(NotDagCbor):
        assert dagcbor.decode(bytes(encoded), bytes_max=BIG) != value or value in (
            0,
            1,
            True,
            False,
        )


@pytest.mark.parametrize(
    "data",
    [
        b"\x18\x05",  # an integer in two bytes
        b"\x9f\x01\xff",  # indefinite length
        b"\xa2\x61b\x01\x61a\x02",  # unsorted keys
        b"\xa2\x61a\x01\x61a\x02",  # a key twice
        b"\xa1\x01\x02",  # an integer key
        b"\xfb\x3f\xf0\x00\x00\x00\x00\x00\x00",  # a float
        b"\xc1\x1a\x00\x00\x00\x01",  # a date tag
        b"\xc2\x41\x01",  # a bignum tag
        b"\xd8\x2a\x41\x00",  # a link without a CID
        b"\x01\x01",  # trailing bytes
        b"\xf7",  # undefined
        b"\xd8\x1c\x82\x01\xd8\x1d\x00",  # a shared value and a reference to it
        b"\xc4\x82\x1b\x7f\xff\xff\xff\xff\xff\xff\xff\x01",  # a decimal with a huge exponent
        b"\x9a\xff\xff\xff\xff",  # a list of four billion items
        b"\xba\xff\xff\xff\xff",  # a map of as many
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff",  # as many bytes
        b"\xa2\x62aa\x01\x61b\x02",  # a longer key first
        b"\x62\xff\xfe",  # text that is not UTF-8
        b"\xf8\x14",  # false in two bytes
        b"\x81" * 200 + b"\x01",
        b"",
    ],
)
def test_lenient_cbor_is_refused(data):
    with pytest.raises(NotDagCbor):
        dagcbor.decode(data, bytes_max=BIG)


def nested(shape, depth):
    return shape * depth + b"\x01"


def test_values_that_share_themselves_take_no_time():
    """202 such bytes keep a decoder that follows references busy for seconds."""
    level = b"\xd8\x1c\x82"
    with pytest.raises(NotDagCbor):
        dagcbor.decode(nested(level, 30) + b"\xd8\x1d\x00" * 30, bytes_max=BIG)


@given(values)
def test_another_decoder_reads_the_same(value):
    def tag_hook(_decoder, tag, *_rest):
        return Link(tag.value[1:])

    data = dagcbor.encode(value)
    assert cbor2.loads(data, tag_hook=tag_hook) == dagcbor.decode(data, bytes_max=BIG)


def test_bytes_that_look_like_a_cid_stay_bytes():
    cid = cid_of(b"x")
    assert dagcbor.decode(dagcbor.encode([cid]), bytes_max=BIG) == [cid]
    assert cbor2.loads(dagcbor.encode([Link(cid)]))[0].tag == 42


def test_the_links_of_a_value_are_found_in_order():
    a, b = cid_of(b"a"), cid_of(b"b")
    assert dagcbor.links({"x": [Link(a), {"y": Link(b)}], "z": a}) == [a, b]


def test_floats_and_sets_are_refused_when_writing():
    for value in (1.5, {1}, {1: 2}, 2**64, object()):
        with pytest.raises(NotDagCbor):
            dagcbor.encode(value)


def test_more_bytes_than_allowed_are_refused():
    with pytest.raises(Oversized):
        dagcbor.decode(bytes(11), bytes_max=10)


def test_the_text_of_a_cid_is_the_one_that_ipfs_prints():
    # The empty map, as the IPLD documentation shows it.
    text = "bafyreigbtj4x7ip5legnfznufuopl4sg4knzc2cof6duas4b3q2fy6swua"
    assert to_text(cid_of(dagcbor.encode({}))) == text
    assert from_text(text) == cid_of(dagcbor.encode({}))
    assert matches(from_text(text), b"\xa0")


@pytest.mark.parametrize(
    "text", ["", "b", "zQm", "bAFY", "bafyreigbtj4x7ip5", "b" + "a" * 58, "b="]
)
def test_other_texts_are_not_cids(text):
    with pytest.raises(ValueError):
        from_text(text)
    assert not is_cid(text.encode())
