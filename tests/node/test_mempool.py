"""Envelopes at hand: bounded, handed out for a while, and never forgotten too early."""

from hypothesis import given
from hypothesis import strategies as st

from exchange import Refused
from node.mempool import (
    EXECUTED_HEIGHTS_MAX,
    EXECUTED_ITEMS_MAX,
    WAITING_HEIGHTS_MAX,
    Mempool,
)
from node.wire import PACKED_BYTES_MAX, PACKED_ITEMS_MAX, pack


def hold(mempool, number, height):
    name = number.to_bytes(32, "big")
    assert mempool.add(b"wire%d" % number, Refused(name, "E101"), height)
    return name


def test_an_envelope_is_kept_once():
    mempool = Mempool()
    name = hold(mempool, 1, 0)
    assert not mempool.add(b"wire1", Refused(name, "E101"), 0)
    assert name in mempool
    assert mempool.get(name).wire == b"wire1"


def test_an_executed_envelope_is_handed_out_for_some_heights():
    mempool = Mempool()
    name = hold(mempool, 1, 0)
    assert mempool.executed([name], 10) == []
    assert mempool.is_executed(name)
    assert mempool.executed([], 10 + EXECUTED_HEIGHTS_MAX) == []
    assert name in mempool
    assert mempool.executed([], 11 + EXECUTED_HEIGHTS_MAX) == [name]
    assert name not in mempool


def test_an_envelope_that_nobody_orders_expires():
    mempool = Mempool()
    name = hold(mempool, 1, 5)
    assert mempool.executed([], 5 + WAITING_HEIGHTS_MAX) == []
    assert mempool.executed([], 6 + WAITING_HEIGHTS_MAX) == [name]
    assert mempool.statistics().expired == 1


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=60))
def test_bytes_are_those_of_what_is_held(steps):
    mempool, held = Mempool(), {}
    for height, (number, executes) in enumerate(steps):
        name = number.to_bytes(32, "big")
        if executes:
            mempool.executed([name], height)
        elif name not in mempool:
            held[name] = b"wire%d" % number
            hold(mempool, number, height)
    assert mempool.statistics().bytes == sum(map(len, held.values()))
    assert mempool.statistics().envelopes == len(held)


@given(st.lists(st.binary(max_size=3_000), max_size=1_500))
def test_packing_keeps_order_and_bounds(wires):
    groups = pack(wires)
    assert [wire for group in groups for wire in group] == wires
    for group in groups:
        assert 0 < len(group) <= PACKED_ITEMS_MAX
        assert len(group) == 1 or sum(map(len, group)) <= PACKED_BYTES_MAX


def test_executed_envelopes_never_fill_the_room_for_waiting_ones():
    mempool = Mempool()
    names = [hold(mempool, number, 0) for number in range(EXECUTED_ITEMS_MAX + 10)]
    dropped = mempool.executed(names, 1)
    assert dropped == names[:10]
    assert mempool.statistics().envelopes == EXECUTED_ITEMS_MAX
    assert mempool.statistics().waiting == 0
