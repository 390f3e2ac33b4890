"""Content identifiers: CIDv1, SHA-256, binary and base32 text (multiformats specification).

Inside Outcry a CID travels as its 36 binary bytes; people see the `b...` text that every IPFS
tool understands.
"""

import base64
from hashlib import sha256
from typing import Final

DAG_CBOR: Final = 0x71
RAW: Final = 0x55
CID_BYTES: Final = 36
_SHA256_HEADER: Final = bytes([0x12, 0x20])


def cid_of(data: bytes, codec: int = DAG_CBOR) -> bytes:
    """The CIDv1 of `data` under `codec` (one of DAG_CBOR, RAW), 36 bytes."""
    return bytes([0x01, codec]) + _SHA256_HEADER + sha256(data).digest()


def is_cid(value: bytes) -> bool:
    """Whether `value` is a binary CIDv1 of a kind that Outcry uses."""
    return (
        len(value) == CID_BYTES
        and value[0] == 0x01
        and value[1] in (DAG_CBOR, RAW)
        and value[2:4] == _SHA256_HEADER
    )


def matches(cid: bytes, data: bytes) -> bool:
    """Whether `data` is what `cid` names."""
    return is_cid(cid) and cid[4:] == sha256(data).digest()


def to_text(cid: bytes) -> str:
    """The multibase base32 text of a binary CID."""
    return "b" + base64.b32encode(cid).decode().lower().rstrip("=")


def from_text(text: str) -> bytes:
    """The binary CID of its base32 text.

    Errors: ValueError for anything but the text of a CID that Outcry uses.
    """
    if not text.startswith("b") or text != text.lower() or "=" in text:
        raise ValueError(f"not a base32 CID: {text[:80]!r}")
    body = text[1:].upper()
    cid = base64.b32decode(body + "=" * (-len(body) % 8))
    if not is_cid(cid) or to_text(cid) != text:
        raise ValueError(f"not a CIDv1 with SHA-256: {text[:80]!r}")
    return cid
