"""BLS12-381 signatures, minimal-pubkey-size, proof-of-possession scheme (RFC draft bls-05).

    key = AnchorKey(seed)
    aggregate = bls.aggregate([key.sign(message) for key in keys])
    bls.verify_aggregate([key.public for key in keys], message, aggregate)

Public keys are 48 and signatures 96 compressed bytes. Encodings that are not canonical, points
outside the group and the identity are refused: the library under this module is lenient in
places, and an identity key would sign anything.
"""

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from py_arkworks_bls12381 import GT, G1Point, G2Point, Scalar

PUBLIC_BYTES = 48
SIGNATURE_BYTES = 96
SEED_BYTES_MIN = 32
_KEYS_CACHED_ITEMS_MAX = 1_024  # decompressing a key costs as much as the rest of a verification
_SUITE = b"BLS_SIG_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_POSSESSION = b"BLS_POP_BLS12381G2_XMD:SHA-256_SSWU_RO_POP_"
_KEYGEN_SALT = b"BLS-SIG-KEYGEN-SALT-"
_OKM_BYTES = 48

_G1 = G1Point()
_NEGATIVE_G1 = -G1Point()


class AnchorKey:
    """A private key derived from at least 32 secret bytes (KeyGen of the draft, section 2.3)."""

    __slots__ = ("_secret", "public")

    def __init__(self, seed: bytes) -> None:
        self._secret = _key_gen(seed)
        self.public = bytes((_G1 * self._secret).to_compressed_bytes())

    def sign(self, message: bytes) -> bytes:
        """The 96-byte signature of `message`."""
        point = G2Point.hash_to_curve(message, _SUITE) * self._secret
        return bytes(point.to_compressed_bytes())

    def prove_possession(self) -> bytes:
        """The 96-byte proof that whoever published `public` holds its secret."""
        point = G2Point.hash_to_curve(self.public, _POSSESSION) * self._secret
        return bytes(point.to_compressed_bytes())


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` of `message` is by `public`."""
    return _check([public], message, signature, _SUITE)


def verify_possession(public: bytes, proof: bytes) -> bool:
    """Whether `proof` shows that somebody holds the secret of `public`."""
    return _check([public], public, proof, _POSSESSION)


def aggregate(signatures: Sequence[bytes]) -> bytes:
    """One 96-byte signature out of several of the same message.

    Errors: ValueError when there are none or one is not a signature.
    """
    points = [point for point in map(_signature, signatures) if point is not None]
    if not points or len(points) < len(signatures):
        raise ValueError("every signature must be a canonical point other than the identity")
    total = points[0]
    for point in points[1:]:
        total = total + point
    return bytes(total.to_compressed_bytes())


def verify_aggregate(publics: Sequence[bytes], message: bytes, signature: bytes) -> bool:
    """Whether all of `publics` signed `message`; their possession proofs were checked before."""
    return bool(publics) and _check(publics, message, signature, _SUITE)


def _check(publics: Sequence[bytes], message: bytes, signature: bytes, suite: bytes) -> bool:
    point = _signature(signature)
    keys = [key for key in map(_public, publics) if key is not None]
    if point is None or len(keys) < len(publics):
        return False
    key = keys[0]
    for other in keys[1:]:
        key = key + other
    hashed = G2Point.hash_to_curve(message, suite)
    return bool(GT.pairing_check([key, _NEGATIVE_G1], [hashed, point]))


@lru_cache(_KEYS_CACHED_ITEMS_MAX)
def _public(data: bytes) -> G1Point | None:
    point: G1Point | None = _decompress(G1Point, data, PUBLIC_BYTES)
    return point


def _signature(data: bytes) -> G2Point | None:
    point: G2Point | None = _decompress(G2Point, data, SIGNATURE_BYTES)
    return point


def _decompress(group: Any, data: bytes, size: int) -> Any:
    if len(data) != size:
        return None
    try:
        point = group.from_compressed_bytes(data)
    except ValueError:
        return None
    if point == group.identity() or bytes(point.to_compressed_bytes()) != data:
        return None
    return point


def _key_gen(seed: bytes) -> Scalar:
    if len(seed) < SEED_BYTES_MIN:
        raise ValueError(f"a seed has at least {SEED_BYTES_MIN} bytes")
    salt = _KEYGEN_SALT
    while True:
        salt = sha256(salt).digest()
        okm = HKDF(SHA256(), _OKM_BYTES, salt, _OKM_BYTES.to_bytes(2, "big")).derive(seed + b"\x00")
        secret = Scalar.from_be_bytes_mod_order(okm)
        if not secret.is_zero():
            return secret
