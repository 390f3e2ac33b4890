"""Strict DAG-CBOR: the bytes of blocks, batches and chat logs.

    data = dagcbor.encode(["outcry/block/1", network, dagcbor.Link(parent)])
    value = dagcbor.decode(data, bytes_max=BLOCK_BYTES_MAX)

Values are None, booleans, integers of 64 bits, bytes, text, lists, maps with text keys, and
`Link`. Floats do not occur. The decoder is our own: general ones follow tags for shared values
and big numbers, with which a few hundred bytes keep them busy for minutes. It reads every byte
once and refuses indefinite lengths, longer integers than needed, unsorted or repeated keys, every
tag but 42, and trailing bytes, so no value has two encodings. cbor2 encodes, and is the decoder's
independent check in the tests. (IPLD DAG-CBOR specification; RFC 8949.)

RemoteFault
  NotDagCbor   E003  not strict DAG-CBOR, or a kind of value that Outcry does not use
"""

from dataclasses import dataclass
from typing import Any

import cbor2

from primitives.cid import is_cid
from primitives.codec import Oversized
from primitives.faults import RemoteFault

_LINK_TAG = 42
_IDENTITY_MULTIBASE = b"\x00"
_INTEGER_MAX = 2**64 - 1
_DEPTH_MAX = 32  # deeper nesting is refused: E003


class NotDagCbor(RemoteFault):
    """Not strict DAG-CBOR, or a kind of value that Outcry does not use."""

    code = "E003"


@dataclass(frozen=True, slots=True)
class Link:
    """A link to another block: its binary CID."""

    cid: bytes

    def __post_init__(self) -> None:
        if not is_cid(self.cid):
            raise NotDagCbor("a link must hold a CIDv1 with SHA-256")


def encode(value: Any) -> bytes:
    """The one DAG-CBOR encoding of `value`.

    Errors: `NotDagCbor` for a float, a set, a non-text map key, an integer beyond 64 bits.
    """
    return cbor2.dumps(_lower(value, 0), canonical=True)


def decode(data: bytes, *, bytes_max: int) -> Any:
    """The value whose DAG-CBOR encoding is exactly `data`.

    Errors: `Oversized` beyond `bytes_max` bytes, `NotDagCbor` for everything else.
    """
    if len(data) > bytes_max:
        raise Oversized(len(data), bytes_max)
    value, end = _read(data, 0, 0)
    if end != len(data):
        raise NotDagCbor(f"{len(data) - end} bytes behind the value")
    return value


def links(value: Any) -> list[bytes]:
    """The CIDs of all links inside a decoded value, in order."""
    if isinstance(value, Link):
        return [value.cid]
    if isinstance(value, dict):
        return [cid for key in value for cid in links(value[key])]
    if isinstance(value, list | tuple):
        return [cid for item in value for cid in links(item)]
    return []


def _lower(value: Any, depth: int) -> Any:
    """`value` as cbor2 takes it: links become tags, wrong kinds are refused."""
    if depth > _DEPTH_MAX:
        raise NotDagCbor(f"nested deeper than {_DEPTH_MAX}")
    if value is None or isinstance(value, bool | bytes | str):
        return value
    if isinstance(value, int):
        if not -_INTEGER_MAX - 1 <= value <= _INTEGER_MAX:
            raise NotDagCbor("an integer beyond 64 bits")
        return value
    if isinstance(value, Link):
        return cbor2.CBORTag(_LINK_TAG, _IDENTITY_MULTIBASE + value.cid)
    if isinstance(value, list | tuple):
        return [_lower(item, depth + 1) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise NotDagCbor("map keys must be text")
        return {key: _lower(item, depth + 1) for key, item in value.items()}
    raise NotDagCbor(f"{type(value).__name__} has no place in DAG-CBOR here")


_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _LIST, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES = {20: False, 21: True, 22: None}
_DIRECT_BELOW = 24  # larger arguments stand in 1, 2, 4 or 8 bytes of their own
_WIDTHS = {24: (1, 24), 25: (2, 1 << 8), 26: (4, 1 << 16), 27: (8, 1 << 32)}


def _read(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The value that begins at `at`, and where the next one begins."""
    if depth > _DEPTH_MAX:
        raise NotDagCbor(f"nested deeper than {_DEPTH_MAX}")
    kind, argument, at = _head(data, at)
    if kind == _UNSIGNED:
        return argument, at
    if kind == _NEGATIVE:
        return -1 - argument, at
    if kind == _BYTES:
        return _take(data, at, argument)
    if kind == _TEXT:
        return _read_text(data, at, argument)
    if kind == _LIST:
        return _read_list(data, at, argument, depth)
    if kind == _MAP:
        return _read_map(data, at, argument, depth)
    if kind == _TAG:
        return _read_link(data, at, argument, depth)
    if argument not in _SIMPLE_VALUES:
        raise NotDagCbor("a float, or a simple value without a place here")
    return _SIMPLE_VALUES[argument], at


def _head(data: bytes, at: int) -> tuple[int, int, int]:
    """Major type and argument of the item at `at`, and where its content begins."""
    if at >= len(data):
        raise NotDagCbor("the bytes end inside a value")
    kind, low = data[at] >> 5, data[at] & 31
    at += 1
    if low < _DIRECT_BELOW:
        return kind, low, at
    width, least = _WIDTHS.get(low, (0, 0))
    if not width or kind == _SIMPLE:
        raise NotDagCbor("an indefinite length, a float, or a reserved form")
    raw, at = _take(data, at, width)
    argument = int.from_bytes(raw, "big")
    if argument < least:
        raise NotDagCbor("an integer in a longer form than needed")
    return kind, argument, at


def _take(data: bytes, at: int, count: int) -> tuple[bytes, int]:
    if count > len(data) - at:
        raise NotDagCbor("the bytes end inside a value")
    return data[at : at + count], at + count


def _read_text(data: bytes, at: int, count: int) -> tuple[str, int]:
    raw, at = _take(data, at, count)
    try:
        return raw.decode(), at
    except UnicodeDecodeError:
        raise NotDagCbor("a text that is not UTF-8") from None


def _read_list(data: bytes, at: int, count: int, depth: int) -> tuple[list[Any], int]:
    if count > len(data) - at:
        raise NotDagCbor("the bytes end inside a list")
    items = []
    for _ in range(count):
        item, at = _read(data, at, depth + 1)
        items.append(item)
    return items, at


def _read_map(data: bytes, at: int, count: int, depth: int) -> tuple[dict[str, Any], int]:
    out: dict[str, Any] = {}
    previous = b""
    for number in range(min(count, len(data))):
        start = at
        key, at = _read(data, at, depth + 1)
        encoded = data[start:at]
        if not isinstance(key, str):
            raise NotDagCbor("map keys must be text")
        if number and (len(encoded), encoded) <= (len(previous), previous):
            raise NotDagCbor("map keys must ascend, shorter ones first")
        out[key], at = _read(data, at, depth + 1)
        previous = encoded
    if len(out) != count:
        raise NotDagCbor("the bytes end inside a map")
    return out, at


def _read_link(data: bytes, at: int, tag: int, depth: int) -> tuple[Link, int]:
    if tag != _LINK_TAG:
        raise NotDagCbor(f"tag {tag} has no place in DAG-CBOR")
    content, at = _read(data, at, depth + 1)
    if not isinstance(content, bytes) or content[:1] != _IDENTITY_MULTIBASE:
        raise NotDagCbor("a link without a CID")
    return Link(content[1:]), at
