"""Channel `blocks`: every executed block and what became of its transactions."""

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from exchange.events import Rejected
from node.api.blocks import TransactionView, newest_blocks
from node.api.channels.quiet import Quiet
from node.api.hub import Change, Publish, Snapshot
from node.api.route import Services
from node.api.texts import Cid, Hex32, Number, hexed
from node.api.topics import Topic
from node.feed import BlockUpdate, Update
from primitives.cid import to_text

SNAPSHOT_BLOCKS: Final = 10
_TOPIC: Final = Topic("blocks")


class NewBlock(msgspec.Struct, frozen=True, omit_defaults=True):
    """A block; `transactions` only in updates, in sequence."""

    height: Number
    cid: Cid
    time_ms: Number
    root: Hex32
    transactions: list[TransactionView] | msgspec.UnsetType = msgspec.UNSET


class BlocksData(msgspec.Struct, frozen=True):
    """Oldest first."""

    blocks: list[NewBlock]


class BlocksChannel(Quiet):
    def __init__(self, services: Services) -> None:
        self._services = services

    async def snapshot(self, _topic: Topic, _publish: Publish) -> Snapshot:
        rows = await self._services.read(
            newest_blocks, self._services.node.index, None, SNAPSHOT_BLOCKS
        )
        blocks = [
            NewBlock(row.height, to_text(row.block), row.time_ms, hexed(row.root)) for row in rows
        ]
        return Snapshot(rows[-1].height if rows else 0, BlocksData(blocks))

    def changes(self, update: Update, _topics: Collection[Topic]) -> Iterator[Change]:
        if not isinstance(update, BlockUpdate):
            return
        codes = {event.source: event.code for event in update.events if isinstance(event, Rejected)}
        block = NewBlock(
            update.height,
            to_text(update.cid),
            update.time_ms,
            hexed(update.result.root),
            [
                TransactionView(
                    hexed(name),
                    position,
                    "rejected" if name in codes else "executed",
                    codes.get(name, ""),
                )
                for position, name in enumerate(update.transactions)
            ],
        )
        yield Change(_TOPIC, update.height, BlocksData([block]))
