import pytest
import trio

from p2p import Limits, PeerUnreachable, RequestRefused, RequestTimeout, open_network
from p2p import _requests as requests_module
from p2p.faults import NameTaken, ResponseMalformed, ResponseTooLarge
from primitives.faults import LocalFault, RemoteFault

PROTOCOL = "/outcry/6e657421/blocks/1"


class NoSuchBlock(RemoteFault):
    code = "E699"


async def answer(_peer: str, request: bytes) -> bytes:
    if request == b"slow":
        await trio.sleep(30)
    if request == b"none":
        raise NoSuchBlock("no block has this id; ask another peer")
    if request == b"bug":
        raise ZeroDivisionError
    if request == b"local":
        raise LocalFault("the disk is gone")
    if request == b"huge":
        return bytes(5_000)
    return request[::-1]


def serve(network, **changes):
    options = {"request_bytes_max": 2_000_000, "response_bytes_max": 4_000, "per_second": 1_000}
    network.serve("blocks/1", answer, **{**options, **changes})


async def ask(asker, server, payload, *, deadline_ms=10_000, response_bytes_max=4_000_000):
    return await asker.request(
        server.peer_id,
        "blocks/1",
        payload,
        deadline_ms=deadline_ms,
        response_bytes_max=response_bytes_max,
    )


async def test_a_stranger_is_answered(open_mesh):
    async with open_mesh(2, validators=1) as (server, stranger):
        serve(server)
        assert stranger.validator is None
        assert await ask(stranger, server, b"abc") == b"cba"
        assert stranger.statistics().requests.answered == 1
        assert server.statistics().requests.served == 1


async def test_large_requests_and_responses_pass_whole(open_mesh):
    async with open_mesh(2) as (server, asker):
        serve(server, response_bytes_max=2_000_000)
        payload = bytes(range(251)) * 7_900
        assert await ask(asker, server, payload) == payload[::-1]


async def test_a_refusal_carries_the_handlers_code_and_sentence(open_mesh):
    async with open_mesh(2) as (server, asker):
        serve(server)
        with pytest.raises(RequestRefused) as caught:
            await ask(asker, server, b"none")
        assert caught.value.code == "E699"
        assert caught.value.sentence == "no block has this id; ask another peer"
        assert server.statistics().requests.refused == 1
        assert server.statistics().contained == 0


@pytest.mark.parametrize("request_bytes", [b"bug", b"local"])
async def test_a_handler_that_fails_refuses_and_is_contained(open_mesh, request_bytes):
    async with open_mesh(2) as (server, asker):
        serve(server)
        with pytest.raises(RequestRefused) as caught:
            await ask(asker, server, request_bytes)
        assert caught.value.code == "E537"
        assert "disk" not in caught.value.sentence
        assert server.statistics().contained == 1
        assert await ask(asker, server, b"ok") == b"ko"


async def test_a_deadline_ends_the_wait(open_mesh):
    async with open_mesh(2) as (server, asker):
        serve(server)
        with pytest.raises(RequestTimeout):
            await ask(asker, server, b"slow", deadline_ms=200)
        assert asker.statistics().requests.failed == 1
        assert await ask(asker, server, b"ok") == b"ko"


async def test_a_server_gives_up_on_a_request_that_takes_too_long(open_mesh, until, monkeypatch):
    monkeypatch.setattr(requests_module, "SERVE_MS_MAX", 200)
    async with open_mesh(2) as (server, asker):
        serve(server)
        with pytest.raises(PeerUnreachable):
            await ask(asker, server, b"slow")
        await until(lambda: server.statistics().refused.get("E532") == 1)


async def test_sizes_are_bounded_on_both_ends(open_mesh):
    async with open_mesh(2) as (server, asker):
        serve(server, request_bytes_max=100)
        with pytest.raises(RequestRefused) as caught:
            await ask(asker, server, bytes(101))
        assert caught.value.code == "E533"
        assert server.statistics().refused == {"E533": 1}
        with pytest.raises(RequestRefused) as caught:
            await ask(asker, server, b"huge")
        assert caught.value.code == "E534"
        with pytest.raises(ResponseTooLarge):
            await ask(asker, server, bytes(50), response_bytes_max=49)


async def test_a_peer_that_asks_too_often_is_refused_and_counted(open_mesh):
    async with open_mesh(2) as (server, asker):
        serve(server, per_second=1)
        codes = []
        for _ in range(6):
            try:
                await ask(asker, server, b"ok")
            except RequestRefused as fault:
                codes.append(fault.code)
        assert set(codes) == {"E536"}
        assert server.statistics().refused == {"E536": len(codes)}


async def test_a_peer_may_have_only_so_many_requests_under_way(open_mesh):
    async with open_mesh(2, limits=Limits(requests_per_peer_max=2)) as (server, asker):
        serve(server)
        codes = []

        async def one():
            try:
                await ask(asker, server, b"slow", deadline_ms=1_500)
            except (RequestRefused, RequestTimeout) as fault:
                codes.append(fault.code)

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(one)
        assert sorted(codes) == ["E532", "E532", "E536", "E536"]


async def test_who_cannot_be_reached_is_unreachable(open_mesh, make_config):
    async with open_network(make_config(0, validators=2)) as network:
        for peer in (next(iter(network.peers())).peer_id, "12D3KooWnobody"):
            with pytest.raises(PeerUnreachable):
                await network.request(
                    peer, "blocks/1", b"", deadline_ms=1_000, response_bytes_max=1
                )
    async with open_mesh(2) as (server, asker):
        with pytest.raises(PeerUnreachable):
            await ask(asker, server, b"this protocol is not served")


@pytest.mark.parametrize(
    ("reply", "fault"),
    [
        (b"\x07\x00\x00\x00\x00", ResponseMalformed),
        (b"\x00\x00\x00\x00\x09short", PeerUnreachable),
        (b"\x01\xff\xff\xff\xff", ResponseTooLarge),
        (b"\x01\x00\x00\x00\x05\xff\xfe\xfd\xfc\xfb", RequestRefused),
    ],
)
async def test_a_response_that_is_no_response_is_a_fault_of_the_peer(
    make_config, stock_host, make_seed, until, reply, fault
):
    async def respond(stream):
        await stream.write(reply)
        await stream.close()

    async with (
        open_network(make_config(0, validators=1)) as network,
        stock_host(make_seed(9), [network.address]) as liar,
    ):
        liar.set_stream_handler(PROTOCOL, respond)
        await until(lambda: network.statistics().peers_connected == 1)
        with pytest.raises(fault) as caught:
            await network.request(
                str(liar.get_id()), "blocks/1", b"?", deadline_ms=5_000, response_bytes_max=10
            )
        if fault is RequestRefused:
            assert caught.value.code == "E531"


async def test_a_protocol_is_served_once(make_config):
    async with open_network(make_config(0, validators=1)) as network:
        serve(network)
        with pytest.raises(NameTaken):
            serve(network)


async def test_half_open_requests_leave_nothing_behind(
    make_config, stock_host, make_seed, until, monkeypatch
):
    monkeypatch.setattr(requests_module, "SERVE_MS_MAX", 300)
    async with (
        open_network(make_config(0, validators=1)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        serve(network)
        await until(lambda: network.statistics().peers_connected == 1)
        target = next(iter(peer.get_network().connections))
        for wire in (b"", b"\x00\x00\x00\x09half", b"\x00\x00\x00\x02ok"):
            stream = await peer.new_stream(target, [PROTOCOL])
            if wire:
                await stream.write(wire)
        connection = network._swarm.get_connections()[0]
        await until(lambda: len(connection.muxed_conn.streams) <= 1)
