"""An order book that is too slow to use and too plain to be wrong.

One list of resting orders, searched from start to end each time; whether a fill-or-kill order
fills is found by trying it on a copy. Fees are ceil(received so far) less charged so far.
"""

from copy import deepcopy
from dataclasses import dataclass, field

from exchange.actions import Lifetime, Place, SelfTrade, Side
from exchange.genesis import PPM, Market


class Refusal(Exception):
    """Carries the code of the fault that the engine must raise."""


@dataclass
class Resting:
    number: int
    account: int
    side: Side
    price: int
    size: int
    remaining: int
    client_id: str
    due: int = 0  # received x ppm so far
    charged: int = 0

    def charge(self, units: int, ppm: int) -> int:
        self.due += units * ppm
        fee = -(-self.due // PPM) - self.charged
        self.charged += fee
        return fee


@dataclass
class ReferenceBook:
    market: Market
    funds: list[list[int]]  # by account: base and quote, reservations taken out
    fees: list[int] = field(default_factory=lambda: [0, 0])
    resting: list[Resting] = field(default_factory=list)
    placed: int = 0
    said: list[tuple[object, ...]] = field(default_factory=list)

    def reserved(self, account: int) -> list[int]:
        out = [0, 0]
        for order in self.resting:
            if order.account == account:
                token, units = self._reservation(order)
                out[token] += units
        return out

    def depth(self, side: Side) -> list[tuple[int, int]]:
        levels: dict[int, int] = {}
        for order in self.resting:
            if order.side is side:
                levels[order.price] = levels.get(order.price, 0) + order.remaining
        return sorted(levels.items(), reverse=side is Side.BUY)

    def place(self, account: int, action: Place) -> None:
        market, buying, is_market = self.market, action.side is Side.BUY, not action.price
        own = [order for order in self.resting if order.account == account]
        if action.client_id and any(order.client_id == action.client_id for order in own):
            raise Refusal("E204")
        if is_market and action.lifetime in (Lifetime.GTC, Lifetime.POST_ONLY):
            raise Refusal("E207")
        first = self._best_against(action)
        if is_market and first is None:
            raise Refusal("E209")
        if action.lifetime is Lifetime.POST_ONLY and first is not None:
            raise Refusal("E205")
        need = action.price * action.size * market.tick_units
        if is_market and first is not None:
            need = first.price * market.tick_units
        if action.lifetime is Lifetime.FOK:
            trial = deepcopy(self)
            before = trial.funds[account][1] = 10**15
            order = trial._incoming(account, action)
            trial._match(order, action)
            if order.remaining:
                raise Refusal("E206")
            if is_market:
                need = before - trial.funds[account][1]
        if not buying:
            need = action.size * market.lot_units
        if self.funds[account][1 if buying else 0] < need:
            raise Refusal("E105")
        order = self._incoming(account, action)
        self.placed = order.number
        self.said.append(("placed", order.number, account))
        reason = self._match(order, action)
        if order.remaining and not reason and action.lifetime in (Lifetime.GTC, Lifetime.POST_ONLY):
            self.resting.append(order)
            token, units = self._reservation(order)
            self.funds[account][token] -= units
        elif order.remaining:
            self.said.append(("closed", order.number, order.remaining, reason or "unfilled"))
        else:
            self.said.append(("closed", order.number, 0, "filled"))

    def cancel(self, account: int, number: int) -> None:
        for order in self.resting:
            if order.account == account and order.number == number:
                self._drop(order, "cancelled")
                return
        raise Refusal("E203")

    def cancel_client(self, account: int, client_id: str) -> None:
        for order in self.resting:
            if order.account == account and order.client_id == client_id:
                self.cancel(account, order.number)
                return
        raise Refusal("E203")

    def cancel_all(self, account: int) -> None:
        for order in sorted(self.resting, key=lambda order: order.number):
            if order.account == account:
                self._drop(order, "cancelled")

    def _incoming(self, account: int, action: Place) -> Resting:
        return Resting(
            self.placed + 1,
            account,
            action.side,
            action.price,
            action.size,
            action.size,
            action.client_id,
        )

    def _best_against(self, action: Place) -> Resting | None:
        buying = action.side is Side.BUY
        found = [
            order
            for order in self.resting
            if order.side is not action.side
            and (
                not action.price
                or (order.price <= action.price if buying else order.price >= action.price)
            )
        ]
        sign = 1 if buying else -1
        return min(found, key=lambda order: (sign * order.price, order.number), default=None)

    def _match(self, order: Resting, action: Place) -> str:
        market, wallet, buying = self.market, self.funds[order.account], order.side is Side.BUY
        while order.remaining:
            maker = self._best_against(action)
            if maker is None:
                return ""
            if maker.account == order.account:
                if action.self_trade is not SelfTrade.CANCEL_INCOMING:
                    self._drop(maker, "self")
                if action.self_trade is not SelfTrade.CANCEL_RESTING:
                    return "self"
                continue
            lots, lot_cost = min(order.remaining, maker.remaining), maker.price * market.tick_units
            if buying and not action.price:
                lots = min(lots, wallet[1] // lot_cost)
            if not lots:
                return ""
            base, quote = lots * market.lot_units, lots * lot_cost
            received, paid = (base, quote) if buying else (quote, base)
            taker_fee = order.charge(received, market.taker_ppm)
            maker_fee = maker.charge(paid, market.maker_ppm)
            got, gave = (0, 1) if buying else (1, 0)
            wallet[gave] -= paid
            wallet[got] += received - taker_fee
            self.funds[maker.account][gave] += paid - maker_fee
            self.fees[got] += taker_fee
            self.fees[gave] += maker_fee
            order.remaining -= lots
            maker.remaining -= lots
            self.said.append(
                ("filled", maker.price, lots, maker.number, maker_fee, order.number, taker_fee)
            )
            if not maker.remaining:
                self.resting.remove(maker)
                self.said.append(("closed", maker.number, 0, "filled"))
        return ""

    def _drop(self, order: Resting, reason: str) -> None:
        self.resting.remove(order)
        token, units = self._reservation(order)
        self.funds[order.account][token] += units
        self.said.append(("closed", order.number, order.remaining, reason))

    def _reservation(self, order: Resting) -> tuple[int, int]:
        if order.side is Side.BUY:
            return 1, order.remaining * order.price * self.market.tick_units
        return 0, order.remaining * self.market.lot_units
