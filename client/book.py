"""A market's book kept up to date from a stream, and checked against the node's checksum.

    book = LocalBook("BTC-USD")
    book.begin(snapshot)
    view = book.change(update)     # raises BookDiverged when it is no longer the node's

The node sends the best levels of each side, then what changed; a size of 0 takes a level away.
"""

from collections.abc import Sequence
from zlib import crc32

import msgspec

from client.faults import BookDiverged
from client.views import BookView

CHECKSUM_LEVELS = 25


class BookChange(msgspec.Struct, frozen=True):
    """Levels as (price in ticks, size in lots), and the book's sequence and checksum after it."""

    sequence: int
    checksum: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


class LocalBook:
    """The best levels of one market, as a stream tells them."""

    def __init__(self, market: str) -> None:
        self._market = market
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}

    def begin(self, snapshot: BookChange, height: int) -> BookView:
        """Forget everything and take a snapshot. Errors: `BookDiverged`."""
        self._bids.clear()
        self._asks.clear()
        return self.change(snapshot, height)

    def change(self, change: BookChange, height: int) -> BookView:
        """The book after a change. Errors: `BookDiverged`; then begin again."""
        _put(self._bids, change.bids)
        _put(self._asks, change.asks)
        bids, asks = sorted(self._bids.items(), reverse=True), sorted(self._asks.items())
        if book_checksum(bids, asks) != change.checksum or _crossed(bids, asks):
            raise BookDiverged(self._market, change.sequence)
        return BookView(self._market, height, change.sequence, change.checksum, bids, asks)


def book_checksum(bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> int:
    """CRC-32 of "price:size,...|price:size,...": the best 25 bids, and the best 25 asks."""
    sides = (
        ",".join(f"{price}:{size}" for price, size in side[:CHECKSUM_LEVELS])
        for side in (bids, asks)
    )
    return crc32("|".join(sides).encode())


def _put(side: dict[int, int], levels: Sequence[tuple[int, int]]) -> None:
    for price, size in levels:
        if size:
            side[price] = size
        else:
            side.pop(price, None)


def _crossed(bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]]) -> bool:
    return bool(bids and asks and bids[0][0] >= asks[0][0])
