"""Receipts: a node's signed word that it took an envelope at a time (PROTOCOL 3).

Whoever holds a receipt for an envelope that was never sequenced can show that the node kept
it back. The node signs with its consensus key.
"""

from primitives import codec, ed25519
from primitives.codec import Bytes32, Bytes64, Record, Unsigned
from primitives.hashing import digest

_DOMAIN = "outcry/receipt/1"


class Receipt(Record):
    """Node `node` took envelope `envelope` at its local time, when it stood at `height`."""

    envelope: Bytes32
    height: Unsigned
    time_ms: Unsigned
    node: Bytes32
    signature: Bytes64


def sign_receipt(
    key: ed25519.SigningKey, network: bytes, envelope: bytes, height: int, time_ms: int
) -> Receipt:
    body = codec.encode([envelope, height, time_ms])
    return Receipt(envelope, height, time_ms, key.public, key.sign(digest(_DOMAIN, network, body)))


def check_receipt(receipt: Receipt, network: bytes) -> bool:
    """Whether the node named in a receipt really signed it."""
    body = codec.encode([receipt.envelope, receipt.height, receipt.time_ms])
    return ed25519.verify(receipt.node, digest(_DOMAIN, network, body), receipt.signature)
