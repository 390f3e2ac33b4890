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
charged before. The engine keeps the difference between the two, the order's *credit*, in
millionths of a unit:

    charged = ceil(received * ppm / PPM)           for all fills so far
    credit  = charged * PPM - received * ppm       0 <= credit < PPM
    fee of the next fill = ceil((units * ppm - credit) / PPM)

which is the difference of the cumulative roundings: many small fills cost what one large fill
costs, and a fee never exceeds what it is taken from. An order that matches at first and rests
later carries its credit along, at each rate for what was received at it.
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
    from exchange.accounts import Account, Wallet

OPEN_ORDERS_PER_ACCOUNT_MAX = 1_000  # an order more that could rest is refused with E208

_ANY_PRICE_KEY = -(2**62)  # below the key of every level: a market order's limit

_BUY, _SELL = Side.BUY, Side.SELL
_GTC, _IOC, _FOK, _POST_ONLY = Lifetime.GTC, Lifetime.IOC, Lifetime.FOK, Lifetime.POST_ONLY
_CANCEL_RESTING, _CANCEL_INCOMING = SelfTrade.CANCEL_RESTING, SelfTrade.CANCEL_INCOMING


class Engine:
    """All books of an exchange. `touched` are the accounts whose state changed since `drain`."""

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

        From: an envelope of `account` with scope TRADE, or the benchmark.
        Checks: market, price and size, funds, client id, open orders, lifetime's own condition.
        Effects: `Placed`, then per trade `Filled`, and `Closed` for each order that ends.
        Errors: `UnknownMarket`, `InvalidOrder`, `InsufficientFunds`, `DuplicateClientId`,
            `TooManyOrders`, `WouldMatch`, `NotFillable`, `NoLiquidity`; then nothing changed.
        """
        try:
            book = self.books[action.market]
        except IndexError:
            raise _unknown_market(action.market, self.books) from None
        price, size, lifetime, client_id = (
            action.price,
            action.size,
            action.lifetime,
            action.client_id,
        )
        if size > book.size_max or price * size > book.notional_max:
            raise InvalidOrder(f"the order is worth more than {AMOUNT_MAX} units; make it smaller")
        if action.side is _BUY:
            own, against, limit_key = book.bids, book.asks, -price
            need = price * size * book.tick_units
        else:
            own, against, limit_key = book.asks, book.bids, price
            need = size * book.lot_units
        if not price:
            limit_key = _ANY_PRICE_KEY
            need = self._check_market_order(action, against, need)
        wallet = account.wallets[own.token]
        if wallet.free < need:
            raise _short(account, own.token, need)
        if client_id and (action.market, client_id) in account.clients:
            raise DuplicateClientId(f"an open order has client id {client_id!r}; choose another")
        keys = against.keys
        crosses = keys and keys[-1] >= limit_key
        if lifetime is _GTC or lifetime is _POST_ONLY:
            if len(account.orders) >= OPEN_ORDERS_PER_ACCOUNT_MAX:
                raise TooManyOrders(
                    f"{OPEN_ORDERS_PER_ACCOUNT_MAX} orders are open; cancel some first"
                )
            if crosses and lifetime is _POST_ONLY:
                raise WouldMatch(
                    f"a post-only order at {price} would match at {abs(keys[-1])}; move it away"
                )
        elif lifetime is _FOK:
            self._check_fill_or_kill(account, action, against, limit_key)
        self.placed = number = self.placed + 1
        self.touched.add(account)
        self.emit(Placed(source, number, account.address, action.market, action.side, price, size,
                         lifetime, client_id))  # fmt: skip
        credit, reason = 0, ""
        if crosses:
            size, credit, reason = self._match(account, action, number, against, limit_key)
        if reason or lifetime is _IOC or lifetime is _FOK:
            self._close(account, action, number, size, reason or "unfilled")
        else:
            self._rest(account, action, number, own, wallet, size, credit)

    def _check_market_order(self, action: Place, against: BookSide, need: int) -> int:
        """What a market order needs at least: the price of one lot, or (a sale) `need` lots.

        Errors: `InvalidOrder`, `NoLiquidity`.
        """
        if action.lifetime is _GTC or action.lifetime is _POST_ONLY:
            raise InvalidOrder("a market order (price 0) must be IOC or FOK; or give it a price")
        best = against.best
        if best is None:
            raise NoLiquidity(
                f"nobody offers in {against.book.symbol} now; place a limit order instead"
            )
        return best.quote_per_lot if action.side is _BUY else need

    def _check_fill_or_kill(
        self, account: Account, action: Place, against: BookSide, limit_key: int
    ) -> None:
        """Errors: `NotFillable`; `InsufficientFunds` for a market order that costs too much."""
        cost = cost_to_fill(account, against, limit_key, action.size, action.self_trade)
        if cost is None:
            raise NotFillable(
                f"{action.size} lots cannot be filled at once; make it smaller, or use IOC"
            )
        quote = against.book.quote
        if action.side is _BUY and account.wallets[quote].free < cost:
            raise _short(account, quote, cost)

    def _match(
        self, account: Account, action: Place, number: int, against: BookSide, limit_key: int
    ) -> tuple[int, int, str]:
        """Trade an order against the other side: (lots left, its fee credit, why it is closed).

        The reason is empty when the rest of the order may stay. Makers are settled trade by
        trade, the taker and the fee account once at the end.
        """
        keys, levels, emit, touch = against.keys, against.levels, self.emit, self.touched.add
        book, side, address = against.book, action.side, account.address
        maker_ppm, taker_ppm, lot_units = book.maker_ppm, book.taker_ppm, book.lot_units
        buying = side is _BUY
        paid_token, got_token = (book.quote, book.base) if buying else (book.base, book.quote)
        funds = None if action.price or not buying else account.wallets[paid_token].free
        left, trade, reason = action.size, book.trades, ""
        credit = paid = got = maker_fees = taker_fees = 0
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
            if buying:
                pays, gets = lots * level.quote_per_lot, lots * lot_units
            else:
                gets, pays = lots * level.quote_per_lot, lots * lot_units
            due = maker.credit - pays * maker_ppm
            maker_fee = -(due // PPM)
            maker.credit = due % PPM
            due = credit - gets * taker_ppm
            taker_fee = -(due // PPM)
            credit = due % PPM
            maker.wallet.reserved -= gets
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
        return left, credit, reason if left else "filled"

    def _prevent_self_trade(self, resting: Order, mode: SelfTrade) -> str:
        """Keep an order from meeting its own account's: why the incoming one closes, or empty."""
        if mode is not _CANCEL_INCOMING:
            self._remove(resting, "self")
        return "" if mode is _CANCEL_RESTING else "self"

    def _close(self, account: Account, action: Place, number: int, left: int, reason: str) -> None:
        """End an incoming order that does not come to rest."""
        if left and action.lifetime is _FOK:
            raise StateCorrupt(f"fill-or-kill order {number} was left with {left} lots")
        self.emit(Closed(number, account.address, action.market, left, reason))

    def _finish(self, order: Order) -> None:
        """Close an order, the head of the best level, whose last lots were just traded."""
        level, account = order.level, order.account
        after = order.next
        if after is None:
            side = level.side
            del side.levels[side.keys.pop()]
        else:
            level.quantity -= order.remaining
            level.head = after
            after.previous = None
        del account.orders[order.number]
        if order.client_id:
            del account.clients[level.side.market, order.client_id]
        self.emit(Closed(order.number, account.address, level.side.market, 0, "filled"))

    def _rest(
        self,
        account: Account,
        action: Place,
        number: int,
        side: BookSide,
        wallet: Wallet,
        lots: int,
        credit: int,
    ) -> None:
        """Put what is left of an order at the end of its price's queue and reserve its funds."""
        key = action.price if action.side is _BUY else -action.price
        level = side.levels.get(key)
        client_id = action.client_id
        if level is None:
            level = side.open_level(key)
            order = Order(number, account, wallet, level, action.size, lots, credit, client_id)
            level.head = order
        else:
            tail = level.tail
            order = Order(
                number, account, wallet, level, action.size, lots, credit, client_id, tail
            )
            tail.next = order
        level.tail = order
        level.quantity += lots
        side.changes += 1
        account.orders[number] = order
        if client_id:
            account.clients[side.market, client_id] = order
        units = lots * level.reserved_per_lot
        wallet.free -= units
        wallet.reserved += units

    def _remove(self, order: Order, reason: str) -> None:
        """Take an open order out of the book and release what it reserved."""
        level, account, remaining = order.level, order.account, order.remaining
        side, before, after = level.side, order.previous, order.next
        level.quantity -= remaining
        if before is None:
            if after is None:
                side.drop(level)
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
        units, wallet = remaining * level.reserved_per_lot, order.wallet
        wallet.free += units
        wallet.reserved -= units
        del account.orders[order.number]
        if order.client_id:
            del account.clients[side.market, order.client_id]
        self.touched.add(account)
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
