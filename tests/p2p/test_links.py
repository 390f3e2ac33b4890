import contextlib

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError

from p2p import Limits, _links, _streams, open_network, parse_address
from p2p.faults import MessageTooLarge
from p2p.frames import FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, encode_frame

PROTOCOL = "/outcry/6e657421/validator/1"


def id_of(network):
    return parse_address(network.address).peer


async def test_five_validators_hear_each_other(open_mesh):
    async with open_mesh(5) as networks:
        for network in networks:
            network.broadcast(7, b"from %d" % network.validator)
        for network in networks:
            others = {other.validator for other in networks if other is not network}
            heard = set()
            with trio.fail_after(15):
                while heard != others:
                    frame = await network.frames.receive()
                    assert frame.messages == [(7, b"from %d" % frame.validator)]
                    heard.add(frame.validator)


async def test_messages_that_wait_leave_in_one_frame_and_in_order(open_mesh, collect):
    async with open_mesh(2) as (first, second):
        frames_before = first.statistics().frames_out
        sent = [(number % 256, b"%d" % number) for number in range(5_000)]
        for kind, payload in sent:
            assert first.send(1, kind, payload)
        assert await collect(second, len(sent)) == sent
        assert first.statistics().frames_out - frames_before <= 5


async def test_a_message_of_the_largest_size_arrives_and_a_larger_one_is_refused(
    open_mesh, collect
):
    async with open_mesh(2) as (first, second):
        payload = bytes(range(256)) * (MESSAGE_BYTES_MAX // 256)
        assert first.send(1, 2, payload)
        assert await collect(second, 1) == [(2, payload)]
        with pytest.raises(MessageTooLarge):
            first.send(1, 2, bytes(MESSAGE_BYTES_MAX + 1))
        with pytest.raises(ValueError, match="kind 256"):
            first.send(1, 256, b"")


async def test_nothing_is_sent_to_who_is_not_connected(make_config):
    async with open_network(make_config(0, validators=2)) as network:
        assert not network.send(1, 1, b"lost")
        assert not network.send(9, 1, b"nobody has this index")
        network.broadcast(1, b"lost too")
        assert network.statistics().dropped == {"not_linked": 2}


async def test_an_upper_layer_that_reads_slowly_slows_the_sender_and_loses_nothing(
    open_mesh, collect, monkeypatch
):
    monkeypatch.setattr(_links, "FRAMES_QUEUE_MAX", 2)
    async with open_mesh(2) as (first, second):
        sent = [(1, number.to_bytes(4, "big") * 4_096) for number in range(300)]
        for kind, payload in sent:
            assert first.send(1, kind, payload)
            await trio.sleep(0.001)
        assert second.statistics().frames_waiting <= 2
        assert await collect(second, len(sent)) == sent


async def test_an_outbox_that_overflows_drops_the_stream_and_recovers(
    open_mesh, until, monkeypatch
):
    monkeypatch.setattr(_links, "FRAMES_QUEUE_MAX", 1)
    limits = Limits(outbox_messages_max=64, outbox_bytes_max=4_000_000)
    async with open_mesh(2, limits=limits) as (first, second):
        # The reader takes nothing, so the windows fill up and then the outbox does.
        with trio.fail_after(15):
            while first.send(1, 1, bytes(500_000)):
                await trio.sleep(0.002)
        assert first.statistics().refused["E511"] == 1
        assert first.statistics().dropped["outbox_full"] > 1
        assert not first.send(1, 1, b"the link is down")
        taken = []

        async def take_all():
            async for frame in second.frames:
                taken.extend(payload for kind, payload in frame.messages if kind == 2)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_all)
            with trio.fail_after(15):
                assert (await first.links.receive()).validator == 1
            assert first.send(1, 2, b"after")
            await until(lambda: taken == [b"after"])
            nursery.cancel_scope.cancel()


async def test_a_validator_stream_of_a_stranger_is_reset_and_counted(
    open_mesh, stock_host, make_seed, until
):
    async with (
        open_mesh(2) as (first, second),
        stock_host(make_seed(9), [first.address]) as stranger,
    ):
        with contextlib.suppress(BaseLibp2pError):
            stream = await stranger.new_stream(id_of(first), [PROTOCOL])
            await stream.write(encode_frame([(1, b"a vote")]))
        await until(lambda: first.statistics().refused.get("E504") == 1)
        status = next(each for each in first.peers() if each.peer_id == str(stranger.get_id()))
        assert status.validator is None
        assert status.refused == {"E504": 1}
        assert status.messages_in == 0
        assert second.send(0, 1, b"still serving")
        with trio.fail_after(15):
            assert (await first.frames.receive()).messages == [(1, b"still serving")]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        ((FRAME_BYTES_MAX + 1).to_bytes(4, "big"), "E501"),
        (b"\x00\x00\x00\x01\x01", "E502"),
        (b"\x00\x00\x00\x06\x01\x00\x00\x00\x09x", "E502"),
        (b"\x00\x00\x00\x09unfinished"[:8], "E509"),
    ],
)
async def test_a_validator_that_breaks_framing_is_reset_and_the_host_goes_on(
    make_config, stock_host, make_seed, until, wire, code
):
    async with (
        open_network(make_config(0, validators=3)) as network,
        stock_host(make_seed(1), [network.address]) as validator,
    ):
        stream = await validator.new_stream(id_of(network), [PROTOCOL])
        await stream.write(encode_frame([(1, b"good")]) + wire)
        if code == "E509":
            await stream.close()
        await until(lambda: network.statistics().refused.get(code) == 1)
        with trio.fail_after(15):
            assert (await network.frames.receive()).messages == [(1, b"good")]
        again = await validator.new_stream(id_of(network), [PROTOCOL])
        await again.write(encode_frame([(2, b"better")]))
        with trio.fail_after(15):
            frame = await network.frames.receive()
        assert (frame.validator, frame.messages) == (1, [(2, b"better")])


async def test_a_validator_that_falls_silent_is_disconnected(
    make_config, stock_host, make_seed, until, monkeypatch
):
    monkeypatch.setattr(_links, "READ_IDLE_MS_MAX", 300)
    async with (
        open_network(make_config(0, validators=2)) as network,
        stock_host(make_seed(1), [network.address]) as validator,
    ):
        stream = await validator.new_stream(id_of(network), [PROTOCOL])
        await stream.write(encode_frame([]))
        await until(lambda: network.statistics().refused.get("E507") == 1)
        await until(lambda: network.statistics().peers_connected == 0)


async def test_heartbeats_keep_an_idle_link_up(open_mesh, monkeypatch):
    monkeypatch.setattr(_links, "READ_IDLE_MS_MAX", 600)
    monkeypatch.setattr(_links, "HEARTBEAT_MS", 100)
    async with open_mesh(2) as (first, second):
        await trio.sleep(1.5)
        for network in (first, second):
            assert network.statistics().refused == {}
            assert network.statistics().frames_in >= 3
            assert network.statistics().messages_in == 0


async def test_a_peer_that_stops_reading_stalls_one_write_only(
    make_config, stock_host, make_seed, until, monkeypatch
):
    monkeypatch.setattr(_streams, "WRITE_MS_MAX", 300)

    async def never_read(_stream):
        await trio.sleep_forever()

    async with (
        open_network(make_config(0, validators=2)) as network,
        stock_host(make_seed(1), []) as validator,
    ):
        validator.set_stream_handler(PROTOCOL, never_read)
        address = parse_address(network.address)
        await validator.get_network().dial_addr(address.transport, address.peer)
        await until(lambda: network.statistics().validators_linked == 1)
        for _ in range(8):
            network.send(1, 1, bytes(4_000_000))
        await until(lambda: network.statistics().refused.get("E510", 0) >= 1)
        assert network.statistics().dropped["link_lost"] >= 1


async def test_a_closed_connection_comes_back_by_itself_with_an_event(open_mesh, collect):
    async with open_mesh(3) as (first, second, third):
        await first.disconnect(second.peer_id)
        with trio.fail_after(15):
            assert (await first.links.receive()).validator == 1
            assert (await second.links.receive()).validator == 0
        assert first.send(1, 1, b"again")
        assert await collect(second, 1) == [(1, b"again")]
        assert first.statistics().validators_linked == 2
        assert third.statistics().validators_linked == 2


async def test_link_events_that_nobody_takes_are_counted_not_waited_for(open_mesh, monkeypatch):
    monkeypatch.setattr(_links, "LINKS_QUEUE_MAX", 0)
    async with open_mesh(2) as (first, _):
        assert first.statistics().links_lost == 1
