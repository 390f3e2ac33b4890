"""What just happened, for whoever listens: executed blocks and chat messages.

    with feed.subscribe() as updates:
        async for update in updates: ...

A listener that falls `FEED_ITEMS_MAX` updates behind is cut off: its channel ends, and it has
to begin again from a snapshot. The node never waits for a listener.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from chat import Message
from exchange import BlockResult, Event

FEED_ITEMS_MAX = 1_024  # a listener further behind is cut off


@dataclass(frozen=True, slots=True)
class BlockUpdate:
    """A block was executed. `transactions` are the envelope ids of its batch, in sequence."""

    height: int
    cid: bytes
    time_ms: int
    result: BlockResult
    transactions: tuple[bytes, ...]

    @property
    def events(self) -> tuple[Event, ...]:
        return self.result.events


@dataclass(frozen=True, slots=True)
class ChatUpdate:
    """A message became part of a room's history."""

    cid: bytes
    message: Message


Update = BlockUpdate | ChatUpdate


@dataclass(frozen=True)
class FeedStatistics:
    listeners: int
    published: int
    cut_off: int


class Feed:
    """One publisher, any number of listeners."""

    def __init__(self) -> None:
        self._listeners: set[trio.MemorySendChannel[Update]] = set()
        self._published = 0
        self._cut_off = 0

    def publish(self, update: Update) -> None:
        """Hand `update` to every listener; never blocks."""
        self._published += 1
        for channel in list(self._listeners):
            try:
                channel.send_nowait(update)
            except trio.WouldBlock:
                self._cut_off += 1
                self._drop(channel)
            except trio.BrokenResourceError:
                self._drop(channel)

    @contextmanager
    def subscribe(
        self, items_max: float = FEED_ITEMS_MAX
    ) -> Iterator[trio.MemoryReceiveChannel[Update]]:
        """Updates from now on; the channel ends when the listener is cut off."""
        if items_max == math.inf:
            raise ValueError("a listener must be bounded")
        sender, receiver = trio.open_memory_channel[Update](items_max)
        self._listeners.add(sender)
        try:
            with receiver:
                yield receiver
        finally:
            self._drop(sender)

    def statistics(self) -> FeedStatistics:
        return FeedStatistics(len(self._listeners), self._published, self._cut_off)

    def _drop(self, channel: trio.MemorySendChannel[Update]) -> None:
        self._listeners.discard(channel)
        channel.close()
