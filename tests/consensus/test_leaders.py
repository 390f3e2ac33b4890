"""Turns follow power; who fails is passed over for a while, alike for everybody."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.block import decode_block
from consensus.leaders import (
    NO_FAILURES,
    PENALTY_ROUNDS,
    PENALTY_ROUNDS_MAX,
    Failures,
    Leaders,
    carried_over,
)
from tests.consensus.world import NETWORK, World

powers = st.lists(st.integers(1, 50), min_size=1, max_size=12)


@given(powers)
def test_over_a_cycle_everybody_leads_in_proportion_to_power(weights):
    leaders = Leaders(NETWORK, 1, weights)
    total = sum(weights)
    turns = Counter(leaders.leader(r, leaders.first()) for r in range(1, total + 1))
    assert [turns[i] for i in range(len(weights))] == weights


@given(powers, st.integers(1, 20))
def test_turns_are_spread_evenly(weights, rounds):
    """Proposer priority keeps everybody within one turn per validator of its due share."""
    leaders = Leaders(NETWORK, 2, weights)
    turns = Counter(leaders.leader(r, leaders.first()) for r in range(1, rounds + 1))
    for index, weight in enumerate(weights):
        due = rounds * weight / sum(weights)
        assert abs(turns[index] - due) <= len(weights)


def test_another_epoch_has_another_order():
    orders = set()
    for epoch in range(1, 20):
        leaders = Leaders(NETWORK, epoch, [1] * 7)
        orders.add(tuple(leaders.leader(r, leaders.first()) for r in range(1, 8)))
    assert len(orders) > 10


@given(powers, st.data())
def test_those_passed_over_are_always_less_than_a_third_and_never_lead(weights, data):
    leaders = Leaders(NETWORK, 3, weights)
    standing = tuple(
        Failures(count, until)
        for count, until in data.draw(
            st.lists(
                st.tuples(st.integers(0, 8), st.integers(0, 200)),
                min_size=len(weights),
                max_size=len(weights),
            )
        )
    )
    for round_ in (1, 50, 150, 250):
        passed = leaders.passed_over(round_, standing)
        assert 3 * sum(weights[i] for i in passed) < sum(weights) or not passed
        assert leaders.leader(round_, standing) not in passed


def test_a_failure_is_forgiven_after_a_while_and_a_success_forgets_it():
    leaders = Leaders(NETWORK, 1, [1] * 5)
    first = leaders.first()
    failed = leaders.leader(1, first)
    author = next(i for i in range(5) if i != failed)
    once = leaders.after(first, first, 0, 2, author)
    assert once[failed] == Failures(1, 1 + PENALTY_ROUNDS)
    assert leaders.passed_over(2, once) == {failed}
    assert leaders.passed_over(1 + PENALTY_ROUNDS, once) == frozenset()
    round_ = next(r for r in range(100, 200) if leaders.leader(r, once) == failed)
    again = leaders.after(once, once, round_ - 1, round_ + 1, author)
    assert again[failed].count == 2
    assert again[failed].until > round_ + PENALTY_ROUNDS
    well = leaders.after(again, again, 300, 301, failed)
    assert well[failed] == NO_FAILURES
    many = first
    for step in range(12):
        later = range(step * 10_000, (step + 1) * 10_000)
        round_ = next(r for r in later if leaders.leader(r, many) == failed)
        many = leaders.after(many, many, round_ - 1, round_ + 1, author)
    assert many[failed].until - round_ == PENALTY_ROUNDS_MAX


def test_an_epoch_begins_with_what_is_left_of_the_penalties():
    assert carried_over((Failures(2, 90), Failures(1, 20)), 50) == (Failures(2, 40), Failures(1, 0))


def test_a_dead_validator_is_soon_passed_over_and_costs_no_time_after_that():
    world = World(5, seed=41)
    world.run_for(1_000)
    world.crash(3)
    for number in range(400):
        world.submit(b"a%d" % number)
        world.run_for(20)
    height = world.height()
    names = {world.submit(b"b%d" % number) for number in range(50)}
    world.run_until(lambda: all(names <= set(seq) for seq in world.sequences()), ms=600)
    assert world.height() > height
    assert world.alive()[0].replica.statistics().passed_over == (3,)
    world.assert_agreement()


@pytest.mark.parametrize("count", [4, 7])
def test_one_that_comes_back_leads_again(count):
    world = World(count, seed=42)
    world.crash(1)
    world.run_for(6_000)
    world.start(1)
    for number in range(200):
        world.submit(b"c%d" % number)
        world.run_for(20)
    authors = {decode_block(wire, NETWORK).author for wire in world.members[0].stored[-200:]}
    assert 1 in authors
    world.assert_agreement()
