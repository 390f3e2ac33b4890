"""Engines from PyPI, each driven through its own public API.

A driver takes the messages block by block. `apply` is timed; `collect`, which is not, says what
came out of the block and lets go of it, as a node does with its events: no engine is charged
for keeping a history. Prices and sizes are plain integers wherever a peer accepts them, which
is its fastest way.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from cython_orderbook.orderbook import Order as CythonOrder
from cython_orderbook.orderbook import OrderBook, OrderSide
from lightmatchingengine.lightmatchingengine import LightMatchingEngine
from pyorderbook import Book, ask, bid

from benchmarks.workload import Message

_BUY = 1
_SYMBOL = "BASE"


class Driver(Protocol):
    """One fresh engine."""

    def apply(self, block: Sequence[Message]) -> None:
        """Carry out the messages of a block, in order."""

    def collect(self) -> tuple[int, int]:
        """The trades and the lots traded since the last call."""


class CythonOrderbook:
    """cython-orderbook: Cython, SortedDict levels, one OrderedDict per level."""

    def __init__(self) -> None:
        self._book = OrderBook()
        self._ids: dict[int, str] = {}

    def apply(self, block: Sequence[Message]) -> None:
        add, cancel, ids = self._book.add_limit_order, self._book.cancel_order, self._ids
        bids, asks = OrderSide.BID, OrderSide.ASK
        for number, _, side, price, size in block:
            if side:
                order = CythonOrder(bids if side == _BUY else asks, size, price)
                ids[number] = order.order_id
                add(order)
            else:
                cancel(ids[number])

    def collect(self) -> tuple[int, int]:
        log = self._book.trade_log
        found = len(log), sum(trade.quantity_filled for trade in log)
        log.clear()
        return found


class Light:
    """lightmatchingengine: pure Python, a dict of lists; the best price by min() or max()."""

    def __init__(self) -> None:
        self._engine: Any = LightMatchingEngine()  # type: ignore[no-untyped-call]
        self._log: list[list[Any]] = []

    def apply(self, block: Sequence[Message]) -> None:
        add, cancel, log = self._engine.add_order, self._engine.cancel_order, self._log
        for number, _, side, price, size in block:
            if side:
                _, trades = add(_SYMBOL, price, size, side)
                if trades:
                    log.append(trades)
            else:
                cancel(number, _SYMBOL)

    def collect(self) -> tuple[int, int]:
        # Each level's total for the incoming order comes first, then each resting order's part.
        parts = [t.trade_qty for ts in self._log for t in ts if t.order_id != ts[0].order_id]
        self._log.clear()
        return len(parts), sum(parts)


class PyOrderbook:
    """pyorderbook: pure Python, heaps of levels, decimal prices, UUIDs."""

    def __init__(self) -> None:
        self._book = Book()
        self._orders: dict[int, Any] = {}
        self._log: list[Any] = []

    def apply(self, block: Sequence[Message]) -> None:
        match, cancel, orders, log = self._book.match, self._book.cancel, self._orders, self._log
        for number, _, side, price, size in block:
            if side:
                order = orders[number] = (bid if side == _BUY else ask)(_SYMBOL, price, size)
                log.append(match(order))
            else:
                cancel(orders[number])

    def collect(self) -> tuple[int, int]:
        parts = [trade.fill_quantity for blotter in self._log for trade in blotter.trades]
        self._log.clear()
        return len(parts), sum(parts)


PEERS: dict[str, Callable[[], Driver]] = {
    "cython-orderbook": CythonOrderbook,
    "lightmatchingengine": Light,
    "pyorderbook": PyOrderbook,
}
