"""Seeded order flow for matching engines, the same for every engine that is measured.

    workload = generate("mixed", messages=200_000, seed=7)

mixed     adds around a slowly drifting mid price, exponentially thinner away from it; 45% of the
          messages cancel a random live order; 10% cross the spread, some of them deep
crossing  limit orders uniformly within 10 ticks of a fixed mid price: nearly every one trades

No order ever meets one of its own account, because the peers know no accounts: so all engines
must come to the same trades. Our own engine tells which orders are live while generating.
"""

import random
from dataclasses import dataclass
from typing import Literal

from exchange.accounts import Account
from exchange.actions import Cancel, Lifetime, Place, SelfTrade, Side
from exchange.engine import Engine
from exchange.events import Closed, Filled
from exchange.genesis import Market

Flow = Literal["mixed", "crossing"]
Message = tuple[int, int, int, int, int]  # order, account, side (0: cancel), price, size

ACCOUNTS = 1_000
FUNDS_UNITS = 10**15  # of each token, for each account
MARKET = Market("BASE-QUOTE", 0, 1, 1, 1, 100, 500)
CANCEL = 0

_MID_TICKS = 100_000
_BAND_TICKS = 10
_DRIFT_SHARE = 0.02
_CANCEL_SHARE = 0.45
_AGGRESSIVE_SHARE = 0.10
_LIVE_MIN = 1_500  # fewer live orders: add instead of cancelling
_DISTANCE_TICKS_MEAN = 12
_SWEEP_SHARE = 0.03
_SOURCE = bytes(32)


@dataclass(frozen=True)
class Workload:
    """The messages, and what every engine must make of them."""

    name: str
    messages: list[Message]
    fills: int
    volume: int
    resting: int


def generate(flow: Flow, *, messages: int, seed: int) -> Workload:
    """The same workload for the same arguments, on every machine."""
    return _Generator(flow, seed).run(messages)


def funded_accounts() -> list[Account]:
    """Accounts that own more than any workload can spend."""
    accounts = [Account(index, index.to_bytes(20, "big"), 2) for index in range(ACCOUNTS + 1)]
    for account in accounts:
        for wallet in account.wallets:
            wallet.free = FUNDS_UNITS
    return accounts


class _Generator:
    def __init__(self, flow: Flow, seed: int) -> None:
        self._flow = flow
        self._random = random.Random(seed)
        self._accounts = funded_accounts()
        self._engine = Engine([MARKET], self._accounts[-1])
        self._mid = _MID_TICKS
        self._owner: dict[int, int] = {}
        self._live: list[int] = []
        self._place_of: dict[int, int] = {}  # order -> its position in `_live`
        self._out: list[Message] = []
        self._fills = 0
        self._volume = 0

    def run(self, messages: int) -> Workload:
        step = self._mixed if self._flow == "mixed" else self._crossing
        while len(self._out) < messages:
            step()
        return Workload(self._flow, self._out, self._fills, self._volume, len(self._live))

    def _crossing(self) -> None:
        offset = self._random.randint(-_BAND_TICKS, _BAND_TICKS)
        self._add(self._side(), _MID_TICKS + offset, self._random.randint(1, 20))

    def _mixed(self) -> None:
        source = self._random
        if source.random() < _DRIFT_SHARE:
            self._mid += source.choice((-1, 1))
        kind = source.random()
        if kind < _AGGRESSIVE_SHARE:
            self._cross_spread()
        elif kind < _AGGRESSIVE_SHARE + _CANCEL_SHARE and len(self._live) >= _LIVE_MIN:
            self._cancel(source.choice(self._live))
        else:
            side = self._side()
            distance = 1 + int(source.expovariate(1 / _DISTANCE_TICKS_MEAN))
            price = self._mid - distance if side is Side.BUY else self._mid + distance
            self._add(side, price, source.randint(1, 20))

    def _cross_spread(self) -> None:
        source, side = self._random, self._side()
        book = self._engine.books[0]
        best = (book.asks if side is Side.BUY else book.bids).best
        through = source.randint(0, 4)
        price = self._mid if best is None else best.price
        price += through if side is Side.BUY else -through
        size = 1 + int(source.expovariate(1 / 7))
        self._add(side, price, size * 10 if source.random() < _SWEEP_SHARE else size)

    def _side(self) -> Side:
        return Side.BUY if self._random.getrandbits(1) else Side.SELL

    def _add(self, side: Side, price: int, size: int) -> None:
        number = self._engine.placed + 1
        account = self._random.randrange(ACCOUNTS)
        met = self._owners_met(side, price, size)
        while account in met:
            account = self._random.randrange(ACCOUNTS)
        action = Place(0, side, price, size, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
        self._engine.place(self._accounts[account], action, _SOURCE)
        self._out.append((number, account, int(side), price, size))
        self._owner[number] = account
        self._place_of[number] = len(self._live)
        self._live.append(number)
        self._absorb()

    def _cancel(self, number: int) -> None:
        account = self._owner[number]
        self._engine.cancel(self._accounts[account], Cancel(0, number))
        self._out.append((number, account, CANCEL, 0, 0))
        self._absorb()

    def _absorb(self) -> None:
        for event in self._engine.drain():
            if isinstance(event, Closed):
                position, last = self._place_of.pop(event.order), self._live.pop()
                if last != event.order:
                    self._live[position] = last
                    self._place_of[last] = position
            elif isinstance(event, Filled):
                self._fills += 1
                self._volume += event.size

    def _owners_met(self, side: Side, price: int, size: int) -> set[int]:
        """The accounts whose resting orders such an order would trade with."""
        book, met = self._engine.books[0], set[int]()
        against, limit_key = (book.asks, -price) if side is Side.BUY else (book.bids, price)
        for level in against.from_best():
            if level.key < limit_key:
                break
            for order in level.orders():
                if size <= 0:
                    return met
                met.add(order.account.index)
                size -= order.remaining
        return met
