"""Decimal numbers become ticks, lots and units exactly, or are refused with their neighbours."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import AmountOffGrid, Grid, UnknownSymbol
from client.amounts import text, units
from exchange.genesis import ExchangeGenesis, Market, Token
from exchange.network import NetworkGenesis, TokenContract

USD = Token("USD", 4)


def test_a_price_becomes_ticks_and_back(genesis: NetworkGenesis) -> None:
    grid = Grid(genesis, "BTC-USD")
    # 1 lot = 100 units = 0.0001 BTC; 1 tick = 0.0001 USD a lot = 1 USD a BTC.
    assert grid.price("30000") == 30_000
    assert grid.price_text(30_000) == "30000"
    assert str(grid.price_step) == "1"


def test_a_size_becomes_lots_and_back(genesis: NetworkGenesis) -> None:
    grid = Grid(genesis, "btc-usd")
    assert grid.size("0.25") == 2_500
    assert grid.size(Decimal("1e-4")) == 1
    assert grid.size_text(2_500) == "0.25"


def test_a_size_between_two_lots_names_both(genesis: NetworkGenesis) -> None:
    with pytest.raises(AmountOffGrid, match=r"0\.0001 and 0\.0002"):
        Grid(genesis, "BTC-USD").size("0.00015")


def test_a_price_between_two_ticks_names_both(genesis: NetworkGenesis) -> None:
    with pytest.raises(AmountOffGrid, match="30000 and 30001"):
        Grid(genesis, "BTC-USD").price("30000.5")


def test_a_size_below_one_lot_names_only_the_lot(genesis: NetworkGenesis) -> None:
    with pytest.raises(AmountOffGrid, match=r"the nearest are 0\.0001$"):
        Grid(genesis, "BTC-USD").size("0.00001")


@pytest.mark.parametrize(
    "value", ["", "x", "0", "-1", "nan", "inf", "1e999", "1" * 70, 0.1, True, None, "1_0e", [1]]
)
def test_what_is_no_positive_exact_number_is_refused(value: object) -> None:
    with pytest.raises(AmountOffGrid):
        units(value, USD)  # type: ignore[arg-type]


def test_too_many_units_are_refused() -> None:
    with pytest.raises(AmountOffGrid, match="too large"):
        units("1" + "0" * 30, USD)


def test_an_unknown_market_names_those_that_exist(genesis: NetworkGenesis) -> None:
    with pytest.raises(UnknownSymbol, match="BTC-USD"):
        Grid(genesis, "ETH-USD")


@given(amount=st.integers(1, 2**63 - 1), decimals=st.integers(0, 9))
def test_units_survive_the_way_to_text_and_back(amount: int, decimals: int) -> None:
    token = Token("ANY", decimals)
    assert units(text(amount, token), token) == amount


@given(
    ticks=st.integers(1, 2**40),
    lots=st.integers(1, 2**40),
    tick_units=st.integers(1, 10**6),
    power=st.integers(0, 9),
    decimals=st.tuples(st.integers(0, 9), st.integers(0, 9)),
)
def test_ticks_and_lots_survive_the_way_to_text_and_back(
    ticks: int, lots: int, tick_units: int, power: int, decimals: tuple[int, int]
) -> None:
    market = Market("A-B", 1, 0, 10**power, tick_units, 0, 0)
    tokens = [Token("B", decimals[0]), Token("A", decimals[1])]
    exchange = ExchangeGenesis(1, tokens, [market], bytes(20), [1], 0)
    contract = TokenContract(bytes(20), 1)
    grid = Grid(NetworkGenesis("n", 0, exchange, [], bytes(20), 0, [contract] * 2, 60_000), "A-B")
    assert grid.price(grid.price_text(ticks)) == ticks
    assert grid.size(grid.size_text(lots)) == lots


def test_a_tick_that_is_no_finite_decimal_still_finds_whole_ticks() -> None:
    market = Market("A-B", 1, 0, 3, 1, 0, 0)  # one tick is a third of a unit
    exchange = ExchangeGenesis(1, [Token("B", 0), Token("A", 0)], [market], bytes(20), [1], 0)
    contract = TokenContract(bytes(20), 1)
    grid = Grid(NetworkGenesis("n", 0, exchange, [], bytes(20), 0, [contract] * 2, 60_000), "A-B")
    assert grid.price("7") == 21
    with pytest.raises(AmountOffGrid):
        grid.price("0.5")
