"""Streams: a snapshot, numbered updates without gap or repetition, and clear ends."""

import socket
from contextlib import asynccontextmanager
from zlib import crc32

import msgspec
import pytest
import trio
from trio_websocket import ConnectionRejected, wrap_client_stream

from exchange.actions import CancelAll, Lifetime
from node.api import stream as streams
from node.api.server import serve_api
from node.feed import FEED_ITEMS_MAX, ChatUpdate
from tests.node.api_client import WAIT_S, Client, connected
from tests.node.api_world import MARKET, Trader, buy, open_world, sell, withdraw


@asynccontextmanager
async def serving(directory, **api):
    async with open_world(directory, **api) as world, trio.open_nursery() as nursery:
        url = await nursery.start(serve_api, world.node, "127.0.0.1", 0)
        world.url = url.replace("http://", "ws://") + "/v1/stream"
        yield world
        nursery.cancel_scope.cancel()


@pytest.fixture
async def world(tmp_path):
    async with serving(tmp_path) as world:
        world.alice, world.bob = Trader(1), Trader(2)
        await world.fund(world.alice, world.bob)
        yield world


def checksum(bids, asks):
    sides = (
        ",".join(f"{price}:{size}" for price, size in side[:25])
        for side in (sorted(bids.items(), reverse=True), sorted(asks.items()))
    )
    return crc32("|".join(sides).encode())


class Book:
    """What a client makes of the book channel."""

    def __init__(self, data):
        self.bids, self.asks = {}, {}
        self.apply(data)

    def apply(self, data):
        for side, levels in ((self.bids, data["bids"]), (self.asks, data["asks"])):
            for price, size in levels:
                side[price] = size
                if not size:
                    del side[price]
        assert checksum(self.bids, self.asks) == data["checksum"]

    def equals(self, view):
        return (self.bids, self.asks) == (dict(view.bids), dict(view.asks))


async def test_a_book_follows_the_exchange_by_differences(world):
    async with connected(world) as client:
        await world.do(world.alice, buy(100, 5), buy(99, 1), sell(110, 4))
        told = await client.subscribe("book", market=MARKET, id="b")
        assert (told["id"], told["height"]) == ("b", world.node.exchange.height)
        book = Book(told["data"])
        await world.do(world.bob, sell(100, 2))
        update = await client.hear()
        assert update["data"]["bids"] == [[100, 3]]
        assert update["data"]["asks"] == []
        book.apply(update["data"])
        await world.do(world.alice, CancelAll(0))
        book.apply((await client.hear())["data"])
        assert book.bids == book.asks == {}


async def test_a_block_that_leaves_the_book_alone_brings_no_update(world):
    async with connected(world) as client:
        await client.subscribe("book", market=MARKET)
        await world.do(world.alice, withdraw(0, 1, world.alice.address))
        await world.do(world.alice, buy(100, 1))
        assert (await client.hear())["height"] == world.node.exchange.height


async def test_levels_beyond_the_view_come_in_as_others_go(world):
    async with connected(world) as client:
        for start in (1_000, 1_060):
            await world.do(world.alice, *(buy(start + i, 1) for i in range(60)))
        book = Book((await client.subscribe("book", market=MARKET))["data"])
        assert len(book.bids) == 100
        await world.do(world.bob, *(sell(1_119 - i, 1) for i in range(30)))
        book.apply((await client.hear())["data"])
        assert book.equals(world.node.exchange.book(0, 100))
        assert len(book.bids) == 90


async def test_whoever_joins_later_stands_on_the_same_book(world):
    async with connected(world) as early, connected(world) as late:
        first = Book((await early.subscribe("book", market=MARKET))["data"])
        await world.do(world.alice, buy(100, 5))
        second = Book((await late.subscribe("book", market=MARKET))["data"])
        first.apply((await early.hear())["data"])
        for price in range(101, 105):
            await world.do(world.alice, buy(price, 1))
            first.apply((await early.hear())["data"])
            second.apply((await late.hear())["data"])
            assert (first.bids, first.asks) == (second.bids, second.asks)


async def test_an_update_that_the_snapshot_holds_already_is_not_repeated(world):
    async with connected(world) as client:
        (name,) = await world.submit(world.alice.sign(world.network, buy(100, 5)))
        late = await world.block()  # the feed may come after the state that it tells of
        await client.subscribe("account", account=world.alice.hex)
        await client.subscribe("blocks")
        await client.subscribe("book", market=MARKET)
        await client.subscribe("trades", market=MARKET)
        world.node.feed.publish(late)
        assert late.transactions == (name,)
        await world.do(world.alice, CancelAll(0))
        heard = [await client.hear() for _ in range(3)]
        assert {told["height"] for told in heard} == {late.height + 1}
        assert {told["sequence"] for told in heard} == {1}


async def test_those_who_are_there_catch_up_before_another_joins(world):
    async with connected(world) as early, connected(world) as late:
        first = Book((await early.subscribe("book", market=MARKET))["data"])
        ahead = world.execute_unheard(world.alice.sign(world.network, buy(100, 5)))
        second = Book((await late.subscribe("book", market=MARKET))["data"])
        assert second.bids == {100: 5}
        world.node.feed.publish(ahead)
        first.apply((await early.hear())["data"])
        assert first.bids == {100: 5}
        back = world.execute_unheard(world.alice.sign(world.network, CancelAll(0)))
        world.node.feed.publish(back)
        for client, book in ((early, first), (late, second)):
            book.apply((await client.hear())["data"])
            assert book.bids == {}


async def test_subscribing_while_blocks_come_misses_nothing_and_repeats_nothing(world):
    async with trio.open_nursery() as nursery:
        await world.do(world.alice, *(sell(100 + i, 1) for i in range(60)))
        done = trio.Event()

        async def trade():
            for _ in range(30):
                await world.do(world.bob, buy(200, 1))
            done.set()

        async def follow():
            async with connected(world) as client:
                told = await client.subscribe("trades", market=MARKET)
                numbers = [trade["number"] for trade in reversed(told["data"]["trades"])]
                while not numbers or numbers[-1] < 30:
                    update = await client.hear()
                    numbers += [trade["number"] for trade in update["data"]["trades"]]
            assert numbers == list(range(1, 31))

        nursery.start_soon(trade)
        for _ in range(5):
            nursery.start_soon(follow)
            await trio.sleep(0.02)


async def test_trades_tell_of_each_fill(world):
    async with connected(world) as client:
        await world.do(world.alice, sell(100, 5))
        assert (await client.subscribe("trades", market=MARKET))["data"] == {"trades": []}
        await world.do(world.bob, buy(100, 2), buy(100, 1))
        update = await client.hear()
        assert [(item["number"], item["size"]) for item in update["data"]["trades"]] == [
            (1, 2),
            (2, 1),
        ]
        assert {item["side"] for item in update["data"]["trades"]} == {"buy"}


async def test_candles_are_sent_whole_when_they_change(world):
    async with connected(world) as client:
        await world.do(world.alice, sell(100, 5), sell(101, 5))
        told = await client.subscribe("candles", market=MARKET, interval="1h")
        assert told["data"] == {"candles": []}
        assert told["interval"] == "1h"
        await world.do(world.bob, buy(101, 7))
        update = await client.hear()
        (candle,) = update["data"]["candles"]
        assert (candle["open"], candle["close"], candle["volume"]) == (100, 101, 7)


async def test_an_account_hears_of_its_orders_and_money(world):
    async with connected(world) as client:
        await world.do(world.alice, buy(100, 5, client_id="mine"))
        told = await client.subscribe("account", account=world.alice.hex.upper().replace("X", "x"))
        assert told["account"] == world.alice.hex
        assert told["data"]["account"]["address"] == world.alice.hex
        (order,) = told["data"]["orders"]
        assert (order["client_id"], order["remaining"], order["side"]) == ("mine", 5, "buy")
        await world.do(world.bob, sell(100, 2))
        (filled,) = (await client.hear())["data"]["events"]
        assert (filled["type"], filled["role"], filled["side"], filled["fee"] > 0) == (
            "filled",
            "maker",
            "buy",
            True,
        )
        await world.do(
            world.alice,
            buy(1, 1, lifetime=Lifetime.IOC),
            withdraw(0, 7, world.bob.address),
            withdraw(0, 10**15, world.bob.address),
            CancelAll(None),
        )
        update = (await client.hear())["data"]
        assert [event["type"] for event in update["events"]] == [
            "placed",
            "closed",
            "withdrawn",
            "rejected",
            "closed",
        ]
        assert update["balances"][0]["reserved"] == 0


async def test_an_account_may_be_watched_before_its_first_deposit(world):
    carol = Trader(3)
    async with connected(world) as client:
        told = await client.subscribe("account", account=carol.hex)
        assert told["data"] == {"account": None, "orders": []}
        await world.fund(carol)
        events = (await client.hear())["data"]["events"]
        assert [event["type"] for event in events] == ["deposited"] * 3
        assert [event["type"] for event in (await client.hear())["data"]["events"]] == [
            "authorized"
        ]


async def test_a_room_is_followed(world):
    async with connected(world) as client:
        await world.node.say(world.alice.say(world.network, "before"))
        told = await client.subscribe("chat", room=MARKET)
        assert [item["text"] for item in told["data"]["messages"]] == ["before"]
        await world.node.say(world.bob.say(world.network, "after"))
        (message,) = (await client.hear())["data"]["messages"]
        assert (message["text"], message["account"]) == ("after", world.bob.hex)


async def test_blocks_tell_what_became_of_their_transactions(world):
    async with connected(world) as client:
        told = await client.subscribe("blocks")
        assert told["data"]["blocks"][-1]["height"] == told["height"]
        name = await world.do(world.alice, buy(1, 1))
        (block,) = (await client.hear())["data"]["blocks"]
        assert block["transactions"] == [
            {"id": "0x" + name.hex(), "position": 0, "status": "executed", "code": ""}
        ]


async def test_envelopes_are_taken_over_a_stream(world):
    async with connected(world) as client:
        wires = [world.alice.sign(world.network, buy(1, 1)), b"\x90"]
        envelopes = ["0x" + wire.hex() for wire in wires]
        told = await client.ask(op="submit", envelopes=envelopes, id=7)
        assert (told["type"], told["id"]) == ("receipts", 7)
        first, second = told["results"]
        assert first["receipt"]["height"] == world.node.exchange.height
        assert second["error"]["code"] == "E101"


async def test_an_unsubscribed_channel_is_silent(world):
    async with connected(world) as client:
        await client.subscribe("blocks")
        told = await client.ask(op="unsubscribe", channel="blocks", id=1)
        assert told == {"type": "unsubscribed", "channel": "blocks", "id": 1}
        await world.block()
        assert (await client.ask(op="ping", id="x")) == {"type": "pong", "id": "x"}
        told = await client.ask(op="unsubscribe", channel="blocks")
        assert told["error"]["code"] == "E482"
        await client.subscribe("blocks")


GARBAGE = [
    "",
    "x",
    "null",
    "[]",
    "{}",
    "\x00",
    "1e999",
    "NaN",
    "[" * 50_000,
    '{"op": "nope"}',
    '{"op": "subscribe"}',
    '{"op": "subscribe", "channel": "nope"}',
    '{"op": "subscribe", "channel": "book"}',
    '{"op": "subscribe", "channel": "book", "market": 5}',
    '{"op": "subscribe", "channel": "book", "market": "../../etc"}',
    '{"op": "subscribe", "channel": "book", "market": "BTC-USD", "room": "BTC-USD"}',
    '{"op": "subscribe", "channel": "candles", "market": "BTC-USD", "interval": "2m"}',
    '{"op": "subscribe", "channel": "account", "account": "0x12"}',
    '{"op": "subscribe", "channel": "chat", "room": "NOPE"}',
    '{"op": "subscribe", "channel": "blocks", "more": 1}',
    '{"op": "subscribe", "channel": "blocks", "id": 1.5}',
    '{"op": "subscribe", "channel": "blocks", "id": 99999999999999999999999}',
    '{"op": "unsubscribe", "channel": "account", "account": "0x' + "zz" * 20 + '"}',
    '{"op": "submit", "envelopes": []}',
    '{"op": "submit", "envelopes": ["0xzz"]}',
    '{"op": "submit", "envelopes": [null]}',
    '{"op": "submit", "envelopes": ' + str(["0x00"] * 65).replace("'", '"') + "}",
    '{"op": "ping", "id": "' + "x" * 65 + '"}',
    '{"op": "ping", "id": "\\ud800"}',
]


async def test_garbage_gets_an_error_and_the_stream_goes_on(world):
    async with connected(world) as client:
        for text in GARBAGE:
            await client.socket.send_message(text)
            told = await client.hear()
            assert told["type"] == "error", text
            assert told["error"]["code"] == "E401", text
            assert told["error"]["next"]
            assert (await client.ask(op="ping", id=1))["type"] == "pong"


async def test_an_unknown_market_and_a_second_subscription_are_refused(world):
    async with connected(world) as client:
        told = await client.ask(op="subscribe", channel="book", market="NO-PE", id=3)
        assert (told["id"], told["error"]["code"]) == (3, "E201")
        await client.subscribe("book", market=MARKET)
        told = await client.ask(op="subscribe", channel="book", market=MARKET)
        assert told["error"]["code"] == "E401"


async def test_binary_messages_are_refused(world):
    async with connected(world) as client:
        await client.socket.send_message(b'{"op": "ping"}')
        assert (await client.hear())["error"]["code"] == "E401"
        assert (await client.ask(op="ping"))["type"] == "pong"


async def test_too_many_mistakes_end_a_stream(world):
    async with connected(world) as client:
        for _ in range(streams.FAULTS_MAX):
            await client.socket.send_message("x")
        code, reason = await client.closed()
        assert (code, reason.split(":")[0]) == (4029, "E486")


async def test_messages_that_come_too_fast_are_refused(world, monkeypatch):
    monkeypatch.setattr(streams, "MESSAGES_PER_SECOND_MAX", 3)
    async with connected(world) as client:
        kinds = [(await client.ask(op="ping")).get("error", {}).get("code") for _ in range(8)]
        assert "E429" in kinds


async def test_subscriptions_of_a_stream_are_bounded(world, monkeypatch):
    monkeypatch.setattr(streams, "SUBSCRIPTIONS_MAX", 2)
    async with connected(world) as client:
        await client.subscribe("blocks")
        await client.subscribe("trades", market=MARKET)
        told = await client.ask(op="subscribe", channel="book", market=MARKET)
        assert told["error"]["code"] == "E481"


async def test_streams_of_a_node_are_bounded(world, monkeypatch):
    monkeypatch.setattr(streams, "STREAMS_MAX", 1)
    async with connected(world):
        with pytest.raises(ConnectionRejected) as caught:
            async with connected(world):
                raise AssertionError("a second stream was taken")
    assert caught.value.status_code == 503
    assert msgspec.json.decode(caught.value.body)["error"]["code"] == "E487"


async def test_a_stream_that_wants_nothing_is_closed(world, monkeypatch):
    monkeypatch.setattr(streams, "IDLE_TIMEOUT_S", 0.2)
    async with connected(world) as silent, connected(world) as listening:
        await listening.subscribe("blocks")
        code, reason = await silent.closed()
        assert (code, reason.split(":")[0]) == (4009, "E485")
        await world.block()
        assert (await listening.hear())["type"] == "update"


async def test_an_oversized_message_closes_the_stream_with_1009(world):
    async with connected(world) as client:
        await client.socket.send_message("x" * 300_000)
        assert (await client.closed())[0] == 1009


async def test_submissions_share_the_allowance_of_http(tmp_path):
    async with serving(tmp_path, envelopes_per_second=2) as world, connected(world) as client:
        told = await client.ask(op="submit", envelopes=["0x00"] * 3)
        assert told["error"]["code"] == "E429"
        assert (await client.ask(op="submit", envelopes=["0x00"] * 2))["type"] == "receipts"


async def test_a_stopping_node_says_goodbye(tmp_path):
    async with open_world(tmp_path) as world, trio.open_nursery() as nursery:
        async with trio.open_nursery() as api:
            url = await api.start(serve_api, world.node, "127.0.0.1", 0)
            world.url = url.replace("http://", "ws://") + "/v1/stream"
            closed = []

            async def listen(task_status):
                async with connected(world) as client:
                    await client.subscribe("blocks")
                    task_status.started()
                    closed.append(await client.closed())

            await nursery.start(listen)
            api.cancel_scope.cancel()
        nursery.cancel_scope.deadline = trio.current_time() + WAIT_S
    assert closed[0][0] == 1001


async def test_a_mistake_in_a_channel_ends_its_streams_and_not_the_node(world, monkeypatch):
    async with connected(world) as client, connected(world) as other:
        await client.subscribe("blocks")
        await other.subscribe("trades", market=MARKET)
        monkeypatch.setattr("node.api.channels.blocks.hexed", lambda _data: 1 // 0)
        await world.block()
        assert (await client.closed())[0] == 1013
        monkeypatch.undo()
        await world.do(world.alice, sell(100, 1))
        await world.do(world.bob, buy(100, 1))
        assert (await other.hear())["type"] == "update"


async def test_when_the_feed_is_lost_streams_begin_anew(world):
    await world.node.say(world.alice.say(world.network, "hello"))
    (kept,) = world.node.chat.history(MARKET, 1)
    async with connected(world) as client:
        await client.subscribe("blocks")
        for _ in range(FEED_ITEMS_MAX + 2):  # one is being taken, and one is too many
            world.node.feed.publish(ChatUpdate(kept.cid, kept.message))
        code, reason = await client.closed()
        assert (code, reason.split(":")[0]) == (1013, "E484")
    async with connected(world) as client:
        await client.subscribe("blocks")
        await world.block()
        assert (await client.hear())["type"] == "update"


async def test_a_stream_that_does_not_read_is_cut_off(world, monkeypatch):
    monkeypatch.setattr(streams, "OUTGOING_BYTES_MAX", 300_000)
    port = int(world.url.split(":")[2].partition("/")[0])
    async with connected(world) as reading, trio.open_nursery() as nursery:
        raw = await trio.open_tcp_stream("127.0.0.1", port)
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow = Client(await wrap_client_stream(nursery, raw, "x", "/v1/stream"))
        await slow.subscribe("account", account=world.alice.hex)
        await reading.subscribe("blocks")
        orders = [buy(1, 1, lifetime=Lifetime.IOC) for _ in range(64)]
        for _ in range(80):  # some 20 KB each: more than kernel and queue hold
            await world.do(world.alice, *orders)
            await reading.hear()
        code, reason = await slow.closed()
        assert (code, reason.split(":")[0]) == (4008, "E483")
        await world.block()
        assert (await reading.hear())["type"] == "update"
