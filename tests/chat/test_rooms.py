"""What enters a node, what it keeps, and how nodes come to the same history."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat import (
    CLOCK_SKEW_MS_MAX,
    SYNC_REQUEST_BYTES_MAX,
    SYNC_RESPONSE_BYTES_MAX,
    ChatFault,
    ChatService,
    RateLimited,
    UnknownRoom,
    admit_message,
    synchronisation,
)
from chat import _rates as rates
from chat import _retention as retention
from chat.faults import (
    BadSignature,
    ClockSkew,
    DuplicateSequence,
    HistoryDamaged,
    KeyNotAuthorized,
    MalformedMessage,
    MalformedSync,
    TooOld,
)
from chat.room import PARENT_WAIT_MS_MAX
from chat.synchronisation import Cursor, Range, SyncRequest, SyncResponse
from primitives import codec
from primitives.cid import cid_of
from storage import ChatRow, DiskFull, Index

NETWORK = b"n" * 32
ROOM = "OUT-USD"
NOW_MS = 1_800_000_000_000


def talk(node, authors, count, *, seed=0, prefix=""):
    """`count` messages, each following the node's heads, with clocks wrong by some seconds."""
    chance = random.Random(seed)
    wires = []
    for number in range(count):
        author = authors[number % len(authors)]
        time_ms = NOW_MS + number * 3_000 + chance.randrange(-5_000, 5_000)
        heads = tuple(node.chat.heads(ROOM))
        wires.append(author.wire(f"{prefix}{number}", time_ms, heads))
        node.chat.accept(wires[-1], NOW_MS + number * 3_000)
    return wires


def test_an_accepted_message_is_in_the_history_and_is_a_block(node, author):
    accepted = node.chat.accept(author.wire("hello"), NOW_MS)
    assert accepted.is_new
    assert [kept.message.text for kept in accepted.shown] == ["hello"]
    assert node.texts() == ["hello"]
    assert node.texts("BTC-USD") == []
    assert node.chat.heads(ROOM) == [accepted.cid]
    assert cid_of(node.index.blocks.get(accepted.cid)) == accepted.cid


def test_a_message_that_comes_again_changes_nothing(node, author):
    wire = author.wire()
    node.chat.accept(wire, NOW_MS)
    again = node.chat.accept(wire, NOW_MS + 10 * CLOCK_SKEW_MS_MAX)
    assert not again.is_new
    assert again.shown == ()
    assert node.texts() == ["hello"]


def test_a_message_that_waited_is_shown_when_its_question_comes(node, authors):
    asking, answering = authors(2)
    question = asking.wire("question")
    answer = answering.wire("answer", heads=(admit_message(question, NETWORK).cid,))
    assert node.chat.accept(answer, NOW_MS).shown == ()
    assert node.chat.missing(ROOM) == [admit_message(question, NETWORK).cid]
    shown = node.chat.accept(question, NOW_MS).shown
    assert [kept.message.text for kept in shown] == ["question", "answer"]
    node.restart()
    assert node.texts() == ["question", "answer"]


def test_what_waits_survives_a_restart_and_is_shown_in_the_end(node, author):
    node.chat.accept(author.wire("waits", heads=(cid_of(b"never comes"),)), NOW_MS)
    assert node.texts() == []
    assert node.chat.tick(NOW_MS) == ()
    node.restart()
    assert node.texts() == []
    shown = node.chat.tick(NOW_MS + PARENT_WAIT_MS_MAX)
    assert [kept.message.text for kept in shown] == ["waits"]
    node.restart()
    assert node.texts() == ["waits"]


def test_an_unknown_room_is_refused(node, author):
    with pytest.raises(UnknownRoom):
        node.chat.accept(author.wire(room="XYZ-USD"), NOW_MS)
    for ask in (node.chat.heads, node.chat.missing, node.chat.sync_request):
        with pytest.raises(UnknownRoom):
            ask("XYZ-USD")


@pytest.mark.parametrize("offset", [CLOCK_SKEW_MS_MAX + 1, -CLOCK_SKEW_MS_MAX - 1])
def test_a_post_far_from_the_clock_is_refused(node, author, offset):
    with pytest.raises(ClockSkew):
        node.chat.accept(author.wire(time_ms=NOW_MS + offset), NOW_MS)


def test_a_key_without_authority_is_refused(make_node, author):
    node = make_node(
        lambda account, key, _time: (account, key) != (author.account, author.key.public)
    )
    with pytest.raises(KeyNotAuthorized):
        node.chat.accept(author.wire(), NOW_MS)
    assert node.texts() == []


def test_a_sequence_number_is_used_once_at_a_door(node, author):
    node.chat.accept(author.wire("first", sequence=7), NOW_MS)
    with pytest.raises(DuplicateSequence):
        node.chat.accept(author.wire("second", sequence=7), NOW_MS)


def test_a_fast_account_is_slowed_and_others_are_not(node, authors):
    fast, slow = authors(2)
    posted = 0

    def post_for_ever():
        nonlocal posted
        while True:
            node.chat.accept(fast.wire(str(posted)), NOW_MS)
            posted += 1

    with pytest.raises(RateLimited) as caught:
        post_for_ever()
    assert posted == rates.POSTS_BURST_MAX
    node.chat.accept(slow.wire(), NOW_MS)
    with pytest.raises(RateLimited):
        node.chat.accept(fast.wire(), NOW_MS + caught.value.retry_ms - 1)
    node.chat.accept(fast.wire(), NOW_MS + caught.value.retry_ms)


def test_a_minute_takes_no_more_of_an_account_than_every_node_would_keep(node, author, monkeypatch):
    monkeypatch.setattr(retention, "MESSAGES_PER_ACCOUNT_MINUTE_MAX", 3)
    monkeypatch.setattr("chat.rooms.MESSAGES_PER_ACCOUNT_MINUTE_MAX", 3)
    for _ in range(3):
        node.chat.accept(author.wire(), NOW_MS)
    with pytest.raises(RateLimited):
        node.chat.accept(author.wire(), NOW_MS)
    assert len(node.texts()) == 3


def test_buckets_are_forgotten_at_their_bound(monkeypatch):
    monkeypatch.setattr(rates, "ACCOUNTS_ITEMS_MAX", 3)
    table = rates.PostRates()
    for number in range(9):
        assert table.take(bytes([number]), NOW_MS) == 0
    assert len(table) == 3


def test_a_message_older_than_a_full_room_is_refused(node, author, monkeypatch):
    monkeypatch.setattr(retention, "MESSAGES_PER_ROOM_MAX", 2)
    for time_ms in (NOW_MS, NOW_MS + 1):
        node.chat.accept(author.wire(time_ms=time_ms), NOW_MS)
    with pytest.raises(TooOld):
        node.chat.accept(author.wire(time_ms=NOW_MS - 1), NOW_MS)


def test_what_leaves_a_full_room_leaves_the_disk_too(node, author, monkeypatch):
    monkeypatch.setattr(retention, "MESSAGES_PER_ROOM_MAX", 2)
    first = node.chat.accept(author.wire("0"), NOW_MS)
    for number in (1, 2, 3):
        node.chat.accept(author.wire(str(number), NOW_MS + number), NOW_MS)
    assert node.texts() == ["2", "3"]
    assert node.index.blocks.get(first.cid) is None
    assert len(node.index.chat(ROOM)) == 2
    node.restart()
    assert node.texts() == ["2", "3"]


def test_lower_bounds_apply_to_what_is_loaded(node, author, monkeypatch):
    for number in range(4):
        node.chat.accept(author.wire(str(number), NOW_MS + number), NOW_MS)
    monkeypatch.setattr(retention, "MESSAGES_PER_ROOM_MAX", 3)
    node.restart()
    assert node.texts() == ["1", "2", "3"]
    assert len(node.index.chat(ROOM)) == 3


def test_a_restart_gives_the_same_history(node, authors):
    talk(node, authors(3), 40)
    before = node.chat.history(ROOM, 100)
    heads = node.chat.heads(ROOM)
    node.restart()
    assert node.chat.history(ROOM, 100) == before
    assert node.chat.heads(ROOM) == heads
    assert len(before) == 40


def test_pages_of_history_join(node, authors):
    talk(node, authors(3), 25)
    newest = node.chat.history(ROOM, 10)
    older = node.chat.history(ROOM, 100, before=newest[0].cid)
    assert older + newest == node.chat.history(ROOM, 100)


def test_a_node_that_joins_later_learns_everything(make_node, authors):
    old, new = make_node(), make_node()
    talk(old, authors(4), 60)
    gained = new.pull(old)
    assert gained == old.texts() == new.texts()
    assert new.pull(old) == []
    new.restart()
    assert new.texts() == old.texts()


def test_two_halves_of_a_cut_network_agree_after_it_heals(make_node, authors):
    one, other = make_node(), make_node()
    people = authors(6)
    for wire in talk(one, people, 20, prefix="common "):
        other.chat.accept(wire, NOW_MS + 30_000)
    talk(one, people[:3], 15, seed=1, prefix="left ")
    talk(other, people[3:], 15, seed=2, prefix="right ")
    assert one.texts() != other.texts()
    one.pull(other)
    other.pull(one)
    assert one.texts() == other.texts()
    assert len(one.texts()) == 50
    assert one.chat.heads(ROOM) == other.chat.heads(ROOM)


def test_synchronising_takes_pages_and_ends(make_node, authors, monkeypatch):
    monkeypatch.setattr(synchronisation, "SYNC_MESSAGES_MAX", 7)
    old, new = make_node(), make_node()
    talk(old, authors(4), 60)
    pages = 0
    request = new.chat.sync_request(ROOM)
    while request:
        absorbed = new.chat.absorb(old.chat.sync_response(request), NOW_MS + 200_000)
        assert len(absorbed.kept) <= 7
        request = absorbed.next_request
        pages += 1
    assert pages == 9
    assert new.texts() == old.texts()


def test_an_answer_on_an_earlier_page_waits_for_its_question(make_node, authors, monkeypatch):
    monkeypatch.setattr(synchronisation, "SYNC_MESSAGES_MAX", 1)
    old, new = make_node(), make_node()
    asking, slow_clock = authors(2)
    question = old.chat.accept(asking.wire("question"), NOW_MS)
    old.chat.accept(slow_clock.wire("answer", NOW_MS - 9_000, (question.cid,)), NOW_MS)
    first = new.chat.absorb(old.chat.sync_response(new.chat.sync_request(ROOM)), NOW_MS)
    assert (len(first.kept), first.shown) == (1, ())
    assert first.next_request
    second = new.chat.absorb(old.chat.sync_response(first.next_request), NOW_MS)
    assert [kept.message.text for kept in second.shown] == ["question", "answer"]
    assert second.next_request is None


def test_nodes_that_agree_send_nothing(make_node, authors):
    one, other = make_node(), make_node()
    talk(one, authors(3), 30)
    other.pull(one)
    response = one.chat.sync_response(other.chat.sync_request(ROOM))
    assert codec.decode(SyncResponse, response, bytes_max=SYNC_RESPONSE_BYTES_MAX).messages == []


def test_a_few_new_messages_do_not_bring_all_the_old_ones(make_node, authors):
    one, other = make_node(), make_node()
    people = authors(5)
    talk(one, people, 120)
    other.pull(one, NOW_MS + 400_000)
    one.chat.accept(people[0].wire("new", NOW_MS + 500_000), NOW_MS + 500_000)
    response = one.chat.sync_response(other.chat.sync_request(ROOM))
    sent = codec.decode(SyncResponse, response, bytes_max=SYNC_RESPONSE_BYTES_MAX).messages
    assert len(sent) <= 3


def test_what_gossip_refused_for_its_rate_comes_by_synchronisation(make_node, author):
    one, other = make_node(), make_node()
    count = rates.POSTS_BURST_MAX + 5
    wires = [author.wire(str(n), NOW_MS + 2_500 * n) for n in range(count)]
    for number, wire in enumerate(wires):
        one.chat.accept(wire, NOW_MS + 2_500 * number)
    refused = 0
    for wire in wires:  # all at once, after a pause of the network
        try:
            other.chat.accept(wire, NOW_MS + 40_000)
        except RateLimited:
            refused += 1
    assert refused == 5
    other.pull(one, NOW_MS + 41_000)
    assert other.texts() == one.texts()


def test_old_messages_come_by_synchronisation_and_future_ones_in_their_time(make_node, author):
    ahead, behind = make_node(), make_node()
    later = NOW_MS + 10 * CLOCK_SKEW_MS_MAX
    ahead.chat.accept(author.wire("old", NOW_MS), NOW_MS)
    ahead.chat.accept(author.wire("future", later), later)
    assert behind.pull(ahead, now_ms=NOW_MS + 5 * CLOCK_SKEW_MS_MAX) == ["old"]
    assert behind.chat.statistics().refused == {"E809": 1}
    assert behind.pull(ahead, now_ms=later) == ["future"]
    assert behind.texts() == ahead.texts()


def test_two_messages_with_one_sequence_number_are_both_kept_everywhere(make_node, author):
    one, other = make_node(), make_node()
    one.chat.accept(author.wire("here", sequence=1), NOW_MS)
    other.chat.accept(author.wire("there", sequence=1), NOW_MS)
    one.pull(other)
    other.pull(one)
    assert one.texts() == other.texts()
    assert sorted(one.texts()) == ["here", "there"]


def test_a_message_without_a_past_that_left_is_shown_to_joiners_at_once(
    make_node, author, monkeypatch
):
    monkeypatch.setattr(retention, "MESSAGES_PER_ROOM_MAX", 5)
    old, new = make_node(), make_node()
    for number in range(12):
        now = NOW_MS + number * 3_000
        old.chat.accept(author.wire(str(number), now, tuple(old.chat.heads(ROOM))), now)
    assert new.pull(old, NOW_MS + 60_000) == ["7", "8", "9", "10", "11"]
    assert new.texts() == old.texts()


def test_a_page_with_forged_messages_brings_the_good_ones(make_node, authors):
    source, node = make_node(), make_node(lambda account, *_: account[-1] != 3)
    good, bad, barred = authors(3)
    wires = [good.wire("good"), bad.wire("forged")[:-1] + b"\x00", barred.wire("barred")]
    wires += [good.wire("elsewhere", room="BTC-USD"), b"garbage"]
    response = codec.encode(SyncResponse(NETWORK, ROOM, wires, None))
    absorbed = node.chat.absorb(response, NOW_MS)
    assert [kept.message.text for kept in absorbed.shown] == ["good"]
    assert absorbed.refused == {"E805": 1, "E807": 1, "E812": 1, "E801": 1}
    assert source.texts() == []


def test_a_hostile_page_cannot_fill_the_room_for_one_account(node, author, monkeypatch):
    monkeypatch.setattr(retention, "MESSAGES_PER_ACCOUNT_MINUTE_MAX", 4)
    wires = [author.wire(str(n), NOW_MS) for n in range(100)]
    node.chat.absorb(codec.encode(SyncResponse(NETWORK, ROOM, wires, None)), NOW_MS)
    assert len(node.texts()) == 4
    assert node.index.statistics().blocks.blocks == 4


def test_messages_of_a_key_that_had_no_authority_are_dropped_by_a_recheck(make_node, authors):
    revoked_from = [2**62]
    first, second = authors(2)
    node = make_node(lambda account, _key, time_ms: account[-1] == 2 or time_ms < revoked_from[0])
    for offset in (0, 10, 20):
        node.chat.accept(first.wire(f"a{offset}", NOW_MS + offset), NOW_MS)
    node.chat.accept(second.wire("b", NOW_MS + 30), NOW_MS)
    revoked_from[0] = NOW_MS + 10
    assert len(node.chat.recheck(first.account, first.key.public)) == 2
    assert node.texts() == ["a0", "b"]
    node.restart()
    assert node.texts() == ["a0", "b"]


def test_a_full_disk_leaves_memory_and_disk_the_same(tmp_path, author):
    index = Index.open(tmp_path / "small.db", NETWORK, bytes_max=200_000)
    chat = ChatService(index, NETWORK, [ROOM], lambda *_: True)
    posted = []

    def post_for_ever():
        while True:
            text = f"{len(posted)} " + "x" * 2_000
            now = NOW_MS + len(posted) * 3_000
            chat.accept(author.wire(text, now), now)
            posted.append(text)

    with pytest.raises(DiskFull):
        post_for_ever()
    assert [kept.message.text for kept in chat.history(ROOM, 200)] == posted
    assert len(posted) > 5
    index.close()


def test_a_history_without_its_block_is_said_to_be_damaged(node, author):
    accepted = node.chat.accept(author.wire(), NOW_MS)
    node.index.blocks.delete([accepted.cid])
    with pytest.raises(HistoryDamaged):
        node.restart()
    other = cid_of(b"not a message")
    index = node.index
    index.record_chat(
        [ChatRow(ROOM, other, bytes(20), 1, 1, 1)], [(other, b"not a message")],
        dropped=[accepted.cid],
    )  # fmt: skip
    with pytest.raises(HistoryDamaged):
        ChatService(index, NETWORK, [ROOM], lambda *_: True)


def range_from(*start) -> Range:
    return Range(Cursor(*start) if start else None, bytes(32))


CID = cid_of(b"x")


@pytest.mark.parametrize(
    "request_",
    [
        SyncRequest(b"x" * 32, ROOM, [range_from()], None),
        SyncRequest(NETWORK, ROOM, [], None),
        SyncRequest(NETWORK, ROOM, [range_from(1, CID)], None),
        SyncRequest(NETWORK, ROOM, [range_from(), range_from()], None),
        SyncRequest(NETWORK, ROOM, [range_from(), range_from(2, CID), range_from(1, CID)], None),
        SyncRequest(NETWORK, ROOM, [range_from(), range_from(1, CID), range_from(1, CID)], None),
        SyncRequest(NETWORK, ROOM, [range_from()] * 65, None),
        SyncRequest(NETWORK, ROOM, [range_from()], Cursor(1, b"short")),
    ],
)
def test_a_request_out_of_shape_is_refused(node, request_):
    with pytest.raises(MalformedSync):
        node.chat.sync_response(codec.encode(request_))


@pytest.mark.parametrize(
    "response",
    [
        SyncResponse(b"x" * 32, ROOM, [], None),
        SyncResponse(NETWORK, ROOM, [], Cursor(1, CID)),
        SyncResponse(NETWORK, ROOM, [b""] * 257, None),
    ],
)
def test_a_response_out_of_shape_is_refused(node, response):
    with pytest.raises(MalformedSync):
        node.chat.absorb(codec.encode(response), NOW_MS)


def test_oversized_synchronisation_is_refused(node):
    with pytest.raises(MalformedSync):
        node.chat.sync_response(bytes(SYNC_REQUEST_BYTES_MAX + 1))
    with pytest.raises(MalformedSync):
        node.chat.absorb(bytes(SYNC_RESPONSE_BYTES_MAX + 1), NOW_MS)


def test_the_largest_request_and_response_fit_their_bounds(node, authors):
    ranges = [range_from(), *(range_from(2**62 + number, CID) for number in range(63))]
    largest = SyncRequest(NETWORK, "X" * 25, ranges, Cursor(2**62, CID))
    assert len(codec.encode(largest)) <= SYNC_REQUEST_BYTES_MAX
    heads = tuple(cid_of(bytes([number])) for number in range(8))
    wire = authors(1)[0].wire("x" * 2_048, heads=heads)
    response = SyncResponse(NETWORK, "X" * 25, [wire] * 256, Cursor(2**62, CID))
    assert len(codec.encode(response)) <= SYNC_RESPONSE_BYTES_MAX
    with pytest.raises(UnknownRoom):
        node.chat.sync_response(codec.encode(largest))


@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_chat_faults(tmp_path_factory, data):
    chat = SHARED.get("chat")
    if chat is None:
        index = Index.open(tmp_path_factory.mktemp("fuzz") / "i.db", NETWORK)
        chat = SHARED["chat"] = ChatService(index, NETWORK, [ROOM], lambda *_: True)
    for ask in (
        lambda: chat.accept(data, NOW_MS),
        lambda: chat.sync_response(data),
        lambda: chat.absorb(data, NOW_MS),
    ):
        with pytest.raises(ChatFault):
            ask()


SHARED: dict[str, ChatService] = {}


def test_refusals_are_counted_by_code(node, author):
    for wire, fault in [(b"x", MalformedMessage), (author.wire()[:-1] + b"\x00", BadSignature)]:
        with pytest.raises(fault):
            node.chat.accept(wire, NOW_MS)
    node.chat.accept(author.wire(), NOW_MS)
    statistics = node.chat.statistics()
    assert statistics.refused == {"E801": 1, "E805": 1}
    assert statistics.accepted == 1
    assert statistics.rooms[ROOM].shown == 1
    assert statistics.accounts == 1
    assert node.chat.rooms == (ROOM, "BTC-USD")
