"""A node's keys: made once, kept in one keystore (DESIGN 7: keys).

keys = create_keys()
save_keys(path, keys, passphrase)
keys = load_keys(path, passphrase)
"""

import secrets
from dataclasses import dataclass
from pathlib import Path

from nacl.public import PrivateKey

from exchange.network import ValidatorGenesis
from node.faults import KeysMismatch
from p2p import peer_id_of_seed
from primitives import keystore
from primitives.bls import AnchorKey
from primitives.durable import replace_file, sync_directory
from primitives.ed25519 import SigningKey
from primitives.secp256k1 import EvmKey

_NAMES = ("consensus", "network", "sealing", "anchor", "evm")
_SECRET_BYTES = 32
_UNUSED_TEXT = b"The keys beside this note have signed nothing yet. Never copy or restore it.\n"


@dataclass(frozen=True)
class NodeKeys:
    """Five secrets of 32 bytes. A gateway uses only `network`, and `consensus` for receipts."""

    consensus: bytes
    network: bytes
    sealing: bytes
    anchor: bytes
    evm: bytes

    def signing(self) -> SigningKey:
        return SigningKey(self.consensus)

    def evm_key(self) -> EvmKey:
        return EvmKey(self.evm)

    def peer_id(self) -> str:
        """The libp2p id that Noise will authenticate."""
        return peer_id_of_seed(self.network)

    def public(self, name: str, power: int) -> ValidatorGenesis:
        """What the genesis says about the validator with these keys."""
        anchor = AnchorKey(self.anchor)
        return ValidatorGenesis(
            name=name,
            consensus=self.signing().public,
            peer_id=self.peer_id(),
            sealing=bytes(PrivateKey(self.sealing).public_key),
            anchor=anchor.public,
            anchor_proof=anchor.prove_possession(),
            evm=self.evm_key().address,
            power=power,
        )


def create_keys() -> NodeKeys:
    """Fresh keys from the operating system's randomness."""
    return NodeKeys(*(secrets.token_bytes(_SECRET_BYTES) for _ in _NAMES))


def save_keys(path: Path, keys: NodeKeys, passphrase: str, *, scrypt_n: int = 1 << 17) -> None:
    """Write the keystore of fresh keys, and beside it the note that they were never used.

    `scrypt_n` is lower only for development networks.
    """
    named = {name: getattr(keys, name) for name in _NAMES}
    keystore.write(path, named, passphrase, scrypt_n=scrypt_n)
    replace_file(_unused_note(path), _UNUSED_TEXT)


def take_unused_note(path: Path) -> bool:
    """Whether the keys of the keystore at `path` were never used; from now on they were.

    A copy of the keystore without its note, and any keystore after its first use, may have
    signed: then only its vote journal knows what.
    """
    note = _unused_note(path)
    if not note.exists():
        return False
    note.unlink()
    sync_directory(note.parent)
    return True


def _unused_note(path: Path) -> Path:
    return path.with_name(f"{path.name}.unused")


def load_keys(path: Path, passphrase: str) -> NodeKeys:
    """Errors: `KeystoreUnreadable`, `WrongPassphrase`, `KeysMismatch`."""
    named = keystore.read(path, passphrase)
    if set(named) != set(_NAMES) or any(len(value) != _SECRET_BYTES for value in named.values()):
        raise KeysMismatch(f"{path} does not hold a node's keys; create them with: outcry init")
    return NodeKeys(**named)
