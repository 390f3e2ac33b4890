"""What a node must know to join its network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from p2p.limits import Limits

NETWORK_ID_BYTES: Final = 32
SEED_BYTES: Final = 32


@dataclass(frozen=True)
class NetworkConfig:
    """One member of one network.

    network: 32-byte network id; protocols and topics carry its first 8 hex digits, so that
        members of different networks have nothing to say to each other
    seed: 32-byte Ed25519 seed of the network key, hence of the peer id
    listen_host, listen_port: an IP address, and a TCP port or 0 for any free one
    validators: peer id (text) to validator index, as genesis binds them
    bootstrap: multiaddrs that end in /p2p/<peer id>, known addresses of validators included
    """

    network: bytes
    seed: bytes = field(repr=False)
    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    validators: Mapping[str, int] = field(default_factory=dict)
    bootstrap: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if len(self.network) != NETWORK_ID_BYTES:
            raise ValueError(f"a network id has {NETWORK_ID_BYTES} bytes, not {len(self.network)}")
        if len(self.seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(self.seed)}")
        if len(set(self.validators.values())) != len(self.validators):
            raise ValueError("two peer ids share one validator index")

    def protocol(self, name: str) -> str:
        """`name` as this network's peers call it: /outcry/<first 8 hex digits>/<name>."""
        return f"/outcry/{self.network[:4].hex()}/{name}"
