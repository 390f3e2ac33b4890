"""Blocks, roots, rollups, and what must hold after each of them."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange import BlockInput, Exchange, Refused, Withdrawal
from exchange.actions import Cancel, CancelAll, Withdraw
from exchange.events import RollupCut, Withdrawn
from exchange.faults import BlockOutOfOrder, InvalidGenesis, StateCorrupt
from exchange.genesis import Market, Token
from exchange.withdrawals import ROLLUP_WITHDRAWALS_MAX, WITHDRAWALS_PER_ACCOUNT_MAX
from primitives import keccak_tree, merkle
from primitives.anchors import withdrawal_leaf
from primitives.hashing import digest
from tests.exchange.world import (
    BASE,
    FEES,
    NETWORK,
    QUOTE,
    Trader,
    World,
    buy,
    codes,
    make_genesis,
    observed,
    sell,
)

TO = b"\x77" * 20


def next_block(world: World, *transactions) -> BlockInput:
    return BlockInput(world.exchange.height + 1, world.exchange.time_ms, transactions)


def test_heights_follow_each_other_and_time_does_not_go_back():
    world = World()
    for height, time_ms in ((1, 50), (3, 50), (2, world.exchange.time_ms - 1)):
        root = world.exchange.root
        with pytest.raises(BlockOutOfOrder) as caught:
            world.exchange.apply(BlockInput(height, time_ms, ()))
        assert caught.value.code == "E291"
        assert world.exchange.root == root
    world.run(time_ms=world.exchange.time_ms)


def test_withdrawals_are_taken_at_once_and_cut_after_the_interval():
    world = World()
    world.run(world.alice.envelope(Withdraw(QUOTE, 10, TO)), time_ms=1_000)
    world.run(world.bob.envelope(Withdraw(BASE, 20, TO), Withdraw(BASE, 5, TO)), time_ms=1_500)
    assert world.balance(world.alice, QUOTE) == (999_990, 0)
    assert world.exchange.statistics().rollups == 1
    assert world.run(time_ms=1_999).rollup is None
    result = world.run(time_ms=2_000)
    assert result.rollup.number == 2
    assert result.rollup.withdrawals == [Withdrawal(TO, BASE, 20), Withdrawal(TO, BASE, 5)]
    assert (result.rollup.deposits, result.rollup.height) == (4, result.height)
    leaves = [withdrawal_leaf(2, 0, TO, BASE, 20), withdrawal_leaf(2, 1, TO, BASE, 5)]
    assert result.rollup.withdrawal_root == keccak_tree.root(leaves)
    assert result.events == (RollupCut(2, 2, keccak_tree.root(leaves), 4),)
    assert world.run(time_ms=9_000).rollup is None


def test_withdrawals_beyond_one_rollup_block_wait_for_the_next():
    traders = [Trader(number) for number in range(10, 16)]
    world = World(funded=False)
    for trader in traders:
        world.chain.add(trader.address, BASE, 100)
    world.run(*(trader.authorize() for trader in traders), report=world.chain.deposits)
    asked = [Withdraw(BASE, 1, TO)] * 60
    first = world.run(*(trader.envelope(*asked) for trader in traders), time_ms=1_000)
    assert len(first.rollup.withdrawals) == ROLLUP_WITHDRAWALS_MAX
    second = world.run(time_ms=2_000)
    assert len(second.rollup.withdrawals) == 6 * 60 - ROLLUP_WITHDRAWALS_MAX
    assert world.exchange.statistics().waiting_withdrawals == 0


@pytest.mark.parametrize(
    ("action", "code"),
    [(Withdraw(BASE, 1_000_001, TO), "E105"), (Withdraw(2, 1, TO), "E202")],
)
def test_a_withdrawal_that_cannot_be_paid_is_refused(action, code):
    world = World()
    assert codes(world.run(world.alice.envelope(action))) == [code]
    assert world.balance(world.alice, BASE) == (1_000_000, 0)


def test_reserved_funds_cannot_be_withdrawn():
    world = World()
    out = Withdraw(QUOTE, 1_000_000, TO)
    result = world.run(world.alice.envelope(buy(1, 1), out, CancelAll(None), out))
    assert codes(result) == ["E105"]
    assert isinstance(result.events[-1], Withdrawn)


def test_an_account_has_a_limited_number_of_waiting_withdrawals():
    world = World()
    out = Withdraw(BASE, 1, TO)
    world.run(world.alice.envelope(*[out] * WITHDRAWALS_PER_ACCOUNT_MAX), time_ms=500)
    assert codes(world.run(world.alice.envelope(out), time_ms=600)) == ["E210"]
    world.run(time_ms=1_000)
    assert codes(world.run(world.alice.envelope(out), time_ms=1_100)) == []


def test_units_out_of_nowhere_stop_the_exchange():
    world = World()
    world.exchange.accounts.known(world.alice.address).wallets[BASE].free += 1
    with pytest.raises(StateCorrupt, match="deposits less") as caught:
        world.exchange.apply(next_block(world, world.alice.envelope(buy(1, 1))))
    assert caught.value.code == "E290"


def test_a_negative_balance_stops_the_exchange():
    world = World()
    wallet = world.exchange.accounts.known(world.alice.address).wallets[BASE]
    wallet.free, wallet.reserved = -1, 1_000_001
    with pytest.raises(StateCorrupt, match="-1 free"):
        world.exchange.apply(next_block(world, world.alice.envelope(buy(1, 1))))


@pytest.mark.parametrize("field", ["free", "reserved"])
def test_the_audit_finds_what_no_block_touched(field):
    world = World()
    world.run(world.alice.envelope(buy(1, 1)))
    wallet = world.exchange.accounts.known(world.alice.address).wallets[QUOTE]
    other = "reserved" if field == "free" else "free"
    setattr(wallet, field, getattr(wallet, field) - 1)
    with pytest.raises(StateCorrupt):
        world.exchange.audit()
    setattr(wallet, other, getattr(wallet, other) + 1)  # adds up again, but not with the orders
    with pytest.raises(StateCorrupt):
        world.exchange.audit()


@pytest.mark.parametrize(
    "changes",
    [
        {"markets": [Market("A-B", 0, 2, 1, 1, 0, 0)]},
        {"markets": [Market("A-B", 1, 1, 1, 1, 0, 0)]},
        {"markets": [Market("A-B", 0, 1, 1, 1, 0, 0), Market("A-B", 1, 0, 1, 1, 0, 0)]},
        {"tokens": [Token("A", 1), Token("A", 2)]},
        {"powers": [0, 0]},
    ],
)
def test_a_genesis_that_contradicts_itself_is_e292(changes):
    with pytest.raises(InvalidGenesis) as caught:
        Exchange(make_genesis(**changes), NETWORK)
    assert caught.value.code == "E292"


def test_genesis_and_network_are_part_of_the_root():
    roots = {
        Exchange(make_genesis(), NETWORK).root,
        Exchange(make_genesis(), b"m" * 32).root,
        Exchange(make_genesis(chain_id=5), NETWORK).root,
        Exchange(make_genesis(powers=[1, 1, 1, 2]), NETWORK).root,
        Exchange(make_genesis(fee_account=TO), NETWORK).root,
    }
    assert len(roots) == 5


def test_an_account_is_proved_against_the_root():
    world = World()
    world.run(world.alice.envelope(buy(5, 5)))
    index, leaf, path = world.exchange.account_proof(world.alice.address)
    tree, history, counters = world.exchange.root_parts
    assert merkle.verify(tree, index, leaf, path)
    assert digest("outcry/state/1", NETWORK, tree, history, counters) == world.exchange.root
    world.run(world.alice.envelope(Cancel(0, 1)))
    assert not merkle.verify(world.exchange.root_parts[0], index, leaf, path)


def test_the_fee_account_is_there_from_the_start():
    exchange = Exchange(make_genesis(), NETWORK)
    assert exchange.account(FEES).index == 0
    assert exchange.account(TO) is None


def test_statistics_count_what_is_there():
    world = World()
    world.run(world.alice.envelope(sell(1, 5)), world.bob.envelope(buy(1, 2)))
    found = world.exchange.statistics()
    assert (found.accounts, found.open_orders, found.trades, found.height) == (3, 1, 1, 2)
    assert (found.deposits.credited, found.waiting_withdrawals) == (4, 0)


orders = st.builds(
    lambda side, price, size: (buy if side else sell)(price, size),
    st.booleans(),
    st.integers(1, 4),
    st.integers(1, 9),
)
asks = st.one_of(
    orders,
    orders,
    st.builds(Cancel, st.just(0), st.integers(1, 9)),
    st.just(CancelAll(None)),
    st.builds(Withdraw, st.integers(0, 2), st.integers(1, 9), st.just(TO)),
)
histories = st.lists(st.lists(st.tuples(st.booleans(), asks), max_size=4), min_size=1, max_size=8)


def play(history) -> World:
    world = World()
    for block in history:
        world.run(
            *((world.alice if first else world.bob).envelope(action) for first, action in block),
            time_ms=world.exchange.time_ms + 300,
        )
    return world


@given(histories)
@settings(max_examples=25)
def test_the_same_blocks_give_the_same_roots_and_events(history):
    world = play(history)
    again = Exchange(make_genesis(), NETWORK)
    for block in world.blocks:
        result = again.apply(block)
    assert result.root == again.root == world.exchange.root
    assert again.book(0) == world.exchange.book(0)


@given(histories, st.data())
@settings(max_examples=50)
def test_any_other_input_gives_another_root(history, data):
    world = play(history)
    changed = list(world.blocks)
    number = data.draw(st.integers(0, len(changed) - 1))
    block = changed[number]
    kind = data.draw(st.sampled_from(["time", "drop", "garbage", "swap", "observe"]))
    transactions, observations, time_ms = block.transactions, block.observations, block.time_ms
    if kind == "time":
        time_ms += 1
    elif kind == "drop" and transactions:
        transactions = transactions[:-1]
    elif kind == "swap" and len(transactions) > 1:
        transactions = transactions[1:] + transactions[:1]
    elif kind == "observe":
        observations = (*observations, (3, observed(world.chain.deposits[:1])))
    else:
        transactions = (*transactions, Refused(b"g" * 32, "E101"))
    changed[number] = BlockInput(block.height, time_ms, transactions, observations)
    other = Exchange(make_genesis(), NETWORK)
    for given_block in changed:
        other.apply(given_block)
    assert other.root != world.exchange.root


def test_an_action_without_any_effect_is_bound_by_the_root_all_the_same():
    roots = set()
    for market in (None, 0, 1):
        world = World()
        assert world.run(world.alice.envelope(CancelAll(market))).events == ()
        roots.add(world.exchange.root)
    assert len(roots) == 3


def test_a_signature_or_expiry_that_differs_gives_another_root():
    roots = set()
    for last_valid in (50, 51):
        world = World()
        world.run(world.alice.envelope(buy(1, 1), last_valid=last_valid))
        roots.add(world.exchange.root)
    assert len(roots) == 2


def test_events_are_canonical_records():
    world = World()
    result = world.run(world.alice.envelope(buy(1, 1), buy(1, 1, market=9)), Refused(TO, "E101"))
    wire = msgspec.msgpack.encode(result.events)
    kinds = tuple(type(event) for event in result.events)
    assert [row[0] for row in msgspec.msgpack.decode(wire)] == [5, 2, 1]
    assert [kind.__name__ for kind in kinds] == ["Placed", "ActionRejected", "Rejected"]
