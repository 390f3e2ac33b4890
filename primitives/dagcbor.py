"""Strict DAG-CBOR on cbor2: the bytes of blocks, batches and chat logs.

    data = dagcbor.encode(["outcry/block/1", network, dagcbor.Link(parent)])
    value = dagcbor.decode(data, bytes_max=BLOCK_BYTES_MAX)

Values are None, booleans, integers of 64 bits, bytes, text, lists, maps with text keys, and
`Link`. Floats do not occur. What is decoded is encoded again and must give the same bytes, so
indefinite lengths, longer integers than needed, unsorted or repeated keys, unknown tags and
trailing bytes are all refused. (IPLD DAG-CBOR specification; tag 42 for links.)

RemoteFault
  NotDagCbor   E003  not strict DAG-CBOR, or a kind of value that Outcry does not use
"""

from dataclasses import dataclass
from io import BytesIO
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
    source = BytesIO(data)
    try:
        raw = cbor2.CBORDecoder(source, tag_hook=_tag).decode()
        value = _check(raw, 0)
    except NotDagCbor:
        raise
    except (cbor2.CBORDecodeError, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise NotDagCbor(f"not CBOR: {error}") from None
    if encode(value) != data:
        raise NotDagCbor("not the strict encoding of its value")
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


def _tag(_decoder: Any, tag: cbor2.CBORTag, *_rest: Any) -> Link:
    content = tag.value
    if tag.tag != _LINK_TAG or not isinstance(content, bytes) or content[:1] != _IDENTITY_MULTIBASE:
        raise NotDagCbor(f"tag {tag.tag} is not a link")
    return Link(content[1:])


def _check(value: Any, depth: int) -> Any:
    """Refuse kinds that only a lenient decoder lets through (floats, tags it understood)."""
    if depth > _DEPTH_MAX:
        raise NotDagCbor(f"nested deeper than {_DEPTH_MAX}")
    if value is None or isinstance(value, bool | int | bytes | str | Link):
        return value
    if isinstance(value, list):
        return [_check(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {key: _check(item, depth + 1) for key, item in value.items()}
    raise NotDagCbor(f"{type(value).__name__} has no place in DAG-CBOR here")
