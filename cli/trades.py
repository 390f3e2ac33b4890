"""`outcry trades`: what was traded in a market, or by the wallet."""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._connect import open_trader, open_viewer, open_wallet
from cli._options import NODE_DEFAULT, WALLET_DEFAULT, JsonOption, NodeOption, WalletOption
from cli._output import print_json, print_json_line, print_table

if TYPE_CHECKING:
    from client import Grid, TradeView, Viewer

ROWS_DEFAULT = 20
ROWS_MAX = 1_000


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("trades", epilog="Example: outcry trades XOM-USD --limit 5")(trades)


def trades(
    market: Annotated[str, typer.Argument(help="The market, such as XOM-USD.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=ROWS_MAX)] = ROWS_DEFAULT,
    mine: Annotated[bool, typer.Option("--mine", help="Only the wallet's own.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the newest trades of a market."""
    from cli._run import run

    if mine and follow:
        raise typer.BadParameter("--mine and --follow do not go together")
    opened = open_wallet(wallet) if mine else None

    async def work() -> None:
        connected: AbstractAsyncContextManager[Viewer] = open_viewer(node)
        if opened is not None:
            connected = open_trader(node, opened)
        async with connected as viewer:
            grid = viewer.grid(market)
            if opened is not None:
                found = await viewer.account_trades(opened.account, market, limit=limit)
            else:
                found = await viewer.trades(market, limit=limit)
            rows = [_row(grid, trade) for trade in found]
            if follow:
                await _follow(viewer, grid, as_json=as_json)
            elif as_json:
                print_json({"market": grid.symbol, "trades": rows})
            else:
                print_table(grid.symbol, list(rows[0]) if rows else _COLUMNS, _cells(rows))

    run(work)


_COLUMNS = ["number", "time", "side", "price", "size", "height"]


def _cells(rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [list(row.values()) for row in rows]


async def _follow(viewer: "Viewer", grid: "Grid", *, as_json: bool) -> None:
    import msgspec

    from client import TradeView

    async with viewer.stream("trades", market=grid.symbol) as updates:
        async for update in updates:
            found = msgspec.convert(update.data.get("trades", []), list[TradeView])
            if update.is_snapshot:
                found = found[:ROWS_DEFAULT][::-1]
            for trade in found:
                row = _row(grid, trade)
                if as_json:
                    print_json_line(row)
                else:
                    typer.echo("  ".join(str(cell) for cell in row.values()))


def _row(grid: "Grid", trade: "TradeView") -> dict[str, Any]:
    moment = datetime.fromtimestamp(trade.time_ms / 1_000, UTC)
    row: dict[str, Any] = {
        "number": trade.number,
        "time": moment.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00"),
        "side": trade.side,
        "price": grid.price_text(trade.price),
        "size": grid.size_text(trade.size),
        "height": trade.height,
    }
    return row | ({"role": trade.role} if trade.role else {})
