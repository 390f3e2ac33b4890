"""A stream begins with a snapshot, misses nothing, and begins again when something is wrong."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from client import BookDiverged, RefusedByNode, StreamBroken, Viewer
from client.book import BookChange, LocalBook, book_checksum

Serve = Callable[[], Awaitable[Any]]
Levels = list[tuple[int, int]]


def frame(kind: str, sequence: int, data: dict[str, Any], channel: str = "trades") -> Any:
    told = {"type": kind, "channel": channel, "sequence": sequence, "height": 10 + sequence}
    return {**told, "id": None, "data": data}


def book_frame(kind: str, sequence: int, change: tuple[Levels, Levels], whole: Any) -> Any:
    bids, asks = change
    data = {"bids": bids, "asks": asks, "sequence": 70 + sequence}
    return frame(kind, sequence, data | {"checksum": book_checksum(*whole)}, "book")


async def collect(url: str, count: int, channel: str = "trades", **key: str) -> list[Any]:
    found = []
    with trio.fail_after(20):
        async with (
            Viewer.connect(url) as viewer,
            viewer.stream(channel, **key or {"market": "BTC-USD"}) as updates,
        ):
            async for update in updates:
                found.append(update)
                if len(found) == count:
                    break
    return found


async def test_a_snapshot_comes_first_then_every_update(serve_node: Serve) -> None:
    node = await serve_node()
    node.streams = [
        [frame("snapshot", 4, {"a": 1}), frame("update", 5, {}), frame("update", 6, {}), "wait"]
    ]
    found = await collect(node.url, 3)
    assert [(item.is_snapshot, item.sequence) for item in found] == [
        (True, 4),
        (False, 5),
        (False, 6),
    ]
    assert found[0].data == {"a": 1}
    subscribed = {"op": "subscribe", "channel": "trades", "market": "BTC-USD"}
    assert node.subscriptions == [subscribed]


async def test_a_missing_update_leads_to_a_new_snapshot(serve_node: Serve) -> None:
    node = await serve_node()
    node.streams = [
        [frame("snapshot", 0, {}), frame("update", 1, {}), frame("update", 3, {}), "wait"],
        [frame("snapshot", 9, {}), frame("update", 10, {}), "wait"],
    ]
    found = await collect(node.url, 4)
    assert [item.sequence for item in found] == [0, 1, 9, 10]
    assert [item.is_snapshot for item in found] == [True, False, True, False]


async def test_a_lost_connection_is_made_again(serve_node: Serve) -> None:
    node = await serve_node()
    node.streams = [[frame("snapshot", 0, {})], [], [frame("snapshot", 5, {}), "wait"]]
    found = await collect(node.url, 2)
    assert [item.sequence for item in found] == [0, 5]


@pytest.mark.parametrize("garbage", ["{", '{"type": 3}', '"x"'])
async def test_a_frame_that_cannot_be_read_leads_to_a_new_snapshot(
    serve_node: Serve, garbage: str
) -> None:
    node = await serve_node()
    node.streams = [[garbage], [frame("snapshot", 5, {}), "wait"]]
    (found,) = await collect(node.url, 1)
    assert found.sequence == 5


async def test_a_refusal_ends_the_stream_with_the_nodes_code(serve_node: Serve) -> None:
    node = await serve_node()
    error = {"code": "E404", "message": "no such market", "next": "see /v1/markets"}
    node.streams = [[{"type": "error", "id": None, "error": error}, "wait"]]
    with pytest.raises(RefusedByNode, match="no such market") as caught:
        await collect(node.url, 1)
    assert (caught.value.code, caught.value.advice) == ("E404", "see /v1/markets")


async def test_a_node_that_is_too_slow_to_serve_is_tried_again(serve_node: Serve) -> None:
    node = await serve_node()
    error = {"code": "E484", "message": "the node lost updates", "next": "reconnect"}
    node.streams = [[{"type": "error", "id": None, "error": error}], [frame("snapshot", 1, {})]]
    (found,) = await collect(node.url, 1)
    assert found.sequence == 1


async def test_a_stream_that_never_comes_back_ends_with_a_reason(
    serve_node: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.stream.PAUSE_S_MAX", 0.01)
    monkeypatch.setattr("client.stream.PAUSE_S_MIN", 0.01)
    node = await serve_node()
    with pytest.raises(StreamBroken, match="trades stream broke"):
        await collect(node.url, 1)
    assert len(node.subscriptions) == 8


async def test_an_exception_of_the_listener_comes_out_as_itself(serve_node: Serve) -> None:
    node = await serve_node()
    node.streams = [[frame("snapshot", 0, {}), "wait"]]

    async def listen() -> None:
        async with Viewer.connect(node.url) as viewer, viewer.stream("blocks") as updates:
            async for update in updates:
                raise ZeroDivisionError(update)

    with pytest.raises(ZeroDivisionError):
        await listen()


async def test_the_book_is_kept_and_checked(serve_node: Serve) -> None:
    node = await serve_node()
    first: tuple[Levels, Levels] = ([(9, 5), (8, 1)], [(10, 2)])
    second: tuple[Levels, Levels] = ([(9, 4)], [(10, 2), (11, 7)])
    node.streams = [
        [
            book_frame("snapshot", 0, first, first),
            book_frame("update", 1, ([(9, 4), (8, 0)], [(11, 7)]), second),
            "wait",
        ]
    ]
    found = await collect(node.url, 2, "book", market="BTC-USD")
    assert (found[0].book.bids, found[0].book.asks) == first
    assert (found[1].book.bids, found[1].book.asks) == second
    assert found[1].book.sequence == 71


async def test_a_book_that_differs_from_the_nodes_is_thrown_away(serve_node: Serve) -> None:
    node = await serve_node()
    first: tuple[Levels, Levels] = ([(9, 5)], [(10, 2)])
    wrong = book_frame("update", 1, ([(9, 4)], []), first)  # the checksum of another book
    node.streams = [
        [book_frame("snapshot", 0, first, first), wrong, "wait"],
        [book_frame("snapshot", 5, first, first), "wait"],
    ]
    found = await collect(node.url, 2, "book", market="BTC-USD")
    assert [item.sequence for item in found] == [0, 5]
    assert all(item.is_snapshot for item in found)


def test_a_crossed_book_is_never_shown() -> None:
    bids, asks = [(10, 1)], [(10, 1)]
    change = BookChange(1, book_checksum(bids, asks), bids, asks)
    with pytest.raises(BookDiverged, match="snapshot"):
        LocalBook("BTC-USD").begin(change, 1)
