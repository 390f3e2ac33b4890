"""Channel `book`: the best levels of a market, as differences between executed blocks.

All subscriptions of a market share one *base*: the book that they were told last. A change is
the difference between the base and the book now, and the book now becomes the base. Whoever
joins makes the others catch up first, so that all stand on the same base.
"""

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from exchange import BookView as Book
from node.api.channels.quiet import Quiet
from node.api.face import NodeFace
from node.api.hub import Change, Publish, Snapshot
from node.api.markets import Level, market_id
from node.api.texts import Number
from node.api.topics import Topic
from node.feed import BlockUpdate, Update

STREAM_LEVELS: Final = 100  # of each side; deeper ones come into view as others go


class BookData(msgspec.Struct, frozen=True):
    """[price in ticks, quantity in lots]; in an update only what changed, 0 for a level gone.

    `sequence` and `checksum` are the book's own, after the change.
    """

    sequence: Number
    checksum: Number
    bids: list[Level]
    asks: list[Level]


class BookChannel(Quiet):
    def __init__(self, node: NodeFace) -> None:
        self._node = node
        self._bases: dict[Topic, tuple[int, Book]] = {}

    async def snapshot(self, topic: Topic, publish: Publish) -> Snapshot:
        change = self._advance(topic) if topic in self._bases else None
        if change is not None:
            publish(change)
        height, book = self._bases[topic] = (self._node.exchange.height, self._book(topic))
        return Snapshot(height, _data(book, book.bids, book.asks))

    def changes(self, update: Update, topics: Collection[Topic]) -> Iterator[Change]:
        if not isinstance(update, BlockUpdate):
            return
        for topic in topics:
            change = self._advance(topic) if topic in self._bases else None
            if change is not None:
                yield change

    def left(self, topic: Topic) -> None:
        self._bases.pop(topic, None)

    def _advance(self, topic: Topic) -> Change | None:
        """Move a base to the book as it is now; None when nothing is different."""
        before_height, before = self._bases[topic]
        height = self._node.exchange.height
        if height == before_height:
            return None
        book = self._book(topic)
        self._bases[topic] = (height, book)
        if book.sequence == before.sequence:
            return None
        bids, asks = _difference(before.bids, book.bids), _difference(before.asks, book.asks)
        return Change(topic, height, _data(book, bids, asks))

    def _book(self, topic: Topic) -> Book:
        market = market_id(self._node.genesis, topic.market or "")
        return self._node.exchange.book(market, STREAM_LEVELS)


def _data(book: Book, bids: list[Level], asks: list[Level]) -> BookData:
    return BookData(book.sequence, book.checksum, bids, asks)


def _difference(before: list[Level], now: list[Level]) -> list[Level]:
    """Levels that are new or have another quantity, then those gone with quantity 0."""
    known, found = dict(before), dict(now)
    changed = [level for level in now if known.get(level[0]) != level[1]]
    return changed + [(price, 0) for price in known if price not in found]
