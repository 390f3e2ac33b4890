"""What one flush makes durable: everything that waits, in groups that are forgotten as a whole."""

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.effects import Entry, Persist
from node.flush import (
    ENVELOPE_KIND,
    GROUP_BYTES_MAX,
    JOURNAL_PRUNE_WRITES,
    WRITE_BYTES_MAX,
    WRITE_ITEMS_MAX,
    PendingWrites,
)

VOTE = Persist((Entry("vote", b"slot", b"block"),))


def name(number):
    return number.to_bytes(32, "big")


def envelopes(*numbers, size=10):
    return [(name(number), bytes([number % 256]) * size) for number in numbers]


def carried_out(held, writes):
    """`held` (a journal by kind and key) after some writes."""
    for write in writes:
        for place in write.deletes:
            del held[place]
        held.update(((kind, key), value) for kind, key, value in write.entries)
    return held


def groups(held):
    return {key: value for (kind, key), value in held.items() if kind == ENVELOPE_KIND}


def test_envelopes_of_one_flush_are_one_entry():
    pending = PendingWrites()
    pending.arrived(envelopes(1, 2, 3))
    (write,) = pending.take([VOTE])
    assert [kind for kind, _, _ in write.entries] == [ENVELOPE_KIND, "vote"]
    assert not pending.is_urgent
    assert pending.take([]) == []


def test_after_a_restart_the_envelopes_come_back_in_order_and_are_not_written_again():
    pending = PendingWrites()
    held = {}
    for numbers in ((5, 3), (9,), (1, 2)):
        pending.arrived(envelopes(*numbers))
        carried_out(held, pending.take([]))
    again = PendingWrites()
    assert again.resume(groups(held)) == [wire for _, wire in envelopes(5, 3, 9, 1, 2)]
    again.arrived(envelopes(5, 3, 9, 1, 2))
    assert not again.is_urgent
    again.arrived(envelopes(7))
    carried_out(held, again.take([]))
    assert len(groups(held)) == 4


def test_a_group_is_forgotten_with_its_last_envelope():
    pending = PendingWrites()
    pending.arrived(envelopes(1, 2))
    held = carried_out({}, pending.take([]))
    pending.finished([name(1)])
    assert groups(carried_out(held, pending.take([VOTE])))
    pending.finished([name(2)])
    assert not groups(carried_out(held, pending.take([VOTE])))


def test_a_group_of_an_earlier_life_is_forgotten_too():
    pending = PendingWrites()
    pending.arrived(envelopes(1, 2))
    held = carried_out({}, pending.take([]))
    again = PendingWrites()
    again.resume(groups(held))
    again.finished([name(1), name(2)])
    assert not groups(carried_out(held, again.take([VOTE])))


def test_forgetting_alone_writes_nothing():
    pending = PendingWrites()
    pending.arrived(envelopes(1))
    pending.take([])
    pending.finished([name(1)])
    assert pending.take([]) == []


def test_what_finishes_before_it_was_written_is_never_written():
    pending = PendingWrites()
    pending.arrived(envelopes(1))
    pending.finished([name(1)])
    assert pending.take([]) == []


def test_large_envelopes_are_spread_over_entries_and_transactions():
    pending = PendingWrites()
    size = 16_384
    count = (WRITE_BYTES_MAX + 2 * GROUP_BYTES_MAX) // size
    pending.arrived(envelopes(*range(count), size=size))
    writes = pending.take([VOTE])
    assert len(writes) > 1
    assert all(
        sum(len(value) for _, _, value in write.entries) <= WRITE_BYTES_MAX * 1.01
        for write in writes
    )
    assert writes[-1].entries[-1][0] == "vote"
    again = PendingWrites()
    assert len(again.resume(groups(carried_out({}, writes)))) == count


def test_old_slots_are_pruned_once_in_a_while():
    pending = PendingWrites()
    prunes = [pending.take([VOTE])[0].prune for _ in range(JOURNAL_PRUNE_WRITES)]
    assert not any(prunes[:-1])
    assert prunes[-1]


STEPS = st.lists(
    st.tuples(st.sampled_from(["arrive", "finish", "flush", "restart"]), st.integers(0, 12)),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_the_journal_holds_exactly_what_was_flushed_and_groups_with_something_alive(steps):
    pending, held, alive, flushed = PendingWrites(), {}, set(), set()
    for what, number in steps:
        if what == "arrive":
            pending.arrived(envelopes(number))
            alive.add(number)
        elif what == "finish":
            pending.finished([name(number)])
            alive.discard(number)
            flushed.discard(number)
        elif what == "flush":
            carried_out(held, pending.take([VOTE]))
            flushed |= alive
        else:
            pending = PendingWrites()
            wires = pending.resume(groups(held))
            kept = {int(wire[0]) for wire in wires}
            assert flushed <= kept
            alive, flushed = set(kept), set(kept)


def test_many_blocks_at_once_take_several_transactions_and_nothing_is_torn_apart():
    pending = PendingWrites()
    pairs = [
        Persist((Entry("block", b"%d" % i, b"b"), Entry("safety", b"", b"%d" % i)))
        for i in range(WRITE_ITEMS_MAX)
    ]
    pending.arrived([(bytes(32), b"envelope")])
    writes = pending.take(pairs)
    assert len(writes) == 2
    assert writes[0].entries[0][0] == ENVELOPE_KIND, "envelopes are durable first"
    written = [entry for write in writes for entry in write.entries[:] if entry[0] != ENVELOPE_KIND]
    assert written == [(e.kind, e.key, e.value) for persist in pairs for e in persist.entries]
    for write in writes:
        kinds = [entry[0] for entry in write.entries if entry[0] != ENVELOPE_KIND]
        assert kinds == ["block", "safety"] * (len(kinds) // 2)
        assert len(write.entries) <= WRITE_ITEMS_MAX + 2
