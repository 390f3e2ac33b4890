"""One signed message of a room.

    wire = sign_message(key, network, "OUT-USD", account, sequence, time_ms, heads, "hello")
    admitted = admit_message(wire, network)

The author signs the room, its own clock, and the `heads`: the CIDs of the newest messages it had
seen, so that everybody can show an answer after its question. On the wire it is a canonical
record; kept and linked it is a DAG-CBOR array, and its id is that block's CID, which covers the
signature too. Whether the key may speak for the account is not decided here.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Final

import msgspec

from chat.faults import (
    BadSignature,
    MalformedMessage,
    MessageTooLong,
    TextRefused,
    WrongNetwork,
)
from primitives import codec, dagcbor, ed25519
from primitives.cid import CID_BYTES, DAG_CBOR, cid_of, is_cid
from primitives.codec import (
    AMOUNT_MAX,
    Bytes20,
    Bytes32,
    Bytes64,
    Malformed,
    Oversized,
    Record,
    Unsigned,
)
from primitives.dagcbor import Link, NotDagCbor
from primitives.hashing import digest

TEXT_BYTES_MAX: Final = 2_048  # longer texts in UTF-8: MessageTooLong
HEADS_ITEMS_MAX: Final = 8  # more heads: MalformedMessage
ROOM_CHARS_MAX: Final = 25  # longer room names: MalformedMessage
WIRE_BYTES_MAX: Final = 4_096  # longer records: MessageTooLong; the largest message has 2,600
BLOCK_BYTES_MAX: Final = 4_096  # longer blocks: MalformedMessage
_DOMAIN: Final = "outcry/chat/1"

RoomName = Annotated[str, msgspec.Meta(min_length=1, max_length=ROOM_CHARS_MAX)]
Cid = Annotated[bytes, msgspec.Meta(min_length=CID_BYTES, max_length=CID_BYTES)]
Heads = Annotated[list[Cid], msgspec.Meta(max_length=HEADS_ITEMS_MAX)]


class Message(Record):
    """A message: `sequence` is the key's own count, `time_ms` the author's clock (Unix).

    `heads` ascend. The signature is Ed25519 by `key` over all other fields.
    """

    network: Bytes32
    room: RoomName
    account: Bytes20
    key: Bytes32
    sequence: Unsigned
    time_ms: Unsigned
    heads: Heads
    text: str
    signature: Bytes64


@dataclass(frozen=True, slots=True)
class AdmittedMessage:
    """A message whose form and signature are right; `block` are its DAG-CBOR bytes."""

    cid: bytes
    message: Message
    block: bytes


def sign_message(
    key: ed25519.SigningKey,
    network: bytes,
    room: str,
    account: bytes,
    sequence: int,
    time_ms: int,
    heads: Sequence[bytes],
    text: str,
) -> bytes:
    """The wire bytes of a message.

    Errors: `MessageTooLong`, `TextRefused`, `MalformedMessage`: what every node would refuse.
    """
    _check_text(text)
    ordered = sorted(set(heads))
    signed = _signed(network, room, account, key.public, sequence, time_ms, ordered, text)
    wire = codec.encode(
        Message(
            network, room, account, key.public, sequence, time_ms, ordered, text, key.sign(signed)
        )
    )
    admit_message(wire, network)
    return wire


def admit_message(wire: bytes, network: bytes) -> AdmittedMessage:
    """Decode a message and check all that its bytes alone decide.

    Errors: `MessageTooLong`, `MalformedMessage`, `WrongNetwork`, `TextRefused`, `BadSignature`.
    """
    try:
        message = codec.decode(Message, wire, bytes_max=WIRE_BYTES_MAX)
    except Oversized:
        raise MessageTooLong(len(wire), WIRE_BYTES_MAX) from None
    except Malformed as fault:
        raise MalformedMessage(fault.sentence) from None
    if message.network != network:
        raise WrongNetwork(message.network, network)
    _check_text(message.text)
    _check_heads(message.heads)
    signed = _signed(
        network,
        message.room,
        message.account,
        message.key,
        message.sequence,
        message.time_ms,
        message.heads,
        message.text,
    )
    if not ed25519.verify(message.key, signed, message.signature):
        raise BadSignature("the key named in the message did not sign it")
    block = _block_of(message)
    return AdmittedMessage(cid_of(block), message, block)


def wire_of(message: Message) -> bytes:
    """The wire bytes that `admit_message` took."""
    return codec.encode(message)


def admit_block(block: bytes, network: bytes) -> AdmittedMessage:
    """The message of a DAG-CBOR block, as strictly as from the wire.

    Errors: those of `admit_message`.
    """
    try:
        value = dagcbor.decode(block, bytes_max=BLOCK_BYTES_MAX)
        message = _message_of(value)
    except (NotDagCbor, Oversized) as fault:
        raise MalformedMessage(fault.sentence) from None
    admitted = admit_message(codec.encode(message), network)
    if admitted.block != block:
        raise MalformedMessage("not the block of the message that it holds")
    return admitted


def _message_of(value: Any) -> Message:
    """The record of a block's value, its fields not yet checked."""
    if not isinstance(value, list) or len(value) != 10 or value[0] != _DOMAIN:
        raise MalformedMessage(f"not an array of {_DOMAIN}")
    _, network, room, account, key, sequence, time_ms, heads, text, signature = value
    kinds = (bytes, str, bytes, bytes, int, int, list, str, bytes)
    if any(type(field) is not kind for field, kind in zip(value[1:], kinds, strict=True)):
        raise MalformedMessage("a field of another type")
    if not 0 <= min(sequence, time_ms) <= max(sequence, time_ms) <= AMOUNT_MAX:
        raise MalformedMessage("a number out of range")
    if not all(isinstance(head, Link) for head in heads):
        raise MalformedMessage("the heads are not links")
    cids = [head.cid for head in heads]
    return Message(network, room, account, key, sequence, time_ms, cids, text, signature)


def _block_of(message: Message) -> bytes:
    return dagcbor.encode(
        [
            _DOMAIN,
            message.network,
            message.room,
            message.account,
            message.key,
            message.sequence,
            message.time_ms,
            [Link(head) for head in message.heads],
            message.text,
            message.signature,
        ]
    )


def _signed(network: bytes, *fields: Any) -> bytes:
    """What the author signs: all fields but the network (in the domain) and the signature."""
    return digest(_DOMAIN, network, codec.encode(fields))


def _check_text(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise TextRefused("the text is not valid Unicode; remove lone surrogates") from None
    if size > TEXT_BYTES_MAX:
        raise MessageTooLong(size, TEXT_BYTES_MAX)
    if not text.strip():
        raise TextRefused("the text is empty; write something")
    if any(unicodedata.category(sign) == "Cc" and sign != "\n" for sign in text):
        raise TextRefused("the text holds control characters; only line feeds are allowed")


def _check_heads(heads: Sequence[bytes]) -> None:
    if not all(is_cid(head) and head[1] == DAG_CBOR for head in heads):
        raise MalformedMessage("a head is not the CID of a message")
    if any(left >= right for left, right in pairwise(heads)):
        raise MalformedMessage("the heads do not ascend")
