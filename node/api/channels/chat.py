"""Channel `chat`: the messages of a room, as they become part of its history."""

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from chat import ChatService, KeptMessage
from node.api.channels.quiet import Quiet
from node.api.chat import MessageView, message_view
from node.api.hub import Change, Publish, Snapshot
from node.api.route import Services
from node.api.topics import Topic
from node.feed import ChatUpdate, Update

SNAPSHOT_MESSAGES: Final = 50


class ChatData(msgspec.Struct, frozen=True):
    """Oldest first."""

    messages: list[MessageView]


class ChatChannel(Quiet):
    def __init__(self, services: Services) -> None:
        self._services = services

    async def snapshot(self, topic: Topic, _publish: Publish) -> Snapshot:
        node = self._services.node
        kept = await self._services.read(_newest, node.chat, topic.room or "")
        data = ChatData([message_view(item) for item in kept])
        return Snapshot(node.exchange.height, data, frozenset(item.cid for item in kept))

    def changes(self, update: Update, topics: Collection[Topic]) -> Iterator[Change]:
        if not isinstance(update, ChatUpdate):
            return
        topic = Topic("chat", room=update.message.room)
        if topic in topics:
            view = message_view(KeptMessage(update.cid, update.message))
            height = self._services.node.exchange.height
            yield Change(topic, height, ChatData([view]), update.cid)


def _newest(chat: ChatService, room: str) -> list[KeptMessage]:
    return chat.history(room, SNAPSHOT_MESSAGES)
