"""Domain-separated SHA-256.

Every hash and every signed message starts from a name such as `outcry/vote/1` and the id of
the network, so that bytes made for one purpose never pass for another.
"""

from functools import lru_cache
from hashlib import sha256

DIGEST_BYTES = 32
_PREFIXES_ITEMS_MAX = 256  # domains times networks in one process; older ones are recomputed


def digest(domain: str, network: bytes, *parts: bytes) -> bytes:
    """SHA-256 over the domain, the 32-byte network id and the parts, 32 bytes.

    Each part is preceded by its length, so the boundaries between parts are part of the hash.
    """
    state = sha256(_prefix(domain, network))
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


@lru_cache(_PREFIXES_ITEMS_MAX)
def _prefix(domain: str, network: bytes) -> bytes:
    name = domain.encode()
    if len(network) != DIGEST_BYTES:
        raise ValueError(f"a network id has {DIGEST_BYTES} bytes, not {len(network)}")
    return len(name).to_bytes(1, "big") + name + network
