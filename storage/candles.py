"""Candles: the trades of one market in fixed spans of block time, in exact integers."""

from collections.abc import Iterable
from typing import Final

from storage.rows import CandleRow, TradeRow

INTERVALS_MS: Final = {"1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": 86_400_000}
_INTEGER_MAX: Final = 2**63 - 1

UPSERT: Final = f"""
INSERT INTO candles VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT(market, interval_ms, start_ms) DO UPDATE SET
    high = max(high, excluded.high), low = min(low, excluded.low), close = excluded.close,
    volume = CASE WHEN volume > {_INTEGER_MAX} - excluded.volume THEN {_INTEGER_MAX}
                  ELSE volume + excluded.volume END,
    trades = trades + excluded.trades
"""  # SQLite would turn an integer sum beyond 64 bits into a float


def candles_of(trades: Iterable[TradeRow]) -> dict[tuple[int, int, int], CandleRow]:
    """The candles that these trades alone make, by (market, interval in ms, start in ms)."""
    made: dict[tuple[int, int, int], CandleRow] = {}
    for trade in trades:
        for interval in INTERVALS_MS.values():
            start = trade.time_ms - trade.time_ms % interval
            key = (trade.market, interval, start)
            made[key] = _extended(made.get(key), start, trade)
    return made


def _extended(candle: CandleRow | None, start: int, trade: TradeRow) -> CandleRow:
    price = trade.price
    if candle is None:
        return CandleRow(start, price, price, price, price, trade.size, 1)
    return CandleRow(
        start,
        candle.open,
        max(candle.high, price),
        min(candle.low, price),
        price,
        min(candle.volume + trade.size, _INTEGER_MAX),
        candle.trades + 1,
    )
