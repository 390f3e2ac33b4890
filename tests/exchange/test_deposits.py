"""Deposits: counted by power, in order, once; and what is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import Observation
from exchange.deposits import DEPOSITS_AHEAD_MAX, DepositTally, check_chained
from exchange.events import Deposited
from exchange.exchange import Exchange
from exchange.faults import DepositMismatch
from primitives.anchors import EMPTY_ACCUMULATOR
from primitives.codec import AMOUNT_MAX
from tests.exchange.world import BASE, FEES, NETWORK, DepositChain, World, make_genesis, observed

ANN = b"\x0a" * 20


@pytest.fixture
def chain() -> DepositChain:
    chain = DepositChain()
    for units in range(1, 6):
        chain.add(ANN, BASE, units)
    return chain


def fork(chain: DepositChain, shared: int) -> DepositChain:
    other = DepositChain()
    other.deposits = chain.deposits[:shared]
    for units in range(50, 56):
        other.add(ANN, BASE, units)
    return other


def test_a_deposit_needs_more_than_two_thirds_of_the_power(chain):
    tally = DepositTally([2, 1, 3])  # two thirds are 4
    tally.observe(2, chain.observation())
    assert tally.agreed() == []
    tally.observe(1, chain.observation())
    assert tally.agreed() == []  # exactly two thirds
    tally.observe(0, chain.observation(0, 2))
    assert tally.agreed() == chain.deposits[:2]
    assert (tally.next_index, tally.accumulator) == (2, chain.deposits[1].accumulator)


def test_a_repeated_report_counts_once(chain):
    tally = DepositTally([1, 1, 1])
    for _ in range(3):
        tally.observe(0, chain.observation())
        tally.observe(1, chain.observation())
    assert tally.agreed() == []
    assert tally.statistics().refused == 0


def test_what_does_not_chain_is_e220_and_counted(chain):
    tally = DepositTally([1])
    bad = msgspec.structs.replace(chain.deposits[1], units=99)
    with pytest.raises(DepositMismatch, match="running hash"):
        tally.observe(0, observed([chain.deposits[0], bad]))
    with pytest.raises(DepositMismatch, match="without those before"):
        tally.observe(0, chain.observation(3))
    with pytest.raises(DepositMismatch):
        check_chained(EMPTY_ACCUMULATOR, chain.deposits[1])
    assert tally.statistics().refused == 2
    assert tally.agreed() == chain.deposits[:1]  # what came before the fault stands


def test_the_first_of_two_contradictory_reports_stands(chain):
    tally = DepositTally([1, 1])
    tally.observe(0, chain.observation())
    with pytest.raises(DepositMismatch, match="first report stands"):
        tally.observe(0, fork(chain, 2).observation())
    tally.observe(1, chain.observation())
    assert tally.agreed() == chain.deposits
    assert tally.statistics().refused == 1


def test_a_validator_on_another_chain_loses_its_pending_reports_and_may_come_back(chain):
    tally = DepositTally([1, 1, 1, 1])
    tally.observe(3, fork(chain, 2).observation())
    for validator in (0, 1):
        tally.observe(validator, chain.observation())
    assert tally.agreed() == chain.deposits[:2]
    tally.observe(2, chain.observation())
    assert tally.agreed() == chain.deposits[2:]
    later = chain.add(ANN, BASE, 9)
    for validator in (2, 3, 0):
        tally.observe(validator, observed([later]))
    assert tally.agreed() == [later]


def test_reports_too_far_ahead_wait_for_the_next_report():
    chain = DepositChain()
    for _ in range(DEPOSITS_AHEAD_MAX + 1):
        chain.add(ANN, BASE, 1)
    tally = DepositTally([1, 1, 1])
    tally.observe(0, chain.observation())
    assert tally.statistics().waiting == DEPOSITS_AHEAD_MAX
    assert tally.statistics().early == 1
    tally.observe(1, chain.observation())
    tally.observe(2, chain.observation())
    assert len(tally.agreed()) == DEPOSITS_AHEAD_MAX
    for validator in range(3):
        tally.observe(validator, chain.observation(DEPOSITS_AHEAD_MAX))
    assert tally.agreed() == chain.deposits[-1:]


def test_a_validator_that_does_not_exist_is_refused_without_harm(chain):
    world = World(funded=False)
    block = (4, chain.observation())
    with pytest.raises(DepositMismatch):
        world.exchange.deposits.observe(*block)
    assert world.run(report=chain.deposits).events[0] == Deposited(0, ANN, BASE, 1)


def test_a_bad_report_in_a_block_changes_nothing_but_the_count():
    world = World(funded=False)
    chain = DepositChain()
    bad = msgspec.structs.replace(chain.add(ANN, BASE, 1), units=2)
    assert world.run(report=[bad]).events == ()
    assert world.exchange.statistics().deposits.refused == 3
    assert world.exchange.account(ANN) is None


def test_a_deposit_in_an_unknown_token_is_consumed_without_credit():
    world = World(funded=False)
    chain = DepositChain()
    chain.add(ANN, 7, 5)
    chain.add(ANN, BASE, 5)
    result = world.run(report=chain.deposits)
    assert result.events == (Deposited(1, ANN, BASE, 5),)
    assert world.exchange.deposits.accumulator == chain.deposits[-1].accumulator
    assert world.exchange.account(ANN).balances == ((5, 0), (0, 0))


def test_a_deposit_beyond_what_an_amount_can_say_is_consumed_without_credit():
    world = World(funded=False)
    chain = DepositChain()
    chain.add(ANN, BASE, AMOUNT_MAX)
    chain.add(b"\x0b" * 20, BASE, 1)
    chain.add(b"\x0b" * 20, 1, 1)
    events = world.run(report=chain.deposits).events
    assert [event.index for event in events] == [0, 2]


def test_accounts_get_dense_indexes_in_the_order_of_their_first_deposit():
    world = World(funded=False)
    chain = DepositChain()
    for owner in (b"\x05" * 20, FEES, b"\x04" * 20, b"\x05" * 20):
        chain.add(owner, BASE, 1)
    world.run(report=chain.deposits)
    indexes = [world.exchange.account(a).index for a in (FEES, b"\x05" * 20, b"\x04" * 20)]
    assert indexes == [0, 1, 2]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 6)), max_size=30))
def test_whatever_is_reported_in_whatever_pieces_credits_the_chain_in_order(reports):
    chain = DepositChain()
    for units in range(1, 7):
        chain.add(ANN, BASE, units)
    tally, consumed = DepositTally([1, 1, 1, 1]), []
    for validator, first, last in reports:
        try:
            tally.observe(validator, chain.observation(first, max(first, last)))
        except DepositMismatch:
            assert first > tally.next_index
        consumed += tally.agreed()
    for validator in range(3):
        tally.observe(validator, chain.observation())
    assert consumed + tally.agreed() == chain.deposits


def test_an_observation_without_deposits_is_fine():
    exchange = Exchange(make_genesis(), NETWORK)
    exchange.deposits.observe(0, Observation(1, b"h" * 32, 0, EMPTY_ACCUMULATOR, []))
    assert exchange.deposits.statistics().refused == 0
