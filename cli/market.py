"""`outcry market`: the markets and their history."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from cli._connect import open_viewer
from cli._options import NODE_DEFAULT, JsonOption, NodeOption
from cli._output import print_json, print_table

app = typer.Typer(help="Markets and their candles.", no_args_is_help=True)

ROWS_DEFAULT = 30
ROWS_MAX = 1_000
_PERCENT_DIGITS = 4  # parts per million to percent


@app.command("list", epilog="Example: outcry market list --json")
def list_markets(node: NodeOption = NODE_DEFAULT, as_json: JsonOption = False) -> None:
    """List the markets: their steps, fees and rules."""
    from cli._run import run

    async def work() -> list[dict[str, Any]]:
        from client import plain

        async with open_viewer(node) as viewer:
            rows = []
            for item in await viewer.markets():
                grid = viewer.grid(item.symbol)
                row: dict[str, Any] = {
                    "market": item.symbol,
                    "price_step": grid.price_text(1),
                    "size_step": plain(grid.size_step),
                    "maker_percent": item.maker_ppm / 10**_PERCENT_DIGITS,
                    "taker_percent": item.taker_ppm / 10**_PERCENT_DIGITS,
                    "rule": item.rule,
                }
                rows.append(row)
            return rows

    rows = run(work)
    if as_json:
        print_json({"markets": rows})
        return
    columns = ["market", "price step>", "size step>", "maker %>", "taker %>", "rule"]
    print_table("markets", columns, [list(row.values()) for row in rows])


@app.command("candles", epilog="Example: outcry market candles XOM-USD --interval 1h")
def candles(
    market: Annotated[str, typer.Argument(help="The market, such as XOM-USD.")],
    interval: Annotated[
        Literal["1m", "5m", "1h", "1d"], typer.Option("--interval", help="Span of one candle.")
    ] = "1m",
    limit: Annotated[int, typer.Option("--limit", min=1, max=ROWS_MAX)] = ROWS_DEFAULT,
    node: NodeOption = NODE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show candles, oldest first; spans without trades are left out."""
    from cli._run import run

    async def work() -> list[dict[str, Any]]:
        async with open_viewer(node) as viewer:
            grid = viewer.grid(market)
            return [
                {
                    "start": datetime.fromtimestamp(item.start_ms / 1_000, UTC).isoformat(),
                    "open": grid.price_text(item.open),
                    "high": grid.price_text(item.high),
                    "low": grid.price_text(item.low),
                    "close": grid.price_text(item.close),
                    "volume": grid.size_text(item.volume),
                    "trades": item.trades,
                }
                for item in await viewer.candles(market, interval, limit=limit)
            ]

    rows = run(work)
    if as_json:
        print_json({"market": market.upper(), "interval": interval, "candles": rows})
        return
    columns = ["start", "open>", "high>", "low>", "close>", "volume>", "trades>"]
    print_table(f"{market.upper()} {interval}", columns, [list(row.values()) for row in rows])
