"""What a trader can ask for. One envelope carries a list of these, executed in order.

Prices are in ticks, sizes in lots, amounts in units of the token (see `genesis.Market`).
"""

from enum import IntEnum
from typing import Annotated

import msgspec

from primitives.codec import AMOUNT_MAX, Bytes20, Record, Unsigned

ACTIONS_ITEMS_MAX = 64  # more in one envelope: refused with E101
CLIENT_ID_CHARS_MAX = 36  # longer client order ids: refused with E101
PRICE_TICKS_MAX = 2**40  # larger prices: refused with E101
SIZE_LOTS_MAX = 2**40  # larger sizes: refused with E101

MarketId = Annotated[int, msgspec.Meta(ge=0, lt=64)]
TokenId = Annotated[int, msgspec.Meta(ge=0, lt=16)]
Price = Annotated[int, msgspec.Meta(ge=0, le=PRICE_TICKS_MAX)]
Size = Annotated[int, msgspec.Meta(ge=1, le=SIZE_LOTS_MAX)]
ClientId = Annotated[str, msgspec.Meta(max_length=CLIENT_ID_CHARS_MAX, pattern=r"^[\x21-\x7e]*$")]


class Side(IntEnum):
    BUY = 1
    SELL = 2


class Lifetime(IntEnum):
    """How long an order that did not match at once stays."""

    GTC = 1  # until it is filled or cancelled
    IOC = 2  # what does not match at once is cancelled
    FOK = 3  # matches whole at once, or not at all
    POST_ONLY = 4  # rests, or is refused when it would match at once


class SelfTrade(IntEnum):
    """What happens when an order would match another of the same account."""

    CANCEL_RESTING = 1
    CANCEL_INCOMING = 2
    CANCEL_BOTH = 3


class Place(Record, tag=1):
    """A limit order, or a market order when `price` is 0 (then `lifetime` is IOC or FOK).

    `client_id` may be empty; otherwise no other open order of the account in this market has it.
    """

    market: MarketId
    side: Side
    price: Price
    size: Size
    lifetime: Lifetime
    self_trade: SelfTrade
    client_id: ClientId


class Cancel(Record, tag=2):
    """Cancel one open order by the id that the exchange gave it."""

    market: MarketId
    order: Unsigned


class CancelClient(Record, tag=3):
    """Cancel one open order by the client's own id."""

    market: MarketId
    client_id: ClientId


class CancelAll(Record, tag=4):
    """Cancel all open orders of the account, in one market or (None) in all of them."""

    market: MarketId | None


class Withdraw(Record, tag=5):
    """Take `units` of `token` out of the exchange, claimable on chain by `recipient`."""

    token: TokenId
    units: Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
    recipient: Bytes20


Action = Place | Cancel | CancelClient | CancelAll | Withdraw
Actions = Annotated[list[Action], msgspec.Meta(min_length=1, max_length=ACTIONS_ITEMS_MAX)]
