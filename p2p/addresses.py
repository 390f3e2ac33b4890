"""Peer ids and the addresses that lead to them."""

from dataclasses import dataclass
from typing import Any, Final

from libp2p.crypto.ed25519 import Ed25519PublicKey, create_new_key_pair
from libp2p.peer.id import ID
from multiaddr.multiaddr import Multiaddr

from p2p.faults import AddressMalformed

ADDRESS_CHARACTERS_MAX: Final = 256  # longer: refused with E541


@dataclass(frozen=True)
class PeerAddress:
    """Where to dial (without the peer id), and who must answer there."""

    peer: ID
    transport: Multiaddr

    def __str__(self) -> str:
        return f"{self.transport}/p2p/{self.peer}"


def parse_address(text: str) -> PeerAddress:
    """Split /ip4|ip6|dns4/HOST/tcp/PORT/p2p/PEER-ID into its two halves.

    Errors: `AddressMalformed`.
    """
    if len(text) > ADDRESS_CHARACTERS_MAX:
        raise AddressMalformed(text)
    transport, separator, peer_text = text.rpartition("/p2p/")
    if not separator:
        raise AddressMalformed(text)
    try:
        address = Multiaddr(transport)
        names = [protocol.name for protocol in address.protocols()]
        peer = parse_peer_id(peer_text)
    except ValueError as error:  # multiaddr's own errors are ValueErrors too
        raise AddressMalformed(text) from error
    if len(names) != 2 or names[0] not in ("ip4", "ip6", "dns", "dns4", "dns6"):
        raise AddressMalformed(text)
    if names[1] != "tcp":
        raise AddressMalformed(text)
    return PeerAddress(peer, address)


def parse_peer_id(text: str) -> ID:
    """The peer id written as `text`; ValueError when it holds no Ed25519 key."""
    peer = ID.from_string(text)
    if str(peer) != text or not isinstance(_public_key_in(peer), Ed25519PublicKey):
        raise ValueError(f"{text!r} is not the peer id of an Ed25519 key")
    return peer


def _public_key_in(peer: ID) -> Any:
    try:
        return peer.extract_public_key()
    except Exception as error:  # guard: multihash code raises any type
        raise ValueError("the peer id holds no public key") from error


def peer_id_of_seed(seed: bytes) -> str:
    """The peer id whose network key has this 32-byte Ed25519 seed."""
    return str(ID.from_pubkey(create_new_key_pair(seed).public_key))


def peer_id_of_public_key(public_key: bytes) -> str:
    """The peer id of this 32-byte Ed25519 public key, as genesis states it."""
    return str(ID.from_pubkey(Ed25519PublicKey.from_bytes(public_key)))
