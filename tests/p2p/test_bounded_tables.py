import pytest
from hypothesis import given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.peer.id import ID

from p2p import peers
from p2p.addresses import parse_address, peer_id_of_public_key, peer_id_of_seed
from p2p.faults import AddressesExceeded, AddressMalformed, StreamBroken
from p2p.frames import FRAME_BYTES_MAX, FRAME_MESSAGES_MAX, FrameDecoder, encode_frame
from p2p.outbox import Outbox
from p2p.peers import PeerTable
from p2p.rates import BURST_S, RateTable, TokenBucket
from p2p.seen import SeenKeys

PEER = peer_id_of_seed(bytes(32))


def fresh_peer() -> ID:
    return ID.from_pubkey(create_new_key_pair().public_key)


def test_an_outbox_refuses_what_exceeds_its_messages_or_bytes():
    outbox = Outbox(messages_max=2, bytes_max=1_000)
    assert outbox.put(1, b"a")
    assert outbox.put(1, b"b")
    assert not outbox.put(1, b"c")
    assert outbox.take() == [(1, b"a"), (1, b"b")]
    assert not outbox.put(1, bytes(1_000))
    assert outbox.put(1, bytes(995))
    assert outbox.clear() == 1
    assert outbox.statistics().bytes == 0


@given(st.lists(st.integers(0, FRAME_BYTES_MAX // 3), max_size=12))
def test_an_outbox_yields_frames_within_bounds_that_lose_and_reorder_nothing(sizes):
    shared = bytes(max(sizes, default=0))
    sent = [(index, shared[:size]) for index, size in enumerate(sizes)]
    outbox = Outbox(messages_max=100, bytes_max=1 << 30)
    for kind, payload in sent:
        assert outbox.put(kind, payload)
    taken = []
    while frame := outbox.take():
        assert list(FrameDecoder().feed(encode_frame(frame))) == [frame]
        taken += frame
    assert taken == sent
    assert outbox.statistics().bytes == 0


def test_an_outbox_keeps_to_the_messages_of_a_frame():
    outbox = Outbox(messages_max=FRAME_MESSAGES_MAX + 1, bytes_max=1 << 20)
    for _ in range(FRAME_MESSAGES_MAX + 1):
        outbox.put(1, b"")
    assert len(outbox.take()) == FRAME_MESSAGES_MAX
    assert len(outbox.take()) == 1
    assert outbox.take() == []


def test_a_bucket_grants_its_burst_and_then_its_rate():
    bucket = TokenBucket(per_second=10, now_s=0)
    burst = int(10 * BURST_S)
    assert [bucket.take(0) for _ in range(burst + 1)] == [True] * burst + [False]
    assert bucket.take(0.1)
    assert not bucket.take(0.1)
    assert not bucket.take(0)


def test_a_rate_table_forgets_the_key_used_longest_ago():
    table = RateTable(per_second=0.1, keys_max=2)
    assert table.take("a", 0)
    assert table.take("b", 0)
    assert not table.take("a", 0)
    assert table.take("c", 0)
    assert len(table) == 2
    assert not table.take("a", 0)


def test_seen_keys_are_bounded_and_keep_the_latest_used():
    seen = SeenKeys(keys_max=2)
    assert seen.add(b"a")
    assert seen.add(b"b")
    assert not seen.add(b"a")
    assert seen.add(b"c")
    assert (seen.has(b"a"), seen.has(b"b"), seen.has(b"c")) == (True, False, True)
    assert seen.length() == 2


def test_an_address_is_split_into_transport_and_peer():
    text = f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}"
    assert str(parse_address(text)) == text
    assert str(parse_address(f"/dns4/node.example/tcp/1/p2p/{PEER}").peer) == PEER


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/ip4/127.0.0.1/tcp/4001",
        f"/p2p/{PEER}",
        f"/ip4/127.0.0.1/udp/4001/p2p/{PEER}",
        f"/ip4/127.0.0.1/tcp/99999/p2p/{PEER}",
        f"/ip4/127.0.0.1/tcp/4001/ws/p2p/{PEER}",
        f"/ip4/1.2.3/tcp/1/p2p/{PEER}",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}0",
        "/ip4/127.0.0.1/tcp/4001/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        f"/ip4/127.0.0.1/tcp/4001/p2p/{'1' * 300}",
        "\x00/p2p/\x00",
    ],
)
def test_what_is_no_address_of_a_peer_is_refused(text):
    with pytest.raises(AddressMalformed):
        parse_address(text)


@given(st.text(max_size=80))
def test_any_text_is_an_address_or_refused_with_a_fault(text):
    for candidate in (text, f"/ip4/127.0.0.1/tcp/1/p2p/{text}", f"{text}/p2p/{PEER}"):
        try:
            parse_address(candidate)
        except AddressMalformed as fault:
            assert fault.code == "E541"  # noqa: PT017


def test_a_peer_id_follows_from_seed_and_public_key_alike():
    keys = create_new_key_pair(bytes(32))
    assert peer_id_of_public_key(keys.public_key.to_bytes()) == PEER


def test_a_full_peer_table_forgets_strangers_but_keeps_their_count(monkeypatch):
    monkeypatch.setattr(peers, "PEERS_MAX", 3)
    table = PeerTable({PEER: 0})
    first = table.of(fresh_peer())
    first.refuse(StreamBroken("test"))
    for _ in range(3):
        table.of(fresh_peer())
    assert len(table) == 3
    assert table.get(PEER) is not None
    assert table.get(first.text) is None
    assert table.forgotten_refused == {"E509": 1}


def test_addresses_are_bounded_per_peer_and_over_all(monkeypatch):
    monkeypatch.setattr(peers, "DIALLED_PEERS_MAX", 2)
    table = PeerTable({})
    for port in range(peers.ADDRESSES_PER_PEER_MAX):
        table.add_address(parse_address(f"/ip4/127.0.0.1/tcp/{port}/p2p/{PEER}"))
    with pytest.raises(AddressesExceeded):
        table.add_address(parse_address(f"/ip4/127.0.0.1/tcp/9/p2p/{PEER}"))
    table.add_address(parse_address(f"/ip4/127.0.0.1/tcp/1/p2p/{fresh_peer()}"))
    with pytest.raises(AddressesExceeded):
        table.add_address(parse_address(f"/ip4/127.0.0.1/tcp/1/p2p/{fresh_peer()}"))
