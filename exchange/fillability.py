"""Whether an order could be filled whole right now, without touching anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.actions import SelfTrade

if TYPE_CHECKING:
    from exchange.accounts import Account
    from exchange.book import BookSide, Order


def cost_to_fill(
    account: Account, against: BookSide, limit_key: int, size: int, self_trade: SelfTrade
) -> int | None:
    """The quote units for which `size` lots trade against `against`, None when they cannot.

    Only levels with a key of at least `limit_key` count. The account's own orders never do:
    with CANCEL_RESTING they are stepped over, in the other modes nothing behind the first of
    them is reached, because meeting it cancels the incoming order. The work is bounded by the
    levels of the side, the account's open orders, and the orders of one level.
    """
    own = [order for order in account.orders.values() if order.level.side is against]
    skipped: dict[int, int] = {}
    stop: Order | None = None
    if self_trade is SelfTrade.CANCEL_RESTING:
        for order in own:
            skipped[order.level.key] = skipped.get(order.level.key, 0) + order.remaining
    elif own:
        stop = min(own, key=lambda order: (-order.level.key, order.number))
    cost, missing = 0, size
    for level in against.from_best():
        if level.key < limit_key:
            return None
        is_last = stop is not None and stop.level is level
        lots = _ahead_of(stop) if is_last and stop else level.quantity - skipped.get(level.key, 0)
        taken = min(lots, missing)
        cost += taken * level.quote_per_lot
        missing -= taken
        if not missing:
            return cost
        if is_last:
            return None
    return None


def _ahead_of(stop: Order) -> int:
    """The lots that match before `stop` at its level."""
    lots = 0
    for order in stop.level.orders():
        if order is stop:
            break
        lots += order.remaining
    return lots
