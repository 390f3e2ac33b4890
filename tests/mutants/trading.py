"""Random orders against the real matching engine, and what must hold of the money.

conservation  what accounts hold is what they began with; nothing is negative; reserved is what
              open orders need
fees          an order pays on all that it received what one large fill would have cost
"""

import random
from collections import defaultdict
from dataclasses import dataclass

import exchange.exchange
from exchange.accounts import Account
from exchange.actions import CancelAll, Lifetime, Place, SelfTrade, Side
from exchange.events import Event, Filled
from exchange.faults import ActionFault
from exchange.genesis import PPM, Market
from tests.mutants.engines import BySeed, Finding

ACTIONS = 200
FUNDS_UNITS = 10**12
MARKET = Market("A-B", 0, 1, 7, 3, 1_300, 1_300)
SOURCE = bytes(32)


@dataclass(frozen=True)
class Trading(BySeed):
    """Four accounts that place and cancel as the seed says; calm, every order fills at once."""

    seed: int = 0

    @property
    def kind(self) -> str:
        return "exchange"

    def run(self) -> Finding | None:
        floor = _Floor()
        dice = random.Random(self.seed)
        for _ in range(ACTIONS):
            account = dice.choice(floor.accounts)
            if dice.random() < 0.1:
                floor.engine.cancel_all(account, CancelAll(None))
            else:
                side, price = dice.choice(list(Side)), dice.randint(95, 105)
                floor.place(account, side, price, dice.randint(1, 40))
        return floor.judge()

    def calm(self) -> Finding | None:
        floor = _Floor()
        for size in range(1, 40):
            floor.place(floor.accounts[0], Side.SELL, 100, size)
            floor.place(floor.accounts[1], Side.BUY, 100, size)
        return floor.judge()


class _Floor:
    """One market and those who trade on it."""

    def __init__(self) -> None:
        self.accounts = [Account(index, bytes([index]) * 20, 2) for index in range(4)]
        for account in self.accounts:
            for wallet in account.wallets:
                wallet.free = FUNDS_UNITS
        self._fees = Account(9, b"f" * 20, 2)
        # The class that the exchange itself would use now.
        self.engine = exchange.exchange.Engine([MARKET], self._fees)
        self._events: list[Event] = []

    def place(self, account: Account, side: Side, price: int, size: int) -> None:
        order = Place(0, side, price, size, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
        try:
            self.engine.place(account, order, SOURCE)
        except ActionFault:
            return
        self._events += self.engine.drain()

    def judge(self) -> Finding | None:
        sentence = self._imbalance()
        if sentence:
            return Finding("conservation", sentence)
        sentence = self._wrong_fee()
        return Finding("fees", sentence) if sentence else None

    def _imbalance(self) -> str:
        for token in range(2):
            wallets = [account.wallets[token] for account in (*self.accounts, self._fees)]
            there = sum(wallet.free + wallet.reserved for wallet in wallets)
            began = FUNDS_UNITS * len(self.accounts)
            if there != began:
                return f"{began} units of token {token} became {there}"
            if any(wallet.free < 0 or wallet.reserved < 0 for wallet in wallets):
                return f"somebody holds less than nothing of token {token}"
        for account in self.accounts:
            needed = [0, 0]
            for order in account.orders.values():
                needed[order.level.side.token] += order.remaining * order.level.reserved_per_lot
            if needed != [wallet.reserved for wallet in account.wallets]:
                return f"account {account.index} should have reserved {needed}"
        return ""

    def _wrong_fee(self) -> str:
        received: dict[int, int] = defaultdict(int)
        paid: dict[int, int] = defaultdict(int)
        for event in self._events:
            if isinstance(event, Filled):
                base, quote = event.size * MARKET.lot_units, event.size * event.price
                quote *= MARKET.tick_units
                buys = event.side is Side.BUY
                received[event.taker] += base if buys else quote
                received[event.maker] += quote if buys else base
                paid[event.taker] += event.taker_fee
                paid[event.maker] += event.maker_fee
        for order, units in received.items():
            due = -(-units * MARKET.taker_ppm // PPM)  # makers pay the same rate here
            if paid[order] != due:
                return f"order {order} paid {paid[order]} on {units} units, {due} are due"
        return ""
