"""Routes about tokens and markets: books, trades, candles."""

from typing import Annotated, Final, Literal

import msgspec

from exchange.actions import Side
from exchange.faults import UnknownMarket
from exchange.network import NetworkGenesis
from node.api.route import Call, Nothing, Route
from node.api.texts import GivenSymbol, Hex20, Number, hexed
from storage import INTERVALS_MS, CandleRow, Index, TradeRow

ROWS_MAX: Final = 1_000  # more rows in one answer: E401
BOOK_LEVELS_MAX: Final = 1_000  # deeper books: E401
BOOK_LEVELS: Final = 100
TRADES: Final = 100
CANDLES: Final = 500

Limit = Annotated[int, msgspec.Meta(ge=1, le=ROWS_MAX)]
Interval = Literal["1m", "5m", "1h", "1d"]
SideText = Literal["buy", "sell"]
Level = tuple[int, int]


class TokenView(msgspec.Struct, frozen=True):
    """A token: one is 10**decimals units; one unit is `scale` of the contract's smallest."""

    id: Number
    symbol: str
    decimals: Number
    contract: Hex20
    scale: Number


class Tokens(msgspec.Struct, frozen=True):
    tokens: list[TokenView]


class MarketView(msgspec.Struct, frozen=True):
    """A market: a lot is `lot_units` of base; a tick is `tick_units` of quote for one lot."""

    id: Number
    symbol: str
    base: str
    quote: str
    base_token: Number
    quote_token: Number
    lot_units: Number
    tick_units: Number
    maker_ppm: Number
    taker_ppm: Number
    rule: str


class Markets(msgspec.Struct, frozen=True):
    markets: list[MarketView]


class BookView(msgspec.Struct, frozen=True):
    """The best levels as [price in ticks, quantity in lots], the best first.

    `checksum` is a CRC-32 over the best levels, see the documentation of the stream.
    """

    market: str
    height: Number
    sequence: Number
    checksum: Number
    bids: list[Level]
    asks: list[Level]


class TradeView(msgspec.Struct, frozen=True):
    """A trade; `number` counts those of the market, `side` is the taker's."""

    number: Number
    time_ms: Number
    height: Number
    price: Number
    size: Number
    side: SideText
    maker_order: Number
    taker_order: Number


class Trades(msgspec.Struct, frozen=True):
    """Newest first; go on with `before` = the last number."""

    market: str
    trades: list[TradeView]


class CandleView(msgspec.Struct, frozen=True):
    """The trades of one interval; prices in ticks, volume in lots."""

    start_ms: Number
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    trades: Number


class Candles(msgspec.Struct, frozen=True):
    """Oldest first; intervals without trades are absent."""

    market: str
    interval: Interval
    candles: list[CandleView]


class BookQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    symbol: GivenSymbol
    depth: Annotated[int, msgspec.Meta(ge=1, le=BOOK_LEVELS_MAX)] = BOOK_LEVELS


class TradesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    symbol: GivenSymbol
    limit: Limit = TRADES
    before: Number | None = None


class CandlesQuery(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"from_ms": "from", "to_ms": "to"},
):
    """`from` and `to` are block times in ms, [from, to); without them the newest candles."""

    symbol: GivenSymbol
    interval: Interval = "1m"
    from_ms: Number | None = None
    to_ms: Number | None = None
    limit: Limit = CANDLES


def market_id(genesis: NetworkGenesis, symbol: str) -> int:
    """The id of a market. Errors: `UnknownMarket`."""
    number = genesis.market_id(symbol)
    if number is None:
        raise UnknownMarket(f"there is no market {symbol[:32]}; see /v1/markets")
    return number


def side_text(side: int) -> SideText:
    return "buy" if side == Side.BUY else "sell"


def token_views(genesis: NetworkGenesis) -> list[TokenView]:
    pairs = zip(genesis.exchange.tokens, genesis.contracts, strict=True)
    return [
        TokenView(number, token.symbol, token.decimals, hexed(contract.address), contract.scale)
        for number, (token, contract) in enumerate(pairs)
    ]


def trade_view(row: TradeRow) -> TradeView:
    return TradeView(
        row.number,
        row.time_ms,
        row.height,
        row.price,
        row.size,
        side_text(row.side),
        row.maker_order,
        row.taker_order,
    )


def candle_view(row: CandleRow) -> CandleView:
    return CandleView(*row)


async def list_tokens(call: Call[Nothing, Nothing]) -> Tokens:
    return Tokens(token_views(call.node.genesis))


async def list_markets(call: Call[Nothing, Nothing]) -> Markets:
    exchange = call.node.genesis.exchange
    return Markets(
        [
            MarketView(
                id=number,
                symbol=market.symbol,
                base=exchange.tokens[market.base].symbol,
                quote=exchange.tokens[market.quote].symbol,
                base_token=market.base,
                quote_token=market.quote,
                lot_units=market.lot_units,
                tick_units=market.tick_units,
                maker_ppm=market.maker_ppm,
                taker_ppm=market.taker_ppm,
                rule="continuous price-time",
            )
            for number, market in enumerate(exchange.markets)
        ]
    )


async def read_book(call: Call[BookQuery, Nothing]) -> BookView:
    """Errors: `UnknownMarket`."""
    query, exchange = call.parameters, call.node.exchange
    book = exchange.book(market_id(call.node.genesis, query.symbol), query.depth)
    return BookView(
        query.symbol, exchange.height, book.sequence, book.checksum, book.bids, book.asks
    )


async def list_trades(call: Call[TradesQuery, Nothing]) -> Trades:
    """Errors: `UnknownMarket`."""
    query = call.parameters
    market = market_id(call.node.genesis, query.symbol)
    rows = await call.services.read(call.node.index.trades, market, query.limit, query.before)
    return Trades(query.symbol, [trade_view(row) for row in rows])


async def list_candles(call: Call[CandlesQuery, Nothing]) -> Candles:
    """Errors: `UnknownMarket`."""
    query = call.parameters
    market = market_id(call.node.genesis, query.symbol)
    to_ms = call.node.exchange.time_ms + 1 if query.to_ms is None else query.to_ms
    from_ms = query.from_ms
    if from_ms is None:
        rows = await call.services.read(
            newest_candles, call.node.index, market, query.interval, to_ms, query.limit
        )
    else:
        rows = await call.services.read(
            call.node.index.candles, market, query.interval, from_ms, to_ms, query.limit
        )
    return Candles(query.symbol, query.interval, [candle_view(row) for row in rows])


def newest_candles(
    index: Index, market: int, interval: str, to_ms: int, limit: int
) -> list[CandleRow]:
    """The candles of the last `limit` intervals before `to_ms`, oldest first."""
    from_ms = max(0, to_ms - limit * INTERVALS_MS[interval])
    return index.candles(market, interval, from_ms, to_ms, limit)


MARKET_ROUTES = [
    Route("GET", "/v1/tokens", "The tokens of this network", list_tokens, Tokens),
    Route("GET", "/v1/markets", "The markets of this network", list_markets, Markets),
    Route(
        "GET",
        "/v1/markets/{symbol}/book",
        "The best levels of a market",
        read_book,
        BookView,
        BookQuery,
    ),
    Route(
        "GET",
        "/v1/markets/{symbol}/trades",
        "A market's trades, newest first",
        list_trades,
        Trades,
        TradesQuery,
    ),
    Route(
        "GET",
        "/v1/markets/{symbol}/candles",
        "A market's candles, oldest first",
        list_candles,
        Candles,
        CandlesQuery,
    ),
]
