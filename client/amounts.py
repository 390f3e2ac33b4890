"""People's decimal numbers and the exchange's integers, converted exactly or not at all.

    grid = Grid(genesis, "BTC-USD")
    grid.price("30000.50")       # ticks
    grid.size("0.25")            # lots
    units("12.5", token)         # units of a token
    text(units, token)           # "12.5"

One token is 10**decimals units. A size is a whole number of lots of `lot_units` base units; a
price is quote tokens for one base token, and one tick means `tick_units` quote units for one
lot. Nothing is rounded: a number between two steps is refused with both of its neighbours.
"""

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal, InvalidOperation

from client.faults import AmountOffGrid
from client.genesis import find_market
from exchange.actions import PRICE_TICKS_MAX, SIZE_LOTS_MAX
from exchange.genesis import Token
from exchange.network import NetworkGenesis
from primitives.codec import AMOUNT_MAX

Amount = Decimal | str | int
NUMBER_CHARS_MAX = 64  # longer numbers are refused with E460
_EXACT = Context(prec=120)  # products and quotients of two 64-digit numbers keep every digit


def number(value: Amount, what: str) -> Decimal:
    """`value` as a finite number above zero.

    Errors: `AmountOffGrid`. Floats are refused: 0.1 is not a tenth.
    """
    if isinstance(value, bool | float) or not isinstance(value, Decimal | str | int):
        raise AmountOffGrid(f"{what} {value!r} is not exact; give it as text such as '0.1'")
    shown = str(value).strip()
    try:
        parsed = Decimal(shown) if len(shown) <= NUMBER_CHARS_MAX else Decimal("nan")
    except InvalidOperation:
        parsed = Decimal("nan")
    if not parsed.is_finite() or abs(parsed.adjusted()) > NUMBER_CHARS_MAX:
        raise AmountOffGrid(f"{what} {shown[:40]!r} is not a number; give it as text such as '0.1'")
    if parsed <= 0:
        raise AmountOffGrid(f"{what} {shown} is not above zero; give a positive one")
    return parsed


def units(value: Amount, token: Token) -> int:
    """Units of `token` for an amount of whole tokens. Errors: `AmountOffGrid`."""
    step = Decimal(1).scaleb(-token.decimals)
    return _steps(number(value, "amount"), step, f"amount of {token.symbol}", AMOUNT_MAX)


def text(amount: int, token: Token) -> str:
    """`amount` units of `token` as people write it, without trailing zeros."""
    return plain(Decimal(amount).scaleb(-token.decimals, _EXACT))


def plain(value: Decimal) -> str:
    """A number without exponent and without trailing zeros."""
    shown = f"{value:f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


class Grid:
    """The steps of one market.

    `size_step` is one lot in base tokens; `price_step` one tick in quote tokens per base token.
    """

    def __init__(self, genesis: NetworkGenesis, symbol: str) -> None:
        """Errors: `UnknownSymbol`."""
        self.market, parameters = find_market(genesis, symbol)
        self.symbol = parameters.symbol
        self.base = genesis.exchange.tokens[parameters.base]
        self.quote = genesis.exchange.tokens[parameters.quote]
        self.size_step = Decimal(parameters.lot_units).scaleb(-self.base.decimals, _EXACT)
        tick = Decimal(parameters.tick_units).scaleb(-self.quote.decimals, _EXACT)
        # tick_units / lot_units need not be a finite decimal: prices go by value of a lot.
        self._tick_per_lot = tick
        self.price_step = _EXACT.divide(tick, self.size_step)

    def price(self, value: Amount) -> int:
        """Ticks for a price in quote tokens per base token. Errors: `AmountOffGrid`."""
        wanted = number(value, "price")
        exact = _EXACT.multiply(wanted, self.size_step)
        what = f"price in {self.symbol}"
        return _steps(exact, self._tick_per_lot, what, PRICE_TICKS_MAX, shown=(wanted, self))

    def size(self, value: Amount) -> int:
        """Lots for a size in base tokens. Errors: `AmountOffGrid`."""
        wanted = number(value, "size")
        return _steps(wanted, self.size_step, f"size in {self.symbol}", SIZE_LOTS_MAX)

    def price_text(self, ticks: int) -> str:
        """The price of `ticks` ticks as people write it."""
        whole = _EXACT.multiply(Decimal(ticks), self._tick_per_lot)
        return plain(_EXACT.divide(whole, self.size_step))

    def size_text(self, lots: int) -> str:
        """The size of `lots` lots as people write it."""
        return plain(_EXACT.multiply(Decimal(lots), self.size_step))


def _steps(
    value: Decimal,
    step: Decimal,
    what: str,
    steps_max: int,
    shown: "tuple[Decimal, Grid] | None" = None,
) -> int:
    """How many steps `value` is: a whole number from 1 to `steps_max`."""
    count = _EXACT.divide(value, step)
    written = plain(shown[0] if shown else value)
    if count > steps_max:
        raise AmountOffGrid(f"the {what} {written} is too large; give a smaller one")
    whole = int(count.to_integral_value(ROUND_FLOOR))
    if _EXACT.multiply(Decimal(whole), step) == value:
        return whole
    above = int(count.to_integral_value(ROUND_CEILING))
    if shown:
        neighbours = [shown[1].price_text(item) for item in (whole, above) if item]
    else:
        neighbours = [plain(_EXACT.multiply(Decimal(i), step)) for i in (whole, above) if i]
    raise AmountOffGrid(
        f"the {what} {written} does not fit its grid; the nearest are {' and '.join(neighbours)}"
    )
