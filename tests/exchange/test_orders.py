"""Orders through signed envelopes: each lifetime, each refusal, each self-trade mode."""

import pytest

from exchange.actions import Cancel, CancelAll, CancelClient, Lifetime, Place, SelfTrade, Side
from exchange.engine import OPEN_ORDERS_PER_ACCOUNT_MAX
from exchange.events import ActionRejected, Closed, Filled, Placed
from exchange.faults import UnknownMarket
from tests.exchange.world import BASE, QUOTE, World, buy, codes, sell

IOC, FOK, POST_ONLY = Lifetime.IOC, Lifetime.FOK, Lifetime.POST_ONLY


@pytest.fixture
def world() -> World:
    return World()


def kinds(result) -> list[object]:
    return [
        (type(e).__name__, e.reason) if isinstance(e, Closed) else type(e).__name__
        for e in result.events
    ]


def test_a_resting_bid_reserves_its_notional_and_an_ask_its_size(world):
    world.run(world.alice.envelope(buy(5, 3)), world.bob.envelope(sell(9, 4)))
    assert world.balance(world.alice, QUOTE) == (1_000_000 - 30, 30)
    assert world.balance(world.bob, BASE) == (1_000_000 - 40, 40)


def test_a_trade_happens_at_the_makers_price_and_each_side_pays_from_what_it_gets(world):
    world.run(world.alice.envelope(sell(100, 10)))
    result = world.run(world.bob.envelope(buy(120, 10)))
    (fill,) = [event for event in result.events if isinstance(event, Filled)]
    assert (fill.price, fill.size, fill.side, fill.trade) == (100, 10, Side.BUY, 1)
    assert (fill.maker_fee, fill.taker_fee) == (2, 1)  # 0.1% of 2000 quote, 0.2% of 100 base
    assert world.balance(world.bob, QUOTE) == (1_000_000 - 2_000, 0)
    assert world.balance(world.bob, BASE) == (1_000_000 + 99, 0)
    assert world.balance(world.alice, QUOTE) == (1_000_000 + 1_998, 0)
    fees = world.exchange.account(world.exchange.genesis.fee_account)
    assert fees.balances == ((1, 0), (2, 0))


def test_better_prices_come_first_and_equal_ones_in_the_order_of_arrival(world):
    world.run(world.alice.envelope(sell(102, 1), sell(101, 1), sell(101, 1), sell(100, 1)))
    result = world.run(world.bob.envelope(buy(102, 4)))
    fills = [(e.maker, e.price) for e in result.events if isinstance(e, Filled)]
    assert fills == [(4, 100), (2, 101), (3, 101), (1, 102)]


def test_ioc_closes_what_does_not_match_at_once(world):
    world.run(world.alice.envelope(sell(100, 1)))
    result = world.run(world.bob.envelope(buy(100, 3, lifetime=IOC)))
    assert kinds(result) == ["Placed", "Filled", ("Closed", "filled"), ("Closed", "unfilled")]
    assert result.events[-1].remaining == 2
    assert world.balance(world.bob, QUOTE) == (1_000_000 - 200, 0)


def test_fok_fills_whole_or_is_refused_with_e206(world):
    world.run(world.alice.envelope(sell(100, 2)))
    assert codes(world.run(world.bob.envelope(buy(100, 3, lifetime=FOK)))) == ["E206"]
    assert world.balance(world.bob, QUOTE) == (1_000_000, 0)
    assert kinds(world.run(world.bob.envelope(buy(100, 2, lifetime=FOK))))[-1] == (
        "Closed",
        "filled",
    )


@pytest.mark.parametrize(
    ("mode", "fills"),
    [
        (SelfTrade.CANCEL_RESTING, True),
        (SelfTrade.CANCEL_INCOMING, False),
        (SelfTrade.CANCEL_BOTH, False),
    ],
)
def test_fok_passes_its_own_orders_only_when_these_would_be_cancelled(world, mode, fills):
    world.run(world.bob.envelope(sell(100, 1)), world.alice.envelope(sell(100, 2)))
    result = world.run(world.bob.envelope(buy(100, 2, lifetime=FOK, self_trade=mode)))
    assert codes(result) == ([] if fills else ["E206"])
    assert len(world.exchange.open_orders(world.bob.address)) == (0 if fills else 1)


def test_fok_ahead_of_its_own_order_fills_and_leaves_that_order_alone(world):
    world.run(world.alice.envelope(sell(100, 2)), world.bob.envelope(sell(100, 1)))
    order = buy(100, 2, lifetime=FOK, self_trade=SelfTrade.CANCEL_BOTH)
    assert codes(world.run(world.bob.envelope(order))) == []
    assert len(world.exchange.open_orders(world.bob.address)) == 1


def test_post_only_rests_or_is_refused_with_e205(world):
    world.run(world.alice.envelope(sell(100, 1)))
    assert codes(world.run(world.bob.envelope(buy(100, 1, lifetime=POST_ONLY)))) == ["E205"]
    assert kinds(world.run(world.bob.envelope(buy(99, 1, lifetime=POST_ONLY)))) == ["Placed"]


def test_a_market_buy_stops_where_the_money_ends(world):
    world.run(world.alice.envelope(sell(400, 1_000)))
    result = world.run(world.bob.envelope(buy(0, 2_000, lifetime=IOC)))
    assert result.events[-1].reason == "unfilled"
    assert result.events[-1].remaining == 2_000 - 1_000
    world.run(world.alice.envelope(sell(7_000, 100)))
    result = world.run(world.bob.envelope(buy(0, 100, lifetime=IOC)))
    assert (result.events[-1].reason, result.events[-1].remaining) == ("unfilled", 100 - 14)
    assert world.balance(world.bob, QUOTE) == (200_000 - 14 * 14_000, 0)


def test_a_market_order_that_must_fill_is_refused_when_it_costs_too_much(world):
    world.run(world.alice.envelope(sell(7_000, 100)))
    assert codes(world.run(world.bob.envelope(buy(0, 72, lifetime=FOK)))) == ["E105"]
    assert codes(world.run(world.bob.envelope(buy(0, 71, lifetime=FOK)))) == []


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (buy(500_001, 1), "E105"),
        (sell(1, 100_001), "E105"),
        (sell(0, 100_001, lifetime=IOC), "E105"),
        (buy(1, 1, market=2), "E201"),
        (buy(0, 1), "E207"),
        (buy(0, 1, lifetime=POST_ONLY), "E207"),
        (buy(2**40, 2**40), "E207"),
        (buy(0, 1, market=1, lifetime=IOC), "E209"),
        (sell(0, 1, market=1, lifetime=FOK), "E209"),
        (Cancel(0, 99), "E203"),
        (Cancel(5, 99), "E201"),
        (CancelClient(0, "nobody"), "E203"),
        (CancelClient(9, "nobody"), "E201"),
        (CancelAll(9), "E201"),
    ],
)
def test_a_refused_action_says_its_code_and_changes_nothing(world, order, code):
    world.run(world.bob.envelope(buy(1, 1)))
    before = world.exchange.account(world.alice.address).balances
    result = world.run(world.alice.envelope(order))
    assert codes(result) == [code]
    assert world.exchange.account(world.alice.address).balances == before
    assert world.exchange.statistics().open_orders == 1


def test_a_market_buy_without_money_for_one_lot_is_refused_with_e105():
    world = World()
    world.run(world.alice.envelope(sell(600_000, 1)))
    assert codes(world.run(world.bob.envelope(buy(0, 1, lifetime=IOC)))) == ["E105"]


def test_a_refused_action_leaves_the_others_of_its_envelope_alone(world):
    result = world.run(world.alice.envelope(buy(5, 1), buy(5, 1, market=7), buy(6, 1)))
    assert kinds(result) == ["Placed", "ActionRejected", "Placed"]
    assert isinstance(result.events[1], ActionRejected)
    assert result.events[1].position == 1


def test_a_client_id_is_unique_among_the_open_orders_of_an_account_in_a_market(world):
    result = world.run(
        world.alice.envelope(buy(5, 1, client_id="a"), buy(5, 1, client_id="a")),
        world.alice.envelope(buy(5, 1, market=1, client_id="a")),
        world.bob.envelope(buy(5, 1, client_id="a")),
        world.alice.envelope(CancelClient(0, "a"), buy(5, 1, client_id="a")),
    )
    assert codes(result) == ["E204"]
    rejected = next(event for event in result.events if isinstance(event, ActionRejected))
    assert rejected.client_id == "a"


def test_one_cannot_cancel_the_order_of_another_or_in_another_market(world):
    world.run(world.alice.envelope(buy(5, 1)))
    result = world.run(world.bob.envelope(Cancel(0, 1)), world.alice.envelope(Cancel(1, 1)))
    assert codes(result) == ["E203", "E203"]
    assert kinds(world.run(world.alice.envelope(Cancel(0, 1)))) == [("Closed", "cancelled")]
    assert world.balance(world.alice, QUOTE) == (1_000_000, 0)


def test_cancel_all_goes_in_the_order_of_placement_and_keeps_to_its_market(world):
    orders = [buy(5, 1), sell(9, 1), buy(5, 1, market=1), buy(7, 1)]
    world.run(world.alice.envelope(*orders), world.bob.envelope(buy(5, 1)))
    result = world.run(world.alice.envelope(CancelAll(0)))
    assert [event.order for event in result.events] == [1, 2, 4]
    assert [event.order for event in world.run(world.alice.envelope(CancelAll(None))).events] == [3]
    assert world.run(world.alice.envelope(CancelAll(None))).events == ()


@pytest.mark.parametrize(
    ("mode", "said", "resting"),
    [
        (
            SelfTrade.CANCEL_RESTING,
            ["Placed", ("Closed", "self"), "Filled", ("Closed", "filled")],
            {3},
        ),
        (SelfTrade.CANCEL_INCOMING, ["Placed", ("Closed", "self")], {1, 2}),
        (SelfTrade.CANCEL_BOTH, ["Placed", ("Closed", "self"), ("Closed", "self")], {2}),
    ],
)
def test_an_account_never_trades_with_itself(world, mode, said, resting):
    world.run(world.alice.envelope(sell(100, 1)), world.bob.envelope(sell(100, 1)))
    result = world.run(world.alice.envelope(buy(100, 2, self_trade=mode)))
    assert kinds(result) == said
    views = [
        view.order
        for trader in (world.alice, world.bob)
        for view in world.exchange.open_orders(trader.address)
    ]
    assert set(views) == resting


def test_an_account_has_a_limited_number_of_open_orders():
    world = World()
    for _ in range(OPEN_ORDERS_PER_ACCOUNT_MAX // 50):
        assert codes(world.run(world.alice.envelope(*[buy(1, 1)] * 50))) == []
    assert codes(world.run(world.alice.envelope(buy(1, 1)))) == ["E208"]
    world.run(world.bob.envelope(sell(2, 1)))
    result = world.run(world.alice.envelope(buy(2, 1, lifetime=IOC)))
    assert kinds(result) == ["Placed", "Filled", ("Closed", "filled"), ("Closed", "filled")]


def test_the_book_view_shows_levels_best_first_with_a_checksum_over_them(world):
    world.run(world.alice.envelope(buy(99, 2), buy(100, 3), buy(100, 2), sell(101, 7)))
    view = world.exchange.book(0, depth=1)
    assert (view.bids, view.asks) == ([(100, 5)], [(101, 7)])
    assert view.checksum == _crc("100:5,99:2|101:7")
    before = view.sequence
    world.run(world.bob.envelope(sell(100, 1)))
    after = world.exchange.book(0)
    assert after.sequence > before
    assert after.checksum == _crc("100:4,99:2|101:7")


def test_an_unknown_book_is_refused(world):
    with pytest.raises(UnknownMarket, match=r"0\.\.1"):
        world.exchange.book(2)


def test_placed_repeats_the_order_as_it_was_asked_for(world):
    order = buy(5, 3, client_id="mine")
    admitted = world.alice.envelope(order)
    (event,) = world.run(admitted).events
    assert event == Placed(
        admitted.id, 1, world.alice.address, 0, Side.BUY, 5, 3, Lifetime.GTC, "mine"
    )
    assert isinstance(order, Place)


def _crc(text: str) -> int:
    """CRC-32 bit by bit (ISO 3309), apart from zlib."""
    state = 0xFFFFFFFF
    for byte in text.encode():
        state ^= byte
        for _ in range(8):
            state = state >> 1 ^ (0xEDB88320 if state & 1 else 0)
    return state ^ 0xFFFFFFFF
