"""What a network starts with: its tokens, markets, fee account and validators' power.

The genesis of the exchange is part of the network's genesis; two networks with different
parameters have different ids, so nothing signed for one is valid on the other.
"""

from typing import Annotated

import msgspec

from primitives.codec import Bytes20, Record, Unsigned

PPM = 1_000_000
TOKENS_ITEMS_MAX = 16
MARKETS_ITEMS_MAX = 64
VALIDATORS_ITEMS_MAX = 32

Symbol = Annotated[str, msgspec.Meta(pattern=r"^[A-Z0-9]{1,12}(-[A-Z0-9]{1,12})?$")]
FeePpm = Annotated[int, msgspec.Meta(ge=0, le=100_000)]


class Token(Record):
    """An ERC-20 token that the vault accepts; its id is its position in the genesis.

    `decimals` say how people write amounts: one token is 10**decimals exchange units.
    """

    symbol: Symbol
    decimals: Annotated[int, msgspec.Meta(ge=0, le=9)]


class Market(Record):
    """A spot market; its id is its position in the genesis.

    One lot is `lot_units` units of the base token; a price of one tick means `tick_units` units
    of the quote token for one lot. So price x size x tick_units is the notional in quote units.
    """

    symbol: Symbol
    base: Annotated[int, msgspec.Meta(ge=0, lt=TOKENS_ITEMS_MAX)]
    quote: Annotated[int, msgspec.Meta(ge=0, lt=TOKENS_ITEMS_MAX)]
    lot_units: Annotated[int, msgspec.Meta(ge=1, le=10**12)]
    tick_units: Annotated[int, msgspec.Meta(ge=1, le=10**12)]
    maker_ppm: FeePpm
    taker_ppm: FeePpm


class ExchangeGenesis(Record):
    """Everything that the exchange's first state depends on.

    `chain_id` is the EVM chain that holds the money. `powers` are the validators' voting powers
    by index: deposits are credited when more than two thirds of their sum reported them.
    `rollup_interval_ms` is the shortest block time between two rollup blocks.
    """

    chain_id: Unsigned
    tokens: Annotated[list[Token], msgspec.Meta(min_length=2, max_length=TOKENS_ITEMS_MAX)]
    markets: Annotated[list[Market], msgspec.Meta(min_length=1, max_length=MARKETS_ITEMS_MAX)]
    fee_account: Bytes20
    powers: Annotated[list[Unsigned], msgspec.Meta(min_length=1, max_length=VALIDATORS_ITEMS_MAX)]
    rollup_interval_ms: Unsigned
