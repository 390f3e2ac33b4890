"""The genesis document: everything that all nodes and traders must agree on beforehand.

    genesis.network_id()    # 32 bytes that every signature of this network contains

The id is a hash over the canonical bytes, so two documents that differ anywhere are two
networks. Addresses of peers are not part of it: they may change.
"""

from typing import Annotated

import msgspec

from exchange.genesis import VALIDATORS_ITEMS_MAX, ExchangeGenesis
from primitives import codec, dagcbor
from primitives.codec import Bytes20, Bytes32, Record, Unsigned
from primitives.eip712 import Domain
from primitives.hashing import digest

EPOCH_MS_MIN = 10_000  # shorter epochs: the genesis is refused
EPOCH_MS_MAX = 7 * 24 * 3_600_000  # longer ones too
_DOMAIN = "outcry/genesis/1"

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class ValidatorGenesis(Record):
    """One validator: its public keys and its power.

    consensus     Ed25519, signs votes and reports
    peer_id       libp2p id of its network key; only this peer may open its stream
    sealing       X25519
    anchor        BLS12-381 with its proof of possession
    evm           address that signs rollup blocks and sends them
    """

    name: Name
    consensus: Bytes32
    peer_id: str
    sealing: Bytes32
    anchor: Annotated[bytes, msgspec.Meta(min_length=48, max_length=48)]
    anchor_proof: Annotated[bytes, msgspec.Meta(min_length=96, max_length=96)]
    evm: Bytes20
    power: Annotated[int, msgspec.Meta(ge=1, le=2**32)]


class TokenContract(Record):
    """Where a token lives on the EVM chain; one exchange unit is `scale` of its smallest."""

    address: Bytes20
    scale: Annotated[int, msgspec.Meta(ge=1, le=10**18)]


class NetworkGenesis(Record):
    """The whole document.

    `epoch_ms` is how long an epoch lasts in block time: the validators' set may change only
    between epochs. `vault_block` is the EVM block that holds the vault's creation: no deposit is
    older.
    `contracts` go with `exchange.tokens` by position.
    """

    name: Name
    time_ms: Unsigned
    exchange: ExchangeGenesis
    validators: Annotated[
        list[ValidatorGenesis], msgspec.Meta(min_length=1, max_length=VALIDATORS_ITEMS_MAX)
    ]
    vault: Bytes20
    vault_block: Unsigned
    contracts: list[TokenContract]
    epoch_ms: Annotated[int, msgspec.Meta(ge=EPOCH_MS_MIN, le=EPOCH_MS_MAX)]

    def network_id(self) -> bytes:
        """32 bytes that name this network in every hash and signature."""
        return digest(_DOMAIN, bytes(32), codec.encode(self))

    def block(self) -> bytes:
        """The genesis as a DAG-CBOR block: the first block's parent."""
        return dagcbor.encode([_DOMAIN, codec.encode(self)])

    def domain(self) -> Domain:
        """The EIP-712 domain of the owners' authorizations."""
        return Domain(self.exchange.chain_id, self.network_id())

    def market_id(self, symbol: str) -> int | None:
        """The id of a market by its symbol."""
        for number, market in enumerate(self.exchange.markets):
            if market.symbol == symbol:
                return number
        return None

    def has_validator(self, key: bytes) -> bool:
        """Whether `key` is the consensus key of a validator."""
        return any(item.consensus == key for item in self.validators)
