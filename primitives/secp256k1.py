"""Keys of EVM accounts: recoverable ECDSA over secp256k1, low-s only.

A signature is 65 bytes r || s || v with v 27 or 28. The upper half of s is refused, because
otherwise anybody could turn a signature into a second valid one.
"""

import coincurve

from primitives.anchors import keccak

SECRET_BYTES = 32
ADDRESS_BYTES = 20
SIGNATURE_BYTES = 65
_V_BASE = 27
_HALF_ORDER = 0x7FFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_5D576E73_57A4501D_DFE92F46_681B20A0


class EvmKey:
    """A private key made from 32 secret bytes, and the address that it owns."""

    __slots__ = ("_key", "address", "secret")

    def __init__(self, secret: bytes) -> None:
        self._key = coincurve.PrivateKey(secret)
        self.secret = secret
        self.address = _address(self._key.public_key)

    def sign(self, digest: bytes) -> bytes:
        """The 65-byte signature of a 32-byte digest."""
        raw = self._key.sign_recoverable(digest, hasher=None)
        return bytes(raw[:64]) + bytes([raw[64] + _V_BASE])

    def __repr__(self) -> str:
        return f"EvmKey(address=0x{self.address.hex()})"


def recover(digest: bytes, signature: bytes) -> bytes | None:
    """The 20-byte address whose key signed `digest`, or None for an invalid signature."""
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (_V_BASE, _V_BASE + 1):
        return None
    if int.from_bytes(signature[32:64], "big") > _HALF_ORDER:
        return None
    raw = signature[:64] + bytes([signature[64] - _V_BASE])
    try:
        public = coincurve.PublicKey.from_signature_and_message(raw, digest, hasher=None)
    except ValueError:  # r or s outside the group, or no such point
        return None
    return _address(public)


def checksum_address(address: bytes) -> str:
    """The EIP-55 text of a 20-byte address."""
    text = address.hex()
    marks = keccak(text.encode()).hex()
    return "0x" + "".join(
        letter.upper() if int(mark, 16) >= 8 else letter
        for letter, mark in zip(text, marks, strict=False)
    )


def _address(public: coincurve.PublicKey) -> bytes:
    return keccak(public.format(compressed=False)[1:])[-ADDRESS_BYTES:]
