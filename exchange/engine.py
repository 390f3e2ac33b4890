"""The matching engine: continuous trading by price and then time, and the money it moves.

    engine = Engine(genesis.markets, fee_account)
    engine.place(account, Place(...), source)
    events = engine.drain()

An order is checked whole before anything changes; after that it cannot fail. Trades happen at
the resting order's price.

Money. A resting bid reserves price x size in quote units, a resting ask its size in base units,
so a trade never finds an empty pocket. A taker pays out of its free balance what each trade
costs, so better prices than its limit need no refund. Both sides pay their fee out of what they
receive, and it goes to the fee account.

Fees. The fee on an order is that on all it received so far, rounded up once, less what was
charged before. The engine needs one number for that, the order's *carry*, in millionths of a
unit. It starts at PPM - 1, and with each fill

    fee, carry = divmod(carry + units * ppm, PPM)

so that the fees add up to floor((PPM - 1 + received * ppm) / PPM) = ceil(received * ppm / PPM):
the difference of cumulative roundings. Many small fills cost what one large fill costs, and no
fee exceeds what it is taken from. An order that matches at first and rests later keeps its
carry, at each rate for what was received at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from exchange.actions import Cancel, CancelAll, CancelClient, Lifetime, Place, SelfTrade, Side
from exchange.book import Book, BookSide, Order
from exchange.events import Closed, Event, Filled, Placed
from exchange.faults import (
    DuplicateClientId,
    InsufficientFunds,
    InvalidOrder,
    NoLiquidity,
    NotFillable,
    StateCorrupt,
    TooManyOrders,
    UnknownMarket,
    UnknownOrder,
    WouldMatch,
)
from exchange.fillability import cost_to_fill
from exchange.genesis import PPM, Market
from primitives.codec import AMOUNT_MAX

if TYPE_CHECKING:
    from exchange.accounts import Account

OPEN_ORDERS_PER_ACCOUNT_MAX = 1_000  # an order more that could rest is refused with E208

_ROUND_UP = PPM - 1  # the carry of an order that has received nothing yet
_ANY_PRICE_KEY = -(2**62)  # below the key of every level: a market order's limit

_BUY, _SELL = Side.BUY, Side.SELL
_GTC, _FOK, _POST_ONLY = Lifetime.GTC, Lifetime.FOK, Lifetime.POST_ONLY
_RESTING = (_GTC, _POST_ONLY)
_CANCEL_RESTING, _CANCEL_INCOMING = SelfTrade.CANCEL_RESTING, SelfTrade.CANCEL_INCOMING


class Engine:
    """All books of an exchange.

    `touched` collects the accounts whose state changes; an account that acts itself is added by
    the caller, which knows it anyway.
    """

    def __init__(self, markets: Sequence[Market], fees: Account) -> None:
        self.books = tuple(Book(index, market) for index, market in enumerate(markets))
        self.touched: set[Account] = set()
        self.placed = 0
        self._fees = fees
        self._events: list[Event] = []
        self.emit = self._events.append

    def drain(self) -> tuple[Event, ...]:
        """The events since the last call, in order; also forgets who was touched."""
        events = tuple(self._events)
        self._events.clear()
        self.touched.clear()
        return events

    def book(self, market: int) -> Book:
        """The book of `market`.

        Errors: `UnknownMarket`.
        """
        try:
            return self.books[market]
        except IndexError:
            raise _unknown_market(market, self.books) from None

    def place(self, account: Account, action: Place, source: bytes) -> None:
        """Accept an order, match it, and let the rest of it rest or close.

        From: an envelope of `account` with scope TRADE.
        Checks: market, price and size, funds, client id, open orders, lifetime's own condition.
        Effects: `Placed`, then per trade `Filled`, and `Closed` for each order that ends.
        Errors: `UnknownMarket`, `InvalidOrder`, `InsufficientFunds`, `DuplicateClientId`,
            `TooManyOrders`, `WouldMatch`, `NotFillable`, `NoLiquidity`; then nothing changed.
        """
        try:
            book = self.books[action.market]
        except IndexError:
            raise _unknown_market(action.market, self.books) from None
        side, price, size, client_id = action.side, action.price, action.size, action.client_id
        if side is _BUY:
            own, against, key = book.bids, book.asks, price
            need = price * size * book.tick_units
        else:
            own, against, key = book.asks, book.bids, -price
            need = size * book.lot_units
        pays, orders, lifetime = account.wallets[own.token], account.orders, action.lifetime
        if size > book.size_max or price * size > book.notional_max:
            raise InvalidOrder(f"the order is worth more than {AMOUNT_MAX} units; make it smaller")
        if client_id and (action.market, client_id) in account.clients:
            raise DuplicateClientId(f"an open order has client id {client_id!r}; choose another")
        limit_key = -key if price else _ANY_PRICE_KEY
        if lifetime is not _GTC or not price:
            need = self._check_lifetime(account, action, against, limit_key, need)
        if pays.free < need:
            raise _short(account, own.token, need)
        if len(orders) >= OPEN_ORDERS_PER_ACCOUNT_MAX and lifetime in _RESTING:
            raise TooManyOrders(f"{len(orders)} orders are open; cancel some first")
        self.placed = number = self.placed + 1
        self.emit(Placed(source, number, account.address, action.market, side, price, size,
                         lifetime, client_id))  # fmt: skip
        keys, lots, carry, reason = against.keys, size, _ROUND_UP, ""
        if keys and keys[-1] >= limit_key:
            lots, carry, reason = self._match(account, action, number, against, limit_key)
        if reason or (lifetime is not _GTC and lifetime is not _POST_ONLY):
            if lots and lifetime is _FOK:
                raise StateCorrupt(f"fill-or-kill order {number} was left with {lots} lots")
            self.emit(Closed(number, account.address, action.market, lots, reason or "unfilled"))
            return
        level = own.levels.get(key)
        if level is not None and level.quantity:
            tail = level.tail
            order = Order(number, account, pays, level, size, lots, carry, client_id, tail)
            tail.next = order
        else:
            level = own.open_level(key)
            order = Order(number, account, pays, level, size, lots, carry, client_id, None)
            level.head = order
        level.tail = order
        level.quantity += lots
        own.changes += 1
        orders[number] = order
        if client_id:
            account.clients[action.market, client_id] = order
        need = lots * level.reserved_per_lot
        pays.free -= need
        pays.reserved += need

    def _check_lifetime(
        self, account: Account, action: Place, against: BookSide, limit_key: int, need: int
    ) -> int:
        """The free units that an order needs which is a market order or not GTC.

        `need` is what its price and size come to. A market order that buys needs the price of
        one lot and stops where the money ends; one that must be filled needs what that costs.
        Errors: `InvalidOrder`, `NoLiquidity`, `WouldMatch`, `NotFillable`.
        """
        best, lifetime = against.best, action.lifetime
        if not action.price:
            if lifetime in _RESTING:
                raise InvalidOrder("a market order (price 0) is IOC or FOK; or give it a price")
            if best is None:
                raise NoLiquidity(
                    f"nobody offers in {against.book.symbol} now; place a limit order instead"
                )
            if action.side is _BUY:
                need = best.quote_per_lot
        if lifetime is _POST_ONLY and best is not None and best.key >= limit_key:
            raise WouldMatch(
                f"a post-only order at {action.price} would match at {best.price}; move it away"
            )
        if lifetime is _FOK:
            cost = cost_to_fill(account, against, limit_key, action.size, action.self_trade)
            if cost is None:
                raise NotFillable(
                    f"{action.size} lots cannot be filled at once; make it smaller, or use IOC"
                )
            if action.side is _BUY and not action.price:
                need = cost
        return need

    def _match(
        self, account: Account, action: Place, number: int, against: BookSide, limit_key: int
    ) -> tuple[int, int, str]:
        """Trade an order against the other side: (lots left, its fee carry, why it is closed).

        The reason is empty when the rest may stay. The taker and the fees are settled at the end.
        """
        keys, levels, emit, touch = against.keys, against.levels, self.emit, self.touched.add
        book, side, address = against.book, action.side, account.address
        maker_ppm, taker_ppm, lot_units = book.maker_ppm, book.taker_ppm, book.lot_units
        buying = side is _BUY
        paid_token, got_token = (book.quote, book.base) if buying else (book.base, book.quote)
        funds = None if action.price or not buying else account.wallets[paid_token].free
        left, trade, reason = action.size, book.trades, ""
        paid = got = maker_fees = taker_fees = 0
        carry = _ROUND_UP
        while left and keys:
            level = levels[keys[-1]]
            if level.key < limit_key:
                break
            maker = level.head
            owner = maker.account
            if owner is account:
                reason = self._prevent_self_trade(maker, action.self_trade)
                if reason:
                    break
                continue
            lots = maker.remaining
            if lots > left:
                lots = left
            if funds is not None:
                lots = min(lots, (funds - paid) // level.quote_per_lot)
                if not lots:
                    reason = "unfilled"
                    break
            quote_units, base_units = lots * level.quote_per_lot, lots * lot_units
            if buying:
                pays, gets = quote_units, base_units
            else:
                pays, gets = base_units, quote_units
            carried = maker.carry + pays * maker_ppm
            maker_fee = carried // PPM
            maker.carry = carried - maker_fee * PPM
            carry += gets * taker_ppm
            taker_fee = carry // PPM
            carry -= taker_fee * PPM
            maker.pays.reserved -= gets
            owner.wallets[paid_token].free += pays - maker_fee
            touch(owner)
            left -= lots
            paid += pays
            got += gets
            maker_fees += maker_fee
            taker_fees += taker_fee
            trade += 1
            emit(Filled(book.market, trade, level.price, lots, side, maker.number, owner.address,
                        maker_fee, number, address, taker_fee))  # fmt: skip
            if lots == maker.remaining:
                self._finish(maker)
            else:
                maker.remaining -= lots
                level.quantity -= lots
        if got:
            book.trades = trade
            account.wallets[paid_token].free -= paid
            account.wallets[got_token].free += got - taker_fees
            self._fees.wallets[paid_token].free += maker_fees
            self._fees.wallets[got_token].free += taker_fees
            touch(self._fees)
        return left, carry, reason if left else "filled"

    def _prevent_self_trade(self, resting: Order, mode: SelfTrade) -> str:
        """Keep an order from meeting its own account's: why the incoming one closes, or empty."""
        if mode is not _CANCEL_INCOMING:
            self._remove(resting, "self")
        return "" if mode is _CANCEL_RESTING else "self"

    def _finish(self, order: Order) -> None:
        """Close an order, the head of the best level, whose last lots were just traded."""
        level, account = order.level, order.account
        after = order.next
        level.quantity -= order.remaining
        if after is None:
            level.side.keys.pop()
        else:
            level.head = after
            after.previous = None
        del account.orders[order.number]
        if order.client_id:
            del account.clients[level.side.market, order.client_id]
        self.emit(Closed(order.number, account.address, level.side.market, 0, "filled"))

    def _remove(self, order: Order, reason: str) -> None:
        """Take an open order out of the book and release what it reserved."""
        level, account, remaining = order.level, order.account, order.remaining
        side, before, after = level.side, order.previous, order.next
        level.quantity -= remaining
        if before is None:
            if after is None:
                side.close_level(level)
            else:
                after.previous = None
                level.head = after
        else:
            before.next = after
            if after is None:
                level.tail = before
            else:
                after.previous = before
        side.changes += 1
        units, wallet = remaining * level.reserved_per_lot, order.pays
        wallet.free += units
        wallet.reserved -= units
        del account.orders[order.number]
        if order.client_id:
            del account.clients[side.market, order.client_id]
        self.emit(Closed(order.number, account.address, side.market, remaining, reason))

    def cancel(self, account: Account, action: Cancel) -> None:
        """Cancel one open order by its number.

        From: an envelope of `account` with scope TRADE.
        Effects: `Closed` with reason "cancelled"; its reservation becomes free.
        Errors: `UnknownMarket`, `UnknownOrder`.
        """
        order = account.orders.get(action.order)
        if order is None or order.level.side.market != action.market:
            raise UnknownOrder(
                f"the account has no open order {action.order} in "
                f"{self.book(action.market).symbol}; it may be filled or cancelled already"
            )
        self._remove(order, "cancelled")

    def cancel_client(self, account: Account, action: CancelClient) -> None:
        """Cancel one open order by the client's id; as `cancel`."""
        order = account.clients.get((action.market, action.client_id))
        if order is None:
            raise UnknownOrder(
                f"the account has no open order {action.client_id!r} in "
                f"{self.book(action.market).symbol}; it may be filled or cancelled already"
            )
        self._remove(order, "cancelled")

    def cancel_all(self, account: Account, action: CancelAll) -> None:
        """Cancel the account's open orders in one market or in all, in the order of placement.

        Effects: `Closed` for each of them. Having none is no error.
        Errors: `UnknownMarket`.
        """
        if action.market is not None:
            self.book(action.market)
        for _, order in sorted(account.orders.items()):
            if action.market is None or order.level.side.market == action.market:
                self._remove(order, "cancelled")


def _unknown_market(market: int, books: Sequence[Book]) -> UnknownMarket:
    return UnknownMarket(f"there is no market {market}; markets are 0..{len(books) - 1}")


def _short(account: Account, token: int, need: int) -> InsufficientFunds:
    return InsufficientFunds(
        f"this needs {need} units of token {token}, {account.wallets[token].free} are free; "
        "deposit, or cancel other orders"
    )
