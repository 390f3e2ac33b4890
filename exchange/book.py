"""One market's resting orders, ordered by price and then by time.

    book = Book(0, market)
    book.bids.best, book.asks.best        # the best level of each side, or None

Each side keeps a dict of levels by *key* and a sorted list of the keys. The key grows with
priority (the price of a bid, the negated price of an ask), so the best level of either side is
at the list's end, where removing it costs nothing. A level is a doubly linked list through its
orders, oldest first, and knows its quantity: cancelling costs no search.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from exchange.actions import Side
from exchange.genesis import Market
from primitives.codec import AMOUNT_MAX

if TYPE_CHECKING:
    from exchange.accounts import Account, Wallet

EMPTY_LEVELS_MAX = 256  # beyond those in use; then all empty ones are let go of


class Order:
    """An open order. `remaining` of its `size` lots rest in `level`.

    What it reserves is in the wallet `pays`. `carry` is the part of a unit, in millionths, that
    its fees carry from fill to fill; see `exchange.engine`.
    """

    __slots__ = (
        "account",
        "carry",
        "client_id",
        "level",
        "next",
        "number",
        "pays",
        "previous",
        "remaining",
        "size",
    )

    def __init__(
        self,
        number: int,
        account: Account,
        pays: Wallet,
        level: Level,
        size: int,
        remaining: int,
        carry: int,
        client_id: str,
        previous: Order | None,
    ) -> None:
        self.number = number
        self.account = account
        self.pays = pays
        self.level = level
        self.size = size
        self.remaining = remaining
        self.carry = carry
        self.client_id = client_id
        self.previous = previous
        self.next: Order | None = None


class Level:
    """All orders of one side at one price. `quantity` is in lots.

    `quote_per_lot` is the price in quote units for one lot, `reserved_per_lot` what one resting
    lot reserves, in units of the side's token.
    """

    __slots__ = (
        "head",
        "key",
        "price",
        "quantity",
        "quote_per_lot",
        "reserved_per_lot",
        "side",
        "tail",
    )

    def __init__(self, side: BookSide, key: int) -> None:
        self.side = side
        self.key = key
        self.price = abs(key)
        self.quantity = 0
        self.quote_per_lot = self.price * side.book.tick_units
        self.reserved_per_lot = self.quote_per_lot if key > 0 else side.book.lot_units
        self.head: Order  # these two mean nothing while the quantity is 0
        self.tail: Order

    def orders(self) -> Iterator[Order]:
        """The orders of the level, oldest first."""
        order: Order | None = self.head
        while order is not None:
            yield order
            order = order.next


class BookSide:
    """The bids or the asks of a market. `token` is what resting orders of this side reserve.

    `changes` counts the orders that came to rest and those that left other than by a fill.
    """

    __slots__ = ("book", "changes", "keys", "levels", "market", "side", "token")

    def __init__(self, side: Side, book: Book) -> None:
        self.side: Final = side
        self.book: Final = book
        self.market: Final = book.market
        self.token: Final = book.quote if side is Side.BUY else book.base
        self.levels: Final[dict[int, Level]] = {}
        self.keys: Final[list[int]] = []
        self.changes = 0

    @property
    def best(self) -> Level | None:
        """The level that matches next."""
        return self.levels[self.keys[-1]] if self.keys else None

    def from_best(self) -> Iterator[Level]:
        """All levels, the best first."""
        return (self.levels[key] for key in reversed(self.keys))

    def open_level(self, key: int) -> Level:
        """The empty level at `key`, ready for its first order, which has to follow at once.

        Levels that emptied are kept for their price's return; they are let go of when they
        outnumber those in use by `EMPTY_LEVELS_MAX`.
        """
        insort(self.keys, key)
        level = self.levels.get(key)
        if level is None:
            if len(self.levels) >= 2 * len(self.keys) + EMPTY_LEVELS_MAX:
                used = {key: level for key, level in self.levels.items() if level.quantity}
                self.levels.clear()
                self.levels.update(used)
            level = self.levels[key] = Level(self, key)
        return level

    def close_level(self, level: Level) -> None:
        """Take an emptied level out of the sorted prices."""
        del self.keys[bisect_left(self.keys, level.key)]

    def depth(self, levels: int) -> list[tuple[int, int]]:
        """(price in ticks, quantity in lots) of the best `levels` levels, the best first."""
        picked = self.keys[: -levels - 1 : -1] if levels > 0 else []
        return [(abs(key), self.levels[key].quantity) for key in picked]


class Book:
    """The two sides of a market and its parameters. `trades` counts its trades so far.

    An order of more lots than `size_max`, or of more than `notional_max` ticks x lots, would
    be worth more units than an amount can say.
    """

    __slots__ = (
        "asks",
        "base",
        "bids",
        "lot_units",
        "maker_ppm",
        "market",
        "notional_max",
        "quote",
        "size_max",
        "symbol",
        "taker_ppm",
        "tick_units",
        "trades",
    )

    def __init__(self, market: int, parameters: Market) -> None:
        self.market: Final = market
        self.symbol: Final = parameters.symbol
        self.base: Final = parameters.base
        self.quote: Final = parameters.quote
        self.lot_units: Final = parameters.lot_units
        self.tick_units: Final = parameters.tick_units
        self.size_max: Final = AMOUNT_MAX // parameters.lot_units
        self.notional_max: Final = AMOUNT_MAX // parameters.tick_units
        self.maker_ppm: Final = parameters.maker_ppm
        self.taker_ppm: Final = parameters.taker_ppm
        self.bids: Final = BookSide(Side.BUY, self)
        self.asks: Final = BookSide(Side.SELL, self)
        self.trades = 0

    @property
    def sequence(self) -> int:
        """Grows with every order that rests, leaves or is filled."""
        return self.bids.changes + self.asks.changes + self.trades
