"""A client of a node's stream that checks the shape and the number of everything it hears."""

from contextlib import asynccontextmanager

import msgspec
import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from node.api.channels.account import AccountSnapshot, AccountUpdate
from node.api.channels.blocks import BlocksData
from node.api.channels.book import BookData
from node.api.channels.candles import CandlesData
from node.api.channels.chat import ChatData
from node.api.channels.trades import TradesData
from node.api.topics import StreamMessage

WAIT_S = 20
DATA = {
    "book": (BookData, BookData),
    "trades": (TradesData, TradesData),
    "candles": (CandlesData, CandlesData),
    "account": (AccountSnapshot, AccountUpdate),
    "chat": (ChatData, ChatData),
    "blocks": (BlocksData, BlocksData),
}


class Client:
    """One end of a stream."""

    def __init__(self, socket):
        self.socket = socket
        self.sequences = {}

    async def send(self, **request):
        await self.socket.send_message(msgspec.json.encode(request).decode())

    async def hear(self):
        with trio.fail_after(WAIT_S):
            text = await self.socket.get_message()
        message = msgspec.json.decode(text, type=StreamMessage)
        told = msgspec.json.decode(text)
        assert msgspec.json.decode(msgspec.json.encode(message)) == told
        if told["type"] in ("snapshot", "update"):
            self.check(told)
        return told

    def check(self, told):
        names = ("channel", "market", "interval", "account", "room")
        key = tuple(told.get(name) for name in names)
        if told["type"] == "snapshot":
            self.sequences[key] = told["sequence"]
        else:
            self.sequences[key] += 1
            assert told["sequence"] == self.sequences[key]
        shape = DATA[told["channel"]][told["type"] == "update"]
        data = msgspec.convert(told["data"], shape)
        assert msgspec.json.decode(msgspec.json.encode(data)) == told["data"]

    async def ask(self, **request):
        await self.send(**request)
        return await self.hear()

    async def subscribe(self, channel, **fields):
        told = await self.ask(op="subscribe", channel=channel, **fields)
        assert told["type"] == "snapshot", told
        return told

    async def closed(self):
        """The code and reason with which the node closed, after whatever it had still said."""
        with trio.fail_after(WAIT_S):
            while True:
                try:
                    await self.socket.get_message()
                except ConnectionClosed as closed:
                    return closed.reason.code, closed.reason.reason


@asynccontextmanager
async def connected(world):
    async with open_websocket_url(world.url) as socket:
        yield Client(socket)
