"""Signatures for simulations: a checked stand-in with the shape of `primitives.ed25519`.

    key = StandInKey(bytes(32))
    committee = Committee(network, 1, [Validator(key.public, 1)], verify=standin.verify)

A signature is the BLAKE2b tag of the message under the signer's public name, so checking costs
a microsecond instead of forty, and needs no table of keys.

Whoever knows a public name could compute the tag: as cryptography this is worthless. It is
adequate where only logic is tested, because every signature is still *checked*, and nothing in
a simulation computes a tag but `StandInKey.sign`. A changed message, round, domain, network or
signer, a truncated or altered signature, or one moved from another message is refused as
Ed25519 would refuse it; a check of a signature that consensus forgot stays visible, since the
Byzantine behaviours send wrong ones. A test runs equal scenarios under both schemes and
compares what was committed and found.
"""

from hashlib import blake2b

SEED_BYTES = 32
SIGNATURE_BYTES = 64
PUBLIC_BYTES = 32
_NAME_PERSON = b"outcry-standin/1"


class StandInKey:
    """A key made from a 32-byte seed; fits `consensus.Signer`."""

    __slots__ = ("public",)

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.public: bytes = blake2b(seed, digest_size=PUBLIC_BYTES, person=_NAME_PERSON).digest()

    def sign(self, message: bytes) -> bytes:
        """The 64-byte tag of `message`: the same for the same key and message, always."""
        return blake2b(message, key=self.public).digest()

    def __repr__(self) -> str:
        return f"StandInKey(public={self.public.hex()})"


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` (64 bytes) of `message` is by the key `public` (32 bytes)."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    return blake2b(message, key=public).digest() == signature
