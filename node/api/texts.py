"""How bytes, ids and numbers are written in JSON, as types for the routes' shapes."""

import binascii
from typing import Annotated, Final

import msgspec

from node.faults import BadRequest
from primitives import cid
from primitives.codec import AMOUNT_MAX

CID_CHARS_MAX: Final = 128  # longer texts of a CID: refused with E401
HEX_CHARS_MAX: Final = 65_538  # longer hex in a request is refused with E401

Hex = Annotated[str, msgspec.Meta(pattern="^0x([0-9a-f]{2})*$")]
Hex20 = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-f]{40}$")]
Hex32 = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-f]{64}$")]
Hex64 = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-f]{128}$")]
Cid = Annotated[str, msgspec.Meta(pattern="^b[a-z2-7]{58}$")]
Number = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]

GivenHex = Annotated[str, msgspec.Meta(pattern="^0x([0-9a-fA-F]{2})+$", max_length=HEX_CHARS_MAX)]
GivenHex20 = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{40}$")]
GivenHex32 = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{64}$")]
GivenCid = Annotated[str, msgspec.Meta(max_length=CID_CHARS_MAX)]  # the rest: `cid_bytes`
GivenSymbol = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9-]{1,25}$")]


def hexed(data: bytes) -> str:
    """`data` as 0x and lower-case hex."""
    return "0x" + data.hex()


def unhexed(text: str) -> bytes:
    """The bytes of a hex text, at least one. Errors: `BadRequest`."""
    try:
        data = binascii.unhexlify(text[2:]) if text.startswith("0x") else b""
    except ValueError:
        data = b""
    if not data:
        raise BadRequest("this is not hex; write 0x and an even number of hex digits")
    return data


def cid_bytes(text: str) -> bytes:
    """The binary CID that a client wrote. Errors: `BadRequest`."""
    try:
        return cid.from_text(text)
    except ValueError:
        raise BadRequest(
            "this is not the base32 text of a CIDv1 with SHA-256; take it from /v1/blocks"
        ) from None
