"""One history for one set of messages."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chat import PAGE_MESSAGES_MAX, AdmittedMessage, Message, Room
from chat import _retention as retention
from chat import room as room_module
from chat.faults import PageInvalid, UnknownCursor
from chat.room import PARENT_WAIT_MS_MAX
from primitives.cid import cid_of

NOW_MS = 10_000_000
LATE_MS = NOW_MS + PARENT_WAIT_MS_MAX


def message(
    text: str, time_ms: int = 0, heads: tuple[AdmittedMessage, ...] = (), author: int = 0
) -> AdmittedMessage:
    """A message as the room sees it; its signature was checked before and is left out."""
    cid = cid_of(repr((text, time_ms, author, [head.cid for head in heads])).encode())
    record = Message(
        b"n" * 32,
        "OUT-USD",
        author.to_bytes(20, "big"),
        b"k" * 32,
        0,
        time_ms,
        sorted(head.cid for head in heads),
        text,
        bytes(64),
    )
    return AdmittedMessage(cid, record, text.encode())


def fill(messages, *, now_ms: int = NOW_MS) -> Room:
    room = Room("OUT-USD")
    for item in messages:
        room.add(item, now_ms)
    return room


def texts(room: Room) -> list[str]:
    return [room.message(cid).text for cid in room.history()]


def by_cid(item: AdmittedMessage) -> bytes:
    return item.cid


@st.composite
def conversations(draw, size: int = 14) -> list[AdmittedMessage]:
    """Messages that follow random earlier ones, with clocks that are wrong at random."""
    made: list[AdmittedMessage] = []
    for number in range(draw(st.integers(1, size))):
        followed = (
            draw(st.lists(st.sampled_from(made), max_size=3, unique_by=by_cid)) if made else []
        )
        time_ms = draw(st.integers(0, 200_000))
        made.append(message(str(number), time_ms, tuple(followed), draw(st.integers(0, 2))))
    return made


@given(conversations(), st.data())
def test_any_order_and_repetition_of_delivery_gives_the_same_history(messages, data):
    shuffled = data.draw(st.permutations(messages + data.draw(st.lists(st.sampled_from(messages)))))
    room = fill(shuffled)
    assert room.history() == fill(messages).history()
    assert len(room.history()) == len(messages)
    assert room.heads() == fill(messages).heads()
    assert room.missing() == []


@given(conversations(), st.randoms(use_true_random=False))
def test_everything_comes_after_what_it_follows(messages, random):
    random.shuffle(messages)
    room = fill(messages)
    position = {cid: at for at, cid in enumerate(room.history())}
    for item in messages:
        assert all(position[head] < position[item.cid] for head in item.message.heads)


@settings(max_examples=200)
@given(conversations(size=25), st.randoms(use_true_random=False), st.data())
def test_full_rooms_keep_the_same_whatever_the_order(messages, random, data):
    bounds = {
        "MESSAGES_PER_ROOM_MAX": data.draw(st.integers(1, 12)),
        "MESSAGES_PER_ACCOUNT_MAX": data.draw(st.integers(1, 6)),
        "MESSAGES_PER_ACCOUNT_MINUTE_MAX": data.draw(st.integers(1, 4)),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in bounds.items():
            patch.setattr(retention, name, value)
        first = fill(messages)
        shuffled = messages * 2
        random.shuffle(shuffled)
        second = fill(shuffled)
        for room in (first, second):
            room.tick(LATE_MS)
    assert first.shown_keys() == second.shown_keys()
    assert first.history() == second.history()
    assert first.heads() == second.heads()
    assert len(first) <= bounds["MESSAGES_PER_ROOM_MAX"]


@given(conversations(), conversations(), st.randoms(use_true_random=False))
def test_two_halves_that_exchange_what_they_have_agree(left, right, random):
    one, other = fill(left), fill(right)
    for item in random.sample(right, len(right)):
        one.add(item, NOW_MS)
    for item in random.sample(left, len(left)):
        other.add(item, NOW_MS)
    assert one.history() == other.history()


@given(conversations(), st.randoms(use_true_random=False))
def test_incremental_order_equals_the_order_computed_anew(messages, random):
    random.shuffle(messages)
    room = Room("OUT-USD")
    for item in messages:
        room.add(item, NOW_MS)
        room.history()  # settles every intermediate order
    gone = random.sample(messages, len(messages) // 3)
    room.drop([item.cid for item in gone])
    room.tick(LATE_MS)
    fresh = fill([item for item in messages if item not in gone])
    fresh.tick(LATE_MS)
    assert room.history() == fresh.history()
    assert room.heads() == fresh.heads()


@given(conversations(), st.randoms(use_true_random=False))
def test_a_reloaded_room_shows_the_same(messages, random):
    random.shuffle(messages)
    room = fill(messages[: len(messages) // 2 + 1])
    kept = [(item, room.is_shown(item.cid)) for item in messages if item.cid in room]
    again = Room("OUT-USD")
    assert again.load(kept).dropped == ()
    assert again.history() == room.history()
    assert again.heads() == room.heads()
    assert again.missing() == room.missing()
    for item in messages:
        room.add(item, NOW_MS)
        again.add(item, NOW_MS)
    assert again.history() == room.history()


def test_a_wrong_clock_does_not_put_an_answer_before_its_question():
    question = message("question", 5_000)
    answer = message("answer", 1_000, (question,))
    earlier = message("earlier", 4_000)
    assert texts(fill([answer, question, earlier])) == ["earlier", "question", "answer"]


def test_equal_times_are_ordered_by_cid():
    items = [message(str(number), 7) for number in range(6)]
    assert fill(items).history() == sorted(item.cid for item in items)


def test_a_message_waits_for_what_it_follows():
    first = message("first")
    second = message("second", 1, (first,))
    third = message("third", 2, (second,))
    room = Room("OUT-USD")
    assert room.add(third, NOW_MS).shown == ()
    assert room.add(second, NOW_MS).shown == ()
    assert room.history() == []
    assert room.missing() == [first.cid]
    change = room.add(first, NOW_MS)
    assert change.kept == (first.cid,)
    assert change.shown == (first.cid, second.cid, third.cid)
    assert room.missing() == []


def test_a_message_waits_for_all_that_it_follows():
    one, two = message("one"), message("two")
    both = message("both", 1, (one, two))
    room = fill([both, one])
    assert texts(room) == ["one"]
    assert room.missing() == [two.cid]
    room.add(two, NOW_MS)
    assert texts(room)[-1] == "both"


def test_what_never_comes_is_not_waited_for_longer_than_the_bound():
    lost = message("lost")
    room = fill([message("child", 1, (lost,))])
    assert room.tick(LATE_MS - 1).shown == ()
    assert len(room.tick(LATE_MS).shown) == 1
    assert texts(room) == ["child"]
    assert room.add(lost, LATE_MS).shown == (lost.cid,)
    assert texts(room) == ["lost", "child"]


def test_what_a_peer_shows_without_its_past_is_shown_here_too():
    child = message("child", 1, (message("gone"),))
    room = fill([child, message("other", 1, (message("coming"),))])
    room.add(child, NOW_MS, offered=True)
    assert room.settle().shown == (child.cid,)
    assert texts(room) == ["child"]


def test_a_full_waiting_room_shows_who_waited_longest(monkeypatch):
    monkeypatch.setattr(room_module, "WAITING_ITEMS_MAX", 2)
    lost = message("lost")
    waiting = [message(str(number), number, (lost,)) for number in range(4)]
    assert texts(fill(waiting)) == ["0", "1"]


def test_missing_messages_are_named_up_to_the_bound(monkeypatch):
    monkeypatch.setattr(room_module, "MISSING_ITEMS_MAX", 3)
    room = fill([message(f"c{n}", 1, (message(f"p{n}"),)) for n in range(5)])
    assert len(room.missing()) == 3


def test_the_oldest_leaves_a_full_room(monkeypatch):
    monkeypatch.setattr(retention, "MESSAGES_PER_ROOM_MAX", 3)
    items = [message(str(number), number) for number in range(5)]
    room = fill(items[:3])
    assert room.add(items[3], NOW_MS).dropped == (items[0].cid,)
    assert texts(room) == ["1", "2", "3"]
    assert room.add(items[0], NOW_MS).kept == ()
    assert items[0].cid not in room


def test_one_account_cannot_fill_the_room(monkeypatch):
    monkeypatch.setattr(retention, "MESSAGES_PER_ACCOUNT_MAX", 2)
    others = [message("theirs", 0, author=1)]
    room = fill(others + [message(str(number), number, author=2) for number in range(1, 9)])
    assert texts(room) == ["theirs", "7", "8"]


def test_pages_go_back_through_the_whole_history():
    items = [message(str(number), number) for number in range(10)]
    room = fill(items)
    page = room.page(4)
    assert [room.message(cid).text for cid in page] == ["6", "7", "8", "9"]
    assert room.page(4, before=page[0]) == [item.cid for item in items[2:6]]
    assert room.page(4, before=items[1].cid) == [items[0].cid]
    assert room.page(4, before=items[0].cid) == []


def test_a_page_that_cannot_be_is_refused():
    room = fill([message("one")])
    for limit in (0, PAGE_MESSAGES_MAX + 1):
        with pytest.raises(PageInvalid):
            room.page(limit)
    with pytest.raises(UnknownCursor):
        room.page(1, before=cid_of(b"unknown"))


def test_statistics_tell_what_waits():
    room = fill([message("shown"), message("waits", 1, (message("lost"),))])
    statistics = room.statistics()
    assert (statistics.shown, statistics.waiting, statistics.missing) == (1, 1, 1)
    assert statistics.heads == 1
