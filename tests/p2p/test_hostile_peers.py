import contextlib
import secrets
import socket
import struct

import pytest
import trio
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport

from p2p import Limits, PeerUnreachable, _guard, open_network, parse_address
from p2p._dialler import DIAL_MS_MAX
from p2p.faults import AddressMalformed, HostFailed, ListenFailed
from p2p.frames import encode_frame

VALIDATOR = "/outcry/6e657421/validator/1"
RAISES = TProtocol("/test/raises/1")


def port_of(network):
    return int(parse_address(network.address).transport.value_for_protocol("tcp"))


def id_of(network):
    return parse_address(network.address).peer


async def assert_serving(network, stock_host, seed):
    """A fresh peer that follows the rules is served."""
    async with stock_host(seed, [network.address]) as host:
        stream = await host.new_stream(id_of(network), [VALIDATOR])
        await stream.write(encode_frame([(1, b"hello")]))
        with trio.fail_after(15):
            assert (await network.frames.receive()).messages == [(1, b"hello")]


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x00" * 64,
        secrets.token_bytes(4_096),
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x13/multistream/1.0.0\n\x07/noise\n" + b"\x00\x20" + secrets.token_bytes(32),
        b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff" + secrets.token_bytes(200),
        b"\x80" * 50,
    ],
    ids=["nothing", "zeros", "noise", "http", "handshake", "long handshake", "varints"],
)
async def test_raw_garbage_on_the_port_changes_nothing(make_config, stock_host, make_seed, garbage):
    async with open_network(make_config(0, validators=2)) as network:
        for _ in range(3):
            stream = await trio.open_tcp_stream("127.0.0.1", port_of(network))
            async with stream:
                await stream.send_all(garbage) if garbage else None
                with trio.move_on_after(0.05):
                    await stream.receive_some(65_536)
        await assert_serving(network, stock_host, make_seed(1))
        assert network.statistics().contained == 0


async def test_who_only_claims_a_validators_peer_id_is_not_let_in(
    make_config, stock_host, make_seed
):
    """Plaintext libp2p sends a public key and proves nothing."""
    keys = create_new_key_pair(make_seed(1))
    claims = {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(keys)}
    async with open_network(make_config(0, validators=2)) as network:
        with pytest.raises(BaseExceptionGroup) as caught:
            async with stock_host(make_seed(1), [network.address], sec_opt=claims):
                pass
        assert "security" in repr(caught.value)
        assert network.statistics().peers_connected == 0
        await assert_serving(network, stock_host, make_seed(1))


async def test_a_handler_that_raises_is_contained(make_config, stock_host, make_seed, until):
    async def handler(_stream):
        raise ZeroDivisionError

    async with (
        open_network(make_config(0, validators=2)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        network._host.set_stream_handler(RAISES, handler)
        with contextlib.suppress(BaseLibp2pError):
            await peer.new_stream(id_of(network), [RAISES])
        await until(lambda: network.statistics().contained == 1)
        assert network.statistics().refused == {"E509": 1}
        await assert_serving(network, stock_host, make_seed(1))


@pytest.mark.parametrize(
    "frame",
    [
        b"\x09" * 12,
        struct.pack("!BBHII", 0, 0, 0, 999, 0xFFFFFFFF),
        struct.pack("!BBHII", 0, 1, 1, 2, 0xFFFFFFFF) * 3,
        struct.pack("!BBHII", 0, 3, 0, 0, 7),
        secrets.token_bytes(300),
    ],
)
async def test_garbage_inside_the_encrypted_connection_ends_that_connection_at_most(
    make_config, stock_host, make_seed, frame
):
    async with open_network(make_config(0, validators=2)) as network:
        async with stock_host(make_seed(9), [network.address]) as peer:
            connection = peer.get_network().get_connections()[0]
            await connection.muxed_conn.secured_conn.write(frame)
            await trio.sleep(0.05)
        await assert_serving(network, stock_host, make_seed(1))


async def test_a_peer_that_opens_too_many_streams_is_refused_the_rest(
    make_config, stock_host, make_seed, until
):
    limits = Limits(streams_per_peer_max=4)
    async with (
        open_network(make_config(0, validators=2, limits=limits)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        for _ in range(7):
            await peer.get_network().new_stream(id_of(network))
        await until(lambda: network.statistics().refused.get("E505", 0) >= 3)
        await assert_serving(network, stock_host, make_seed(1))


async def test_a_peer_that_opens_streams_too_fast_is_refused_the_rest(
    make_config, stock_host, make_seed, until
):
    limits = Limits(streams_per_second=2)
    async with (
        open_network(make_config(0, validators=2, limits=limits)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        for _ in range(20):
            stream = await peer.get_network().new_stream(id_of(network))
            await stream.reset()
        await until(lambda: network.statistics().refused.get("E505", 0) >= 10)


async def test_a_peer_that_ignores_flow_control_is_disconnected(
    make_config, stock_host, make_seed, until, monkeypatch
):
    monkeypatch.setattr(_guard, "BUFFERED_BYTES_MAX", 1_000_000)

    async def never_read(_stream):
        await trio.sleep_forever()

    async with (
        open_network(make_config(0, validators=2)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        network._host.set_stream_handler(RAISES, never_read)
        stream = await peer.new_stream(id_of(network), [RAISES])
        stream.muxed_stream.send_window = 1 << 31
        await stream.write(bytes(1_500_000))
        await until(lambda: network.statistics().refused == {"E506": 1})
        await until(lambda: network.statistics().peers_connected == 0)


async def test_a_peer_that_is_gone_without_a_word_is_disconnected(
    make_config, stock_host, make_seed, until, monkeypatch
):
    monkeypatch.setattr(_guard, "PING_MS_MAX", 1_000)

    async def never_write(_frame):
        await trio.sleep_forever()

    async with (
        open_network(make_config(0, validators=2)) as network,
        stock_host(make_seed(8), [network.address]),
        stock_host(make_seed(9), [network.address]) as gone,
    ):
        gone.get_network().get_connections()[0].muxed_conn._write_frame = never_write
        await until(lambda: network.statistics().refused == {"E507": 1})
        await until(lambda: network.statistics().peers_connected == 1)


async def test_strangers_leave_room_for_validators(make_config, stock_host, make_seed, until):
    limits = Limits(strangers_max=1)
    async with (
        open_network(make_config(0, validators=2, limits=limits)) as network,
        stock_host(make_seed(8), [network.address]),
        stock_host(make_seed(9), [network.address]),
    ):
        await until(lambda: network.statistics().refused == {"E508": 1})
        await until(lambda: network.statistics().peers_connected == 1)
        await assert_serving(network, stock_host, make_seed(1))


async def test_the_slot_of_an_inbound_connection_is_free_after_its_end(
    make_config, stock_host, make_seed, until
):
    limits = Limits(connections_max=3)
    async with open_network(make_config(0, validators=2, limits=limits)) as network:
        for _ in range(8):
            async with stock_host(make_seed(9), [network.address]):
                await until(lambda: network.statistics().peers_connected == 1)
            await until(lambda: network.statistics().peers_connected == 0)
        await assert_serving(network, stock_host, make_seed(1))


async def test_a_silent_address_costs_a_deadline_and_no_more(make_config, monkeypatch):
    monkeypatch.setattr("p2p._dialler.DIAL_MS_MAX", 200)
    assert DIAL_MS_MAX == 5_000
    silent = socket.create_server(("127.0.0.1", 0))
    with silent:
        peer = make_config(5, validators=1)
        async with (
            open_network(make_config(0, validators=2)) as network,
            open_network(peer) as other,
        ):
            dead = f"/ip4/127.0.0.1/tcp/{silent.getsockname()[1]}/p2p/{other.peer_id}"
            with pytest.raises(PeerUnreachable):
                await network.connect(dead)
            assert network.statistics().dials_failed >= 1
            await network.connect(other.address)
            assert network.statistics().peers_connected == 1


async def test_an_address_where_another_peer_answers_is_unreachable(make_config):
    async with (
        open_network(make_config(0, validators=1)) as network,
        open_network(make_config(5, validators=1)) as other,
    ):
        elsewhere = f"/ip4/127.0.0.1/tcp/{port_of(other)}/p2p/{network.peer_id}"
        async with open_network(make_config(6, validators=1)) as third:
            with pytest.raises(PeerUnreachable):
                await third.connect(elsewhere)
            with pytest.raises(AddressMalformed):
                await third.connect("elsewhere")
            await third.connect(third.address)
            assert third.statistics().peers_connected == 0


async def test_a_port_that_another_process_has_is_refused(make_config):
    async with open_network(make_config(0, validators=1)) as network:
        with pytest.raises(ListenFailed):
            async with open_network(make_config(1, validators=1, listen_port=port_of(network))):
                pass
    with pytest.raises(ListenFailed):
        async with open_network(make_config(1, validators=1, listen_port=70_000)):
            pass
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_network(make_config(1, validators=1, listen_host="203.0.113.9")):
            pass
    assert caught.value.split(ListenFailed)[1] is None


async def test_a_network_that_is_cancelled_leaves_its_port_free(make_config):
    with trio.move_on_after(0.5) as scope:
        async with open_network(make_config(0, validators=1)) as network:
            port = port_of(network)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    async with open_network(make_config(0, validators=1, listen_port=port)) as network:
        assert port_of(network) == port


async def test_a_host_that_stops_by_itself_ends_the_network_with_a_fault(make_config):
    async def fail():
        raise ZeroDivisionError

    async def run():
        async with open_network(make_config(0, validators=1)) as network:
            network._swarm.manager.run_task(fail)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        await run()
    assert caught.value.split(HostFailed)[1] is None


async def test_a_bootstrap_address_that_is_none_is_refused_at_once(make_config):
    with pytest.raises(BaseExceptionGroup) as caught:
        async with open_network(make_config(0, validators=1, bootstrap=["elsewhere"])):
            pass
    assert caught.value.split(AddressMalformed)[1] is None
