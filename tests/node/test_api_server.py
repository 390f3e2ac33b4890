"""The server under clients that misbehave: each loses its own connection and nothing else."""

import re
import socket
from contextlib import asynccontextmanager

import anyio
import httpx
import msgspec
import pytest
import trio
from trio_websocket import open_websocket_url

from node.api import connection as connections
from node.api import server as servers
from node.api.connection import Connection
from node.api.server import serve_api
from node.faults import ConfigInvalid
from tests.node.api_world import open_world

WAIT_S = 20
KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
UPGRADE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    + KEY
    + b"\r\n"
)
HEALTH = b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(directory, **api):
    async with open_world(directory, **api) as world, trio.open_nursery() as nursery:
        world.url = await nursery.start(serve_api, world.node, "127.0.0.1", 0)
        world.port = int(world.url.rpartition(":")[2])
        yield world
        nursery.cancel_scope.cancel()


@pytest.fixture
async def world(tmp_path):
    async with serving(tmp_path) as world:
        yield world


@asynccontextmanager
async def dialled(world):
    async with await trio.open_tcp_stream("127.0.0.1", world.port) as stream:
        yield stream


async def rest(stream):
    """Everything until the node closes."""
    data = b""
    with trio.fail_after(WAIT_S):
        try:
            async for chunk in stream:
                data += chunk
        except trio.BrokenResourceError:
            pass
    return data


async def until(stream, end=b"\r\n\r\n"):
    data = b""
    with trio.fail_after(WAIT_S):
        while end not in data:
            chunk = await stream.receive_some(4_096)
            assert chunk, data
            data += chunk
    return data


async def numbers(world):
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as client:
        text = (await client.get("/metrics")).text
    found = re.findall(r"^outcry_api_server_(\w+?)(?:_total)? ([\d.]+)", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


async def healthy(world):
    """The node answers, and nothing went wrong on its side."""
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as client:
        assert (await client.get("/v1/health")).status_code == 200
    assert (await numbers(world))["guarded"] == 0


def frame(opcode, payload, *, mask=True, first=0x80):
    head = bytes([first | opcode])
    bit = 0x80 if mask else 0
    if len(payload) < 126:
        head += bytes([bit | len(payload)])
    elif len(payload) < 65_536:
        head += bytes([bit | 126]) + len(payload).to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + len(payload).to_bytes(8, "big")
    return head + (bytes(4) if mask else b"") + payload


def is_closed(data):
    """Whether all that came are pings and then, if the other side still heard it, a close."""
    data = data.removeprefix(b"\x89\x00")
    return not data or data[0] == 0x88


async def test_bytes_behind_an_upgrade_do_not_disturb_others(world):
    address = world.url.replace("http", "ws") + "/v1/stream"
    async with open_websocket_url(address) as other:
        for trailing in (b"x", b"\x00", b"\xff" * 100, frame(1, b'{"op":"ping"}') + b"\x81"):
            async with dialled(world) as stream:
                await stream.send_all(UPGRADE + trailing)
                assert b" 101 " in await until(stream)
        await other.send_message('{"op": "ping", "id": 1}')
        with trio.fail_after(WAIT_S):
            assert msgspec.json.decode(await other.get_message()) == {"type": "pong", "id": 1}
    await healthy(world)


async def test_a_frame_behind_an_upgrade_is_answered(world):
    async with dialled(world) as stream:
        await stream.send_all(UPGRADE + frame(1, b'{"op":"ping","id":5}'))
        assert b'"id":5' in await until(stream, b"}")


BAD_FRAMES = {
    "not masked": frame(1, b"{}", mask=False),
    "reserved bits": frame(1, b"{}", first=0xF0),
    "unknown opcode": frame(7, b"{}"),
    "not UTF-8": frame(1, b"\xff\xff"),
    "a long ping": frame(9, bytes(200)),
    "a split ping": frame(9, b"", first=0),
    "a continuation of nothing": frame(0, b"{}"),
    "a bad close": frame(8, b"\x00"),
    "a length beyond 2^63": b"\x81\xff" + b"\xff" * 8 + bytes(4),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
async def test_a_bad_frame_ends_only_its_stream(world, name):
    async with dialled(world) as stream:
        await stream.send_all(UPGRADE)
        await until(stream)
        await stream.send_all(BAD_FRAMES[name])
        assert is_closed(await rest(stream))
    await healthy(world)


async def test_who_goes_on_after_an_oversized_message_is_cut_off(world):
    async with dialled(world) as stream:
        await stream.send_all(UPGRADE)
        await until(stream)
        sent = 0
        with trio.fail_after(WAIT_S):
            try:
                await stream.send_all(frame(1, bytes(100_000), first=0))
                while sent < 500_000_000:
                    await stream.send_all(frame(0, bytes(100_000), first=0))
                    sent += 100_000
            except trio.BrokenResourceError:
                pass
        assert sent < 50_000_000
    await healthy(world)


async def test_many_small_fragments_are_one_message_with_one_bound(world):
    async with dialled(world) as stream:
        await stream.send_all(UPGRADE)
        await until(stream)
        fragment = frame(0, bytes(1_000), first=0)
        async with trio.open_nursery() as nursery:

            async def flood():
                try:
                    await stream.send_all(frame(1, b"x", first=0))
                    while True:
                        await stream.send_all(fragment)
                except trio.BrokenResourceError:
                    pass

            nursery.start_soon(flood)
            assert is_closed(await rest(stream))
            nursery.cancel_scope.cancel()
    await healthy(world)


RAW = {
    "nothing known": b"\x00\x01\x02\x03\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c403030000000000000000") + b"\r\n\r\n",
    "no version": b"GET /v1/health\r\n\r\n",
    "a bad version": b"GET /v1/health HTTP/x.y\r\n\r\n",
    "no host": b"GET /v1/health HTTP/1.1\r\n\r\n",
    "a bad header": b"GET /v1/health HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
    "a bad length": b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    "two lengths": b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\n",
    "a bad chunk": b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/json\r\n\r\nzz\r\n",
    "a bad escape": b"GET /v1/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a path that is not UTF-8": b"GET /v1/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "a path upwards": b"GET /v1/../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    "an upgrade without a key": b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\n\r\n",
    "an upgrade elsewhere": UPGRADE.replace(b"/v1/stream", b"/v1/health"),
    "large headers": b"GET /v1/health HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000,
}


@pytest.mark.parametrize("name", RAW)
async def test_bad_http_ends_only_its_connection(world, name):
    async with dialled(world) as stream:
        await stream.send_all(RAW[name])
        answer = await rest(stream)
        assert re.match(rb"HTTP/1\.1 4\d\d ", answer) or not answer
        assert b"Traceback" not in answer
    await healthy(world)


async def test_a_connection_that_fails_here_does_not_end_the_others(world, monkeypatch):
    async def fail(_server):
        raise RuntimeError("planted")

    async with dialled(world) as other:
        await other.send_all(HEALTH)
        await until(other, b"time_ms")
        monkeypatch.setattr(servers.TCPServer, "run", fail)
        async with dialled(world) as stream:
            assert await rest(stream) == b""
        monkeypatch.undo()
        await other.send_all(HEALTH)
        assert b" 200 " in await until(other, b"time_ms")
    assert (await numbers(world))["guarded"] == 1


async def test_only_http_1_is_spoken(world):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    upgrade = b"GET /v1/health HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    upgrade += b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    for opening in (preface + settings, upgrade):
        async with dialled(world) as stream:
            await stream.send_all(opening)
            assert await rest(stream) == b""
    assert (await numbers(world))["accepted"] >= 2
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as client:
        assert (await client.get("/v1/health")).status_code == 200


async def test_headers_that_do_not_end_are_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "IDLE_TIMEOUT_S", 0.2)
    async with serving(tmp_path) as world:
        async with dialled(world) as silent, dialled(world) as slow:
            await slow.send_all(HEALTH[:-2])
            assert await rest(silent) == b""
            assert await rest(slow) == b""
        await healthy(world)


async def test_a_body_that_does_not_end_is_not_waited_for(world, monkeypatch):
    monkeypatch.setattr("node.api.door.BODY_TIMEOUT_S", 0.2)
    async with dialled(world) as stream:
        await stream.send_all(
            b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
        answer = await rest(stream)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"E408" in answer
    await healthy(world)


async def test_an_answer_reaches_a_client_that_still_sends(world):
    size = 8_000_000  # more than the kernel keeps for either side
    head = f"POST /v1/nope HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"
    async with dialled(world) as stream:
        await stream.send_all(head.encode() + bytes(size))
        assert b" 404 " in await until(stream)
        await stream.send_all(HEALTH)
        assert b" 200 " in await until(stream, b"time_ms")


async def test_who_leaves_in_the_middle_is_forgotten(world):
    opened = [
        HEALTH[:10],
        HEALTH,
        UPGRADE,
        UPGRADE + frame(1, b'{"op":"subscribe","channel":"blocks"}'),
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{",
    ]
    for data in opened * 3:
        async with dialled(world) as stream:
            await stream.send_all(data)
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7))
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as client:
        with trio.fail_after(servers.IDLE_TIMEOUT_S / 2):  # well before timers would end them
            while "outcry_api_server_connections 1.0" not in (await client.get("/metrics")).text:
                await trio.sleep(0.05)
    await healthy(world)


async def test_connections_of_one_client_are_bounded(world, monkeypatch):
    monkeypatch.setattr(servers, "CONNECTIONS_PER_CLIENT_MAX", 2)
    async with dialled(world) as first, dialled(world) as second:
        for stream in (first, second):
            await stream.send_all(HEALTH)
            await until(stream, b"}")
        async with dialled(world) as third:
            answer = await rest(third)
        assert answer.startswith(b"HTTP/1.1 503 ")
        body = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])
        assert body["error"]["code"] == "E494"
        await first.send_all(HEALTH)
        assert b"200" in await until(first, b"}")
    monkeypatch.undo()
    assert (await numbers(world))["turned_away"] == 1


async def test_a_client_over_its_allowance_is_told_when_to_come_back(tmp_path):
    async with serving(tmp_path, requests_per_second=3) as world:
        async with httpx.AsyncClient(base_url=world.url, trust_env=False) as client:
            answers = [await client.get("/v1/tokens") for _ in range(10)]
            refused = [item for item in answers if item.status_code == 429]
            assert refused
            assert refused[0].json()["error"]["code"] == "E429"
            assert int(refused[0].headers["retry-after"]) >= 1
            assert refused[0].headers["x-ratelimit-remaining"] == "0"
            # unknown routes and streams count as well
            await client.get("/nope")
        async with dialled(world) as stream:
            statuses = set()
            for _ in range(8):
                async with dialled(world) as other:
                    await other.send_all(UPGRADE)
                    statuses.add((await until(other, b"\r\n"))[9:12])
            assert b"429" in statuses
            await stream.aclose()


async def test_a_client_that_reads_nothing_loses_its_connection():
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    silent = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
    accepted = Connection(await listener.accept(), send_timeout_s=0.2)
    as_the_server_does = trio.CancelScope(shield=True)
    with trio.fail_after(WAIT_S), pytest.raises(anyio.BrokenResourceError), as_the_server_does:
        await accepted.send(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(50_000_000))
    assert accepted.timed_out
    with pytest.raises(anyio.ClosedResourceError):
        await accepted.receive()
    await silent.aclose()
    await listener.aclose()


async def test_a_stop_does_not_wait_for_clients(tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "STOP_GRACE_S", 0.2)
    async with open_world(tmp_path) as world, trio.open_nursery() as outer:
        async with trio.open_nursery() as api:
            url = await api.start(serve_api, world.node, "127.0.0.1", 0)
            world.port = int(url.rpartition(":")[2])
            async with dialled(world) as half, dialled(world) as idle, dialled(world) as stream:
                await half.send_all(HEALTH[:-2])
                await idle.send_all(HEALTH)
                await until(idle, b"}")
                await stream.send_all(UPGRADE)
                await until(stream)
                api.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    assert await rest(idle) == b""
                    assert is_closed(await rest(stream))
        outer.cancel_scope.deadline = trio.current_time() + WAIT_S
    assert servers.STOP_GRACE_S + connections.LINGER_TIMEOUT_S < WAIT_S


async def test_the_port_is_free_again_after_a_stop(tmp_path):
    async with open_world(tmp_path) as world:
        port = 0
        for _ in range(2):
            async with trio.open_nursery() as nursery:
                url = await nursery.start(serve_api, world.node, "127.0.0.1", port)
                port = int(url.rpartition(":")[2])
                nursery.cancel_scope.cancel()


async def test_a_port_in_use_is_a_fault_of_the_configuration(world):
    with pytest.raises(ConfigInvalid, match="cannot listen"):
        await serve_api(world.node, "127.0.0.1", world.port)


async def test_ipv6_is_served(tmp_path):
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return  # a machine without IPv6
    async with open_world(tmp_path) as world, trio.open_nursery() as nursery:
        url = await nursery.start(serve_api, world.node, "::1", 0)
        assert url.startswith("http://[::1]:")
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            assert (await client.get("/v1/health")).status_code == 200
        nursery.cancel_scope.cancel()
