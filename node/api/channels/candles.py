"""Channel `candles`: the candles of a market that change, whole.

A candle is read from the index after a block with trades has changed it. Blocks that come faster
than candles are read share one reading: what counts is the candle's newest state.
"""

from collections.abc import Collection, Iterable
from typing import Final

import msgspec
import structlog
import trio

from exchange.events import Filled
from node.api.hub import Change, Publish, Snapshot
from node.api.markets import CandleView, candle_view, market_id, newest_candles
from node.api.route import Services
from node.api.topics import Topic
from node.feed import BlockUpdate, Update
from primitives.faults import RemoteFault
from storage import CandleRow, Index

log = structlog.get_logger(__name__)

SNAPSHOT_CANDLES: Final = 100
CHANGED_CANDLES: Final = 2  # the present one, and the one before when a block ended it
REFRESH_INTERVAL_MS: Final = 100  # between two readings


class CandlesData(msgspec.Struct, frozen=True):
    """Oldest first. In an update the last ones, to replace those with the same start."""

    candles: list[CandleView]


class CandlesChannel:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._genesis = services.node.genesis
        self._changed: set[Topic] = set()
        self._wake = trio.Event()

    async def snapshot(self, topic: Topic, _publish: Publish) -> Snapshot:
        height, data = await self._read(topic, SNAPSHOT_CANDLES)
        return Snapshot(height, data)

    def changes(self, update: Update, topics: Collection[Topic]) -> Iterable[Change]:
        if isinstance(update, BlockUpdate):
            markets = {event.market for event in update.events if isinstance(event, Filled)}
            symbols = {self._genesis.exchange.markets[market].symbol for market in markets}
            self._changed |= {topic for topic in topics if topic.market in symbols}
            if self._changed:
                self._wake.set()
        return ()

    def left(self, topic: Topic) -> None:
        self._changed.discard(topic)

    async def run(self, publish: Publish) -> None:
        """Read what changed and publish it, for ever; a reading that fails is made again."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            changed, self._changed = self._changed, set()
            for topic in changed:
                try:
                    height, data = await self._read(topic, CHANGED_CANDLES)
                except RemoteFault as fault:
                    log.warning("candles_unread", code=fault.code, market=topic.market)
                    self._changed.add(topic)
                    self._wake.set()
                    continue
                publish(Change(topic, height, data))
            await trio.sleep(REFRESH_INTERVAL_MS / 1_000)

    async def _read(self, topic: Topic, count: int) -> tuple[int, CandlesData]:
        market = market_id(self._genesis, topic.market or "")
        height, rows = await self._services.read(
            _newest, self._services.node.index, market, topic.interval or "", count
        )
        return height, CandlesData([candle_view(row) for row in rows])


def _newest(index: Index, market: int, interval: str, count: int) -> tuple[int, list[CandleRow]]:
    """The newest candles, at least as new as the height that is read before them."""
    newest = index.newest()
    if newest is None:
        return 0, []
    return newest.height, newest_candles(index, market, interval, newest.time_ms + 1, count)
