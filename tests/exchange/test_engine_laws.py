"""The engine against the slow book, and the laws of money, over random flows."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.accounts import Account
from exchange.actions import (
    Action,
    Cancel,
    CancelAll,
    CancelClient,
    Lifetime,
    Place,
    SelfTrade,
    Side,
)
from exchange.engine import Engine
from exchange.events import Closed, Event, Filled, Placed
from exchange.faults import ActionFault
from exchange.genesis import PPM, Market
from tests.exchange.reference_book import ReferenceBook, Refusal

MARKET = Market("A-B", 0, 1, 7, 3, 1_237, 23_456)
ACCOUNTS = 3
FUNDS = [300, 250]
SOURCE = bytes(32)

places = st.builds(
    Place,
    st.just(0),
    st.sampled_from(Side),
    st.sampled_from([0, 1, 2, 3, 4, 5]),
    st.integers(1, 12),
    st.sampled_from([Lifetime.GTC, *Lifetime]),
    st.sampled_from(SelfTrade),
    st.sampled_from(["", "", "x", "y"]),
)
actions = st.one_of(
    places,
    places,
    places,
    st.builds(Cancel, st.just(0), st.integers(1, 20)),
    st.builds(CancelClient, st.just(0), st.sampled_from(["x", "y"])),
    st.builds(CancelAll, st.sampled_from([None, 0])),
)
short_flows = st.lists(st.tuples(st.integers(0, ACCOUNTS - 1), actions), max_size=40)


def long_flow(seed: int) -> list[tuple[int, Action]]:
    """Two hundred actions around three prices, so that queues grow, and funds sometimes end."""
    source = Random(seed)

    def action() -> Action:
        kind = source.random()
        if kind < 0.15:
            return Cancel(0, source.randint(1, 100))
        if kind < 0.20:
            return CancelClient(0, source.choice("xy"))
        if kind < 0.21:
            return CancelAll(source.choice([None, 0]))
        lifetime = source.choice([Lifetime.GTC, Lifetime.GTC, Lifetime.GTC, *Lifetime])
        priceless = lifetime in (Lifetime.IOC, Lifetime.FOK) and source.random() < 0.5
        return Place(
            0,
            source.choice(list(Side)),
            0 if priceless else source.choice([1, 2, 2, 3, 3, 4]),
            source.choice([1, 2, 3, 5, 8, 20]),
            lifetime,
            source.choice(list(SelfTrade)),
            source.choice(["", "", "", "x", "y"]),
        )

    return [(source.randrange(ACCOUNTS), action()) for _ in range(200)]


flows = st.one_of(short_flows, st.integers(0, 2**64 - 1).map(long_flow))


def funded(engine_accounts: int = ACCOUNTS, funds: list[int] = FUNDS) -> list[Account]:
    accounts = [Account(index, index.to_bytes(20, "big"), 2) for index in range(engine_accounts)]
    for account in accounts:
        for wallet, units in zip(account.wallets, funds, strict=True):
            wallet.free = units
    return accounts


def ask_engine(engine: Engine, account: Account, action: Action) -> str:
    try:
        if isinstance(action, Place):
            engine.place(account, action, SOURCE)
        elif isinstance(action, Cancel):
            engine.cancel(account, action)
        elif isinstance(action, CancelClient):
            engine.cancel_client(account, action)
        elif isinstance(action, CancelAll):
            engine.cancel_all(account, action)
    except ActionFault as fault:
        return fault.code
    return ""


def ask_reference(book: ReferenceBook, account: int, action: Action) -> str:
    try:
        if isinstance(action, Place):
            book.place(account, action)
        elif isinstance(action, Cancel):
            book.cancel(account, action.order)
        elif isinstance(action, CancelClient):
            book.cancel_client(account, action.client_id)
        else:
            book.cancel_all(account)
    except Refusal as refusal:
        return str(refusal)
    return ""


def told(event: Event) -> tuple[object, ...]:
    if isinstance(event, Placed):
        return ("placed", event.order, int.from_bytes(event.account, "big"))
    if isinstance(event, Filled):
        return (
            "filled",
            event.price,
            event.size,
            event.maker,
            event.maker_fee,
            event.taker,
            event.taker_fee,
        )
    assert isinstance(event, Closed)
    return ("closed", event.order, event.remaining, event.reason)


@given(flows)
@settings(max_examples=400)
def test_the_engine_does_what_the_slow_book_does(flow):
    accounts, fees = funded(), Account(9, b"f" * 20, 2)
    engine = Engine([MARKET], fees)
    slow = ReferenceBook(MARKET, [list(FUNDS) for _ in accounts])
    for number, action in flow:
        slow.said.clear()
        assert ask_engine(engine, accounts[number], action) == ask_reference(slow, number, action)
        assert [told(event) for event in engine.drain()] == slow.said
        for index, account in enumerate(accounts):
            assert [wallet.free for wallet in account.wallets] == slow.funds[index]
            assert [wallet.reserved for wallet in account.wallets] == slow.reserved(index)
        assert [wallet.free for wallet in fees.wallets] == slow.fees
        book = engine.books[0]
        assert book.bids.depth(100) == slow.depth(Side.BUY)
        assert book.asks.depth(100) == slow.depth(Side.SELL)


@given(flows)
def test_money_is_conserved_and_never_negative(flow):
    accounts, fees = funded(), Account(9, b"f" * 20, 2)
    engine = Engine([MARKET], fees)
    for number, action in flow:
        ask_engine(engine, accounts[number], action)
        for token in (0, 1):
            wallets = [account.wallets[token] for account in (*accounts, fees)]
            assert min(min(wallet.free, wallet.reserved) for wallet in wallets) >= 0
            assert sum(w.free + w.reserved for w in wallets) == ACCOUNTS * FUNDS[token]


@given(flows)
def test_levels_queues_and_accounts_agree_about_the_open_orders(flow):
    accounts = funded()
    engine = Engine([MARKET], Account(9, b"f" * 20, 2))
    for number, action in flow:
        ask_engine(engine, accounts[number], action)
    book, queued = engine.books[0], {}
    for side in (book.bids, book.asks):
        assert side.keys == sorted(set(side.keys))
        for level in side.from_best():
            orders = list(level.orders())
            assert level.quantity == sum(order.remaining for order in orders) > 0
            assert [order.number for order in orders] == sorted(o.number for o in orders)
            assert level.tail is orders[-1]
            queued |= {order.number: order for order in orders}
    assert queued == {n: order for account in accounts for n, order in account.orders.items()}
    for account in accounts:
        named = {(0, o.client_id): o for o in account.orders.values() if o.client_id}
        assert account.clients == named
    bid, ask = book.bids.best, book.asks.best
    assert bid is None or ask is None or bid.price < ask.price


parts = st.lists(st.integers(1, 50), min_size=1, max_size=12)
rates = st.tuples(st.integers(0, 100_000), st.integers(0, 100_000))


def fees_of(sizes: list[int], market: Market, split_side: Side) -> tuple[int, int]:
    """(fee on the whole order, fees on the order that fills in parts) in the token received."""
    rich = [10**12, 10**12]
    one, many = funded(2, rich)
    engine = Engine([market], Account(9, b"f" * 20, 2))
    other = Side.SELL if split_side is Side.BUY else Side.BUY
    for size in sizes:
        order = Place(0, other, 5, size, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
        engine.place(many, order, SOURCE)
    whole = Place(0, split_side, 5, sum(sizes), Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
    engine.place(one, whole, SOURCE)
    fills = [event for event in engine.drain() if isinstance(event, Filled)]
    assert len(fills) == len(sizes)
    return sum(fill.taker_fee for fill in fills), sum(fill.size for fill in fills)


@given(parts, rates, st.sampled_from(Side))
def test_a_taker_pays_for_many_fills_what_one_fill_costs(sizes, rate, side):
    market = Market("A-B", 0, 1, 7, 3, *rate)
    fee, lots = fees_of(sizes, market, side)
    received = lots * 7 if side is Side.BUY else lots * 5 * 3
    assert fee == -(-received * rate[1] // PPM)
    assert fees_of([sum(sizes)], market, side)[0] == fee


@given(parts, rates, st.sampled_from(Side))
def test_a_maker_pays_for_many_fills_what_one_fill_costs(sizes, rate, side):
    market = Market("A-B", 0, 1, 7, 3, *rate)
    maker, taker = funded(2, [10**12, 10**12])
    engine = Engine([market], Account(9, b"f" * 20, 2))
    other = Side.SELL if side is Side.BUY else Side.BUY
    rest = Place(0, side, 5, sum(sizes), Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
    engine.place(maker, rest, SOURCE)
    for size in sizes:
        take = Place(0, other, 5, size, Lifetime.IOC, SelfTrade.CANCEL_RESTING, "")
        engine.place(taker, take, SOURCE)
    fills = [event for event in engine.drain() if isinstance(event, Filled)]
    received = sum(sizes) * 7 if side is Side.BUY else sum(sizes) * 5 * 3
    assert sum(fill.maker_fee for fill in fills) == -(-received * rate[0] // PPM)
    for fill in fills:
        units = fill.size * 7 if side is Side.BUY else fill.size * 5 * 3
        assert 0 <= fill.maker_fee <= units


def test_an_order_that_takes_and_then_rests_is_rounded_up_once():
    market = Market("A-B", 0, 1, 1, 1, 100_000, 50_000)
    first, second = funded(2, [100, 100])
    engine = Engine([market], Account(9, b"f" * 20, 2))
    gtc = (Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
    engine.place(second, Place(0, Side.SELL, 1, 3, *gtc), SOURCE)
    engine.place(first, Place(0, Side.BUY, 1, 8, *gtc), SOURCE)  # takes 3: 0.15, charged 1
    engine.place(second, Place(0, Side.SELL, 1, 5, *gtc), SOURCE)  # 5 at 0.1: 0.65 in all
    fills = [event for event in engine.drain() if isinstance(event, Filled)]
    assert [fills[0].taker_fee, fills[1].maker_fee] == [1, 0]
