"""The canonical codec: msgpack arrays of known shape, one encoding per value.

    class Vote(Record):
        epoch: int
        block: bytes

    data = codec.encode(Vote(1, block))
    vote = codec.decode(Vote, data, bytes_max=VOTE_BYTES_MAX)

A record is a frozen, array-like msgspec struct that refuses unknown fields. msgpack decoders
accept integers and lengths in longer forms than needed, so whatever is decoded is encoded
again and must give the same bytes: two different byte strings never mean the same record.

RemoteFault
  Malformed   E001  not the canonical encoding of this record
  Oversized   E002  more bytes than this kind of message may have
"""

from typing import Annotated, Any, TypeVar, dataclass_transform

import msgspec

from primitives.faults import RemoteFault

AMOUNT_MAX = 2**63 - 1  # larger integers are refused: E001

Unsigned = Annotated[int, msgspec.Meta(ge=0, le=AMOUNT_MAX)]
Bytes20 = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes64 = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
Bytes65 = Annotated[bytes, msgspec.Meta(min_length=65, max_length=65)]

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of everything that is signed, hashed or sent."""


class Malformed(RemoteFault):
    """Not the canonical encoding of the record that was expected."""

    code = "E001"


class Oversized(RemoteFault):
    """More bytes than this kind of message may have."""

    code = "E002"

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"{size} bytes; at most {size_max} are accepted")


_encoder = msgspec.msgpack.Encoder()


def encode(value: Any) -> bytes:
    """The canonical bytes of a record, or of a list or tuple of records, integers and bytes."""
    return _encoder.encode(value)


def decode(shape: type[T], data: bytes, *, bytes_max: int) -> T:
    """The value of type `shape` whose canonical bytes are exactly `data`.

    Errors: `Oversized` beyond `bytes_max` bytes, `Malformed` for everything else.
    """
    if len(data) > bytes_max:
        raise Oversized(len(data), bytes_max)
    try:
        value = _decoder(shape).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not a {_name(shape)}: {error}") from None
    if _encoder.encode(value) != data:
        raise Malformed(f"not the canonical encoding of a {_name(shape)}")
    return value


_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}  # one per message type of the program


def _decoder(shape: type[T]) -> msgspec.msgpack.Decoder[T]:
    decoder = _decoders.get(shape)
    if decoder is None:
        decoder = _decoders[shape] = msgspec.msgpack.Decoder(shape)
    return decoder


def _name(shape: Any) -> str:
    return getattr(shape, "__name__", str(shape))
