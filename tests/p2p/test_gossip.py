import hashlib

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.utils.varint import encode_varint_prefixed

from p2p import GOSSIP_BYTES_MAX, Limits, open_network, parse_address
from p2p.faults import MessageTooLarge, NameTaken

TOPIC = "chat/BTC"
FULL_TOPIC = "/outcry/6e657421/chat/BTC"
MESHSUB = "/meshsub/1.2.0"


@pytest.fixture
def subscribe_all(until):
    async def subscribe(networks, **options):
        channels = [network.subscribe(TOPIC, **options) for network in networks]
        await until(
            lambda: all(
                network.statistics().gossip.mesh.get(FULL_TOPIC) == len(networks) - 1
                for network in networks
            )
        )
        return channels

    return subscribe


def message(host, payload=b"payload", number=1, **changes):
    """A message that `host` signed, with fields changed afterwards."""
    made = rpc_pb2.Message(
        data=payload,
        topicIDs=[FULL_TOPIC],
        from_id=host.get_id().to_bytes(),
        seqno=number.to_bytes(8, "big"),
    )
    made.signature = host.get_private_key().sign(
        PUBSUB_SIGNING_PREFIX.encode() + made.SerializeToString()
    )
    made.key = host.get_public_key().serialize()
    for field, value in changes.items():
        if isinstance(value, list):
            del getattr(made, field)[:]
            getattr(made, field).extend(value)
        else:
            setattr(made, field, value)
    return made


async def test_a_payload_published_twice_and_by_two_is_delivered_once(
    open_mesh, subscribe_all, drain
):
    async with open_mesh(5, validators=3) as networks:
        channels = await subscribe_all(networks)
        await networks[0].publish(TOPIC, b"once")
        await networks[0].publish(TOPIC, b"once")
        for channel in channels[1:]:
            with trio.fail_after(15):
                assert (await channel.receive()).payload == b"once"
        await networks[4].publish(TOPIC, b"once")
        await networks[4].publish(TOPIC, b"more")
        for channel in channels[:4]:
            with trio.fail_after(15):
                assert (await channel.receive()).payload == b"more"
        assert [drain(channel) for channel in channels] == [[]] * 5
        assert networks[0].statistics().gossip.published == 1


async def test_many_payloads_reach_everybody(open_mesh, subscribe_all):
    async with open_mesh(4) as networks:
        channels = await subscribe_all(networks)
        payloads = {b"payload %d" % number for number in range(300)}
        for payload in sorted(payloads):
            await networks[3].publish(TOPIC, payload)
            await trio.sleep(0.001)
        for channel in channels[:3]:
            with trio.fail_after(15):
                assert {(await channel.receive()).payload for _ in payloads} == payloads


async def test_what_the_check_refuses_is_neither_delivered_nor_forwarded(
    open_mesh, make_config, until, drain
):
    async with open_mesh(1) as (middle,):
        config = make_config(1, validators=1, bootstrap=[middle.address])
        other = make_config(2, validators=1, bootstrap=[middle.address])
        async with open_network(config) as sender, open_network(other) as receiver:
            from_middle = middle.subscribe(TOPIC, accept=lambda payload: payload != b"bad")
            from_receiver = receiver.subscribe(TOPIC)
            sender.subscribe(TOPIC)
            await until(lambda: middle.statistics().gossip.mesh.get(FULL_TOPIC) == 2)
            await until(lambda: sender.statistics().gossip.mesh.get(FULL_TOPIC) == 1)
            await sender.publish(TOPIC, b"bad")
            await sender.publish(TOPIC, b"good")
            for channel in (from_middle, from_receiver):
                with trio.fail_after(15):
                    assert (await channel.receive()).payload == b"good"
                assert drain(channel) == []
            assert middle.statistics().refused == {"E524": 1}


async def test_a_check_that_raises_refuses_and_is_contained(open_mesh, subscribe_all, until):
    def check(payload: bytes) -> bool:
        return 1 // len(payload) == 0

    async with open_mesh(2) as (first, second):
        channels = await subscribe_all([first, second], accept=check)
        await first.publish(TOPIC, b"")
        await until(lambda: second.statistics().refused == {"E524": 1})
        assert second.statistics().contained == 1
        await first.publish(TOPIC, b"fine")
        with trio.fail_after(15):
            assert (await channels[1].receive()).payload == b"fine"


async def test_more_than_the_rate_is_dropped_and_counted(open_mesh, subscribe_all, until):
    async with open_mesh(2, limits=Limits(gossip_per_second=2)) as (first, second):
        await subscribe_all([first, second])
        for number in range(20):
            await first.publish(TOPIC, b"%d" % number)
        await until(lambda: second.statistics().refused.get("E523", 0) >= 10)
        assert second.statistics().gossip.delivered <= 10


async def test_a_full_subscriber_loses_messages_and_counts_them(open_mesh, subscribe_all, until):
    async with open_mesh(2) as (first, second):
        _, channel = await subscribe_all([first, second], queue_max=2)
        for number in range(5):
            await first.publish(TOPIC, b"%d" % number)
        await until(lambda: second.statistics().gossip.overflowed == 3)
        assert [(await channel.receive()).payload for _ in range(2)] == [b"0", b"1"]


async def test_what_is_too_large_or_taken_is_refused_at_home(make_config):
    async with open_network(make_config(0, validators=1)) as network:
        with pytest.raises(MessageTooLarge):
            await network.publish(TOPIC, bytes(GOSSIP_BYTES_MAX + 1))
        network.subscribe(TOPIC)
        with pytest.raises(NameTaken):
            network.subscribe(TOPIC)


async def test_a_subscription_while_a_peer_joins_is_heard_of(make_config, until):
    for pause_ms in range(0, 60, 4):
        first = make_config(0, validators=1)
        async with open_network(first) as stays:
            second = make_config(1, validators=1, bootstrap=[stays.address])
            async with open_network(second) as joins:
                await trio.sleep(pause_ms / 1_000)
                for network in (stays, joins):
                    network.subscribe(TOPIC)
                await until(lambda: _meshed(stays) and _meshed(joins))


def _meshed(network):
    return network.statistics().gossip.mesh.get(FULL_TOPIC) == 1


async def test_a_restarted_publisher_is_heard_at_once(open_mesh, make_config, until):
    async with open_mesh(1) as (stays,):
        channel = stays.subscribe(TOPIC)
        for life in range(2):
            config = make_config(1, validators=1, bootstrap=[stays.address])
            async with open_network(config) as again:
                again.subscribe(TOPIC)
                await until(lambda: bool(again.statistics().gossip.mesh.get(FULL_TOPIC)))
                await again.publish(TOPIC, b"life %d" % life)
                with trio.fail_after(15):
                    assert (await channel.receive()).payload == b"life %d" % life
            await until(lambda: stays.statistics().peers_connected == 0)


HOSTILE_RPCS = {
    "no protobuf": (b"\x05\xff\xff\xff\xff\xff", "E521"),
    "an endless varint": (b"\xff" * 12, "E521"),
    "an RPC above the limit": (b"\xff\xff\xff\x7f", "E521"),
    "the stream ends inside an RPC": (b"\x10abc", "E509"),
    "the stream ends inside a length": (b"\x80", "E509"),
}


@pytest.mark.parametrize(("wire", "code"), HOSTILE_RPCS.values(), ids=HOSTILE_RPCS)
async def test_broken_rpcs_end_their_stream_only(
    make_config, stock_host, make_seed, until, wire, code
):
    async with (
        open_network(make_config(0, validators=1)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        channel = network.subscribe(TOPIC)
        target = parse_address(network.address).peer
        stream = await peer.new_stream(target, [MESHSUB])
        await stream.write(wire)
        if code == "E509":
            await stream.close()
        await until(lambda: network.statistics().refused == {code: 1})
        stream = await peer.new_stream(target, [MESHSUB])
        rpc = rpc_pb2.RPC(publish=[message(peer)])
        await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        with trio.fail_after(15):
            received = await channel.receive()
        assert (received.peer, received.payload) == (str(peer.get_id()), b"payload")


HOSTILE_MESSAGES = {
    "a malformed author": ({"from_id": b"\x00\x01"}, "E522"),
    "an author that is no key": ({"from_id": b"\x00\x24" + b"\x07" * 36}, "E522"),
    "a hashed author and a malformed key": (
        {"from_id": b"\x12\x20" + hashlib.sha256(b"x").digest(), "key": b"\xff\xff"},
        "E522",
    ),
    "no author": ({"from_id": b""}, "E521"),
    "no signature": ({"signature": b""}, "E522"),
    "another payload than was signed": ({"data": b"forged"}, "E522"),
    "a long author": ({"from_id": bytes(4_000)}, "E521"),
    "a short number": ({"seqno": b"1"}, "E521"),
    "two topics": ({"topicIDs": [FULL_TOPIC, "another"]}, "E521"),
    "no topic": ({"topicIDs": []}, "E521"),
    "a foreign topic": ({"topicIDs": ["another"]}, "E521"),
    "a payload above the limit": ({"data": bytes(GOSSIP_BYTES_MAX + 1)}, "E521"),
}


@pytest.mark.parametrize(("changes", "code"), HOSTILE_MESSAGES.values(), ids=HOSTILE_MESSAGES)
async def test_hostile_messages_are_dropped_and_the_stream_goes_on(
    make_config, stock_host, make_seed, drain, changes, code
):
    async with (
        open_network(make_config(0, validators=1)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        channel = network.subscribe(TOPIC)
        stream = await peer.new_stream(parse_address(network.address).peer, [MESHSUB])
        rpc = rpc_pb2.RPC(publish=[message(peer, **changes), message(peer, b"right", number=2)])
        await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        with trio.fail_after(15):
            assert (await channel.receive()).payload == b"right"
        assert drain(channel) == []
        assert network.statistics().refused == {code: 1}
        assert network.statistics().contained == 0


async def test_control_entries_for_foreign_topics_leave_no_trace(
    make_config, stock_host, make_seed, until
):
    async with (
        open_network(make_config(0, validators=1)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        channel = network.subscribe(TOPIC)
        rpc = rpc_pb2.RPC(publish=[message(peer)])
        for number in range(200):
            name = f"foreign/{number}"
            rpc.subscriptions.append(rpc_pb2.RPC.SubOpts(subscribe=True, topicid=name))
            rpc.control.graft.append(rpc_pb2.ControlGraft(topicID=name))
            rpc.control.prune.append(rpc_pb2.ControlPrune(topicID=name, backoff=1 << 40))
            rpc.control.ihave.append(rpc_pb2.ControlIHave(topicID=name, messageIDs=[b"x"]))
        flood = rpc_pb2.PeerInfo(peerID=b"\x00\x01", signedPeerRecord=b"\xff")
        rpc.control.prune.append(rpc_pb2.ControlPrune(topicID=FULL_TOPIC, peers=[flood] * 3))
        stream = await peer.new_stream(parse_address(network.address).peer, [MESHSUB])
        await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        with trio.fail_after(15):
            await channel.receive()
        gossip = network._gossip
        await until(lambda: FULL_TOPIC in gossip.mesh.back_off)
        assert set(gossip.mesh.back_off) == {FULL_TOPIC}
        assert gossip.wire.peer_topics == {}
        assert network.statistics().contained == 0


async def test_an_rpc_with_too_many_entries_is_refused(make_config, stock_host, make_seed, until):
    async with (
        open_network(make_config(0, validators=1)) as network,
        stock_host(make_seed(9), [network.address]) as peer,
    ):
        rpc = rpc_pb2.RPC()
        rpc.control.iwant.append(rpc_pb2.ControlIWant(messageIDs=[b"x"] * 2_000))
        stream = await peer.new_stream(parse_address(network.address).peer, [MESHSUB])
        await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        await until(lambda: network.statistics().refused == {"E521": 1})
