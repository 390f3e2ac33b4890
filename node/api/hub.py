"""Spreads what the node publishes to everybody who subscribed: each change is made once.

A subscription joins its topic first and asks for a snapshot then. What is published meanwhile
waits in it; once the snapshot is there, whatever the snapshot covers is dropped, and the rest
follows it. So nothing is missing between a snapshot and its updates, and nothing comes twice.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
import structlog
import trio

from node.api.face import NodeFace
from node.api.faults import FeedLost, TooSlow
from node.api.topics import RequestId, SnapshotMessage, Topic, UpdateMessage
from node.feed import Update
from primitives.faults import RemoteFault

log = structlog.get_logger(__name__)

WAITING_ITEMS_MAX: Final = 512  # changes held back for one snapshot; more: the stream is cut off

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class Snapshot:
    """The state that a subscription begins with.

    Changes up to `height` are part of it, and those whose `name` is in `covers`.
    """

    height: int
    data: Any
    covers: Collection[object] = ()


@dataclass(frozen=True)
class Change:
    """What happened to one topic. With a `name`, not the height but the name says whether a
    snapshot has it."""

    topic: Topic
    height: int
    data: Any
    name: object = None


Publish = Callable[[Change], None]


class Channel(Protocol):
    """One kind of topics. A change's data is encoded once for all subscriptions."""

    async def snapshot(self, topic: Topic, publish: Publish, /) -> Snapshot:
        """The state now. May first publish what others have not heard yet."""

    def changes(self, update: Update, topics: Collection[Topic], /) -> Iterable[Change]:
        """What an update of the node means for those `topics`; must not wait."""

    def left(self, topic: Topic, /) -> None:
        """Nobody is subscribed to `topic` any more."""

    async def run(self, publish: Publish, /) -> None:
        """Work of the channel's own, until cancelled."""


class Listener(Protocol):
    """A stream, as the hub sees it; neither call waits."""

    def offer(self, payload: bytes) -> None: ...

    def end(self, fault: RemoteFault) -> None: ...


@dataclass(eq=False)
class Subscription:
    """One topic of one stream, with the numbers of its messages."""

    topic: Topic
    listener: Listener
    sequence: int = 0
    _snapshot: Snapshot | None = None
    _waiting: list[tuple[Change, msgspec.Raw]] = field(default_factory=list)

    def take(self, change: Change, data: msgspec.Raw) -> None:
        """Hand a change on, or keep it until the snapshot is there."""
        if self._snapshot is not None:
            self._hand_on(self._snapshot, change, data)
        elif len(self._waiting) < WAITING_ITEMS_MAX:
            self._waiting.append((change, data))
        else:
            self.listener.end(TooSlow())

    def begin(self, snapshot: Snapshot, request: RequestId) -> None:
        """Send the snapshot, then what has waited and is not part of it."""
        self._snapshot = snapshot
        self.listener.offer(
            _encode(
                SnapshotMessage(
                    **{"channel": self.topic.channel, **self.topic.fields()},
                    id=request,
                    sequence=self.sequence,
                    height=snapshot.height,
                    data=snapshot.data,
                )
            )
        )
        waiting, self._waiting = self._waiting, []
        for change, data in waiting:
            self._hand_on(snapshot, change, data)

    def _hand_on(self, snapshot: Snapshot, change: Change, data: msgspec.Raw) -> None:
        if change.name in snapshot.covers if change.name else change.height <= snapshot.height:
            return
        self.sequence += 1
        self.listener.offer(
            _encode(
                UpdateMessage(
                    **{"channel": self.topic.channel, **self.topic.fields()},
                    sequence=self.sequence,
                    height=change.height,
                    data=data,
                )
            )
        )


@dataclass(frozen=True)
class HubStatistics:
    """Topics and subscriptions now; changes spread, and feeds lost, since start."""

    topics: int
    subscriptions: int
    changes: int
    feeds_lost: int


class Hub:
    """All topics of a node and who is subscribed to them."""

    def __init__(self, node: NodeFace, channels: Mapping[str, Channel]) -> None:
        self._node = node
        self._channels = channels
        self._topics: dict[str, dict[Topic, set[Subscription]]] = {name: {} for name in channels}
        self._changes = 0
        self._feeds_lost = 0

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Spread the node's updates until cancelled."""
        async with trio.open_nursery() as nursery:
            for channel in self._channels.values():
                nursery.start_soon(channel.run, self.publish)
            first = task_status
            while True:
                with self._node.feed.subscribe() as updates:
                    first.started()
                    first = trio.TASK_STATUS_IGNORED
                    async for update in updates:
                        self._spread(update)
                self._feeds_lost += 1
                log.warning("feed_lost", streams="all of them begin anew")
                for topics in self._topics.values():
                    self._end(topics, FeedLost())

    async def subscribe(self, topic: Topic, listener: Listener, request: RequestId) -> Subscription:
        """Join `topic` and send its snapshot.

        Errors: those of the channel's snapshot; then the listener has not joined.
        """
        channel = self._channels[topic.channel]
        subscription = Subscription(topic, listener)
        self._topics[topic.channel].setdefault(topic, set()).add(subscription)
        try:
            subscription.begin(await channel.snapshot(topic, self.publish), request)
        except BaseException:
            self.leave(subscription)
            raise
        return subscription

    def leave(self, subscription: Subscription) -> None:
        """End a subscription; again: nothing happens."""
        topic = subscription.topic
        members = self._topics[topic.channel].get(topic)
        if members is None:
            return
        members.discard(subscription)
        if not members:
            del self._topics[topic.channel][topic]
            self._channels[topic.channel].left(topic)

    def publish(self, change: Change) -> None:
        """Hand a change to all who are subscribed to its topic."""
        members = self._topics[change.topic.channel].get(change.topic)
        if not members:
            return
        self._changes += 1
        data = msgspec.Raw(_encode(change.data))
        for subscription in list(members):
            subscription.take(change, data)

    def statistics(self) -> HubStatistics:
        topics = [members for group in self._topics.values() for members in group.values()]
        return HubStatistics(len(topics), sum(map(len, topics)), self._changes, self._feeds_lost)

    def _spread(self, update: Update) -> None:
        for name, channel in self._channels.items():
            topics = self._topics[name]
            if not topics:
                continue
            try:
                for change in channel.changes(update, topics.keys()):
                    self.publish(change)
            except Exception:  # guard: a mistake in one channel must not end the node
                log.exception("channel_failed", channel=name)
                self._end(topics, FeedLost())

    def _end(self, topics: Mapping[Topic, set[Subscription]], fault: RemoteFault) -> None:
        for members in list(topics.values()):
            for subscription in list(members):
                subscription.listener.end(fault)
