"""Channel `trades`: every trade of a market."""

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from exchange.events import Filled
from node.api.channels.quiet import Quiet
from node.api.hub import Change, Publish, Snapshot
from node.api.markets import TradeView, market_id, side_text, trade_view
from node.api.route import Services
from node.api.topics import Topic
from node.feed import BlockUpdate, Update
from storage import Index, TradeRow

SNAPSHOT_TRADES: Final = 100


class TradesData(msgspec.Struct, frozen=True):
    """In a snapshot the newest trades, newest first; in an update the new ones, oldest first."""

    trades: list[TradeView]


class TradesChannel(Quiet):
    def __init__(self, services: Services) -> None:
        self._services = services
        self._genesis = services.node.genesis

    async def snapshot(self, topic: Topic, _publish: Publish) -> Snapshot:
        market = market_id(self._genesis, topic.market or "")
        height, rows = await self._services.read(_newest, self._services.node.index, market)
        return Snapshot(height, TradesData([trade_view(row) for row in rows]))

    def changes(self, update: Update, topics: Collection[Topic]) -> Iterator[Change]:
        if not isinstance(update, BlockUpdate):
            return
        found: dict[int, list[TradeView]] = {}
        for event in update.events:
            if isinstance(event, Filled):
                found.setdefault(event.market, []).append(
                    TradeView(
                        number=event.trade,
                        time_ms=update.time_ms,
                        height=update.height,
                        price=event.price,
                        size=event.size,
                        side=side_text(event.side),
                        maker_order=event.maker,
                        taker_order=event.taker,
                    )
                )
        for market, trades in found.items():
            topic = Topic("trades", market=self._genesis.exchange.markets[market].symbol)
            if topic in topics:
                yield Change(topic, update.height, TradesData(trades))


def _newest(index: Index, market: int) -> tuple[int, list[TradeRow]]:
    """The newest trades up to a height that is read before them."""
    newest = index.newest()
    height = 0 if newest is None else newest.height
    rows = index.trades(market, SNAPSHOT_TRADES)
    return height, [row for row in rows if row.height <= height]
