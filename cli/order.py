"""`outcry order`: placing, cancelling and listing orders."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cli._connect import finish, open_trader, open_wallet
from cli._options import (
    NODE_DEFAULT,
    WALLET_DEFAULT,
    JsonOption,
    NodeOption,
    WaitOption,
    WalletOption,
)
from cli._output import print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from client import OrderView, Submission, Trader

app = typer.Typer(help="Place, cancel and list orders.", no_args_is_help=True)

ROWS_DEFAULT = 50
ROWS_MAX = 1_000

MarketArgument = Annotated[str, typer.Argument(help="The market, such as XOM-USD.")]


@app.command("place", epilog="Example: outcry order place XOM-USD buy 5 1.05")
def place(
    market: MarketArgument,
    side: Annotated[Literal["buy", "sell"], typer.Argument(help="buy or sell.")],
    size: Annotated[str, typer.Argument(help="How much of the base token.")],
    price: Annotated[
        str | None, typer.Argument(help="Quote tokens for one base token; none: at the market.")
    ] = None,
    lifetime: Annotated[
        Literal["gtc", "ioc", "fok", "post-only"] | None,
        typer.Option("--lifetime", help="Default: gtc with a price, ioc without one."),
    ] = None,
    client_id: Annotated[
        str, typer.Option("--client-id", help="Your own name for the order, to cancel it by.")
    ] = "",
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Place an order, and say what became of it."""
    from cli._run import run
    from exchange.actions import Lifetime, Side

    opened = open_wallet(wallet)
    chosen = None if lifetime is None else Lifetime[lifetime.replace("-", "_").upper()]

    async def work() -> dict[str, Any]:
        async with open_trader(node, opened) as trader:
            action = trader.order(market, Side[side.upper()], size, price, chosen, client_id)
            sent = await trader.batch([action])
            told = await finish(trader, sent, wait=wait)
            orders = await trader.placed_by(sent.id) if wait else []
            return told | {"orders": [_row(trader, item) for item in orders]}

    told = run(work)
    if as_json:
        print_json(told)
        return
    for order in told["orders"]:
        typer.echo(
            f"order {order['order']}: {order['side']} {order['size']} {order['market']}"
            f" at {order['price']}, {order['filled']} filled, {order['status']}"
        )
    if not told["orders"]:
        typer.echo(f"{told['state']}: envelope {told['envelope']}")


@app.command("cancel", epilog="Example: outcry order cancel XOM-USD 17")
def cancel(
    market: MarketArgument,
    order: Annotated[str, typer.Argument(help="The order's number, or your client id.")],
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Cancel one open order, by its number or by the client id it was placed with."""
    which: int | str = int(order) if order.isascii() and order.isdigit() else order
    _send(lambda trader: trader.cancel(market, which), node, wallet, wait=wait, as_json=as_json)


@app.command("cancel-all", epilog="Example: outcry order cancel-all --market XOM-USD")
def cancel_all(
    market: Annotated[str | None, typer.Option("--market", help="Only in this market.")] = None,
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Cancel all open orders, in one market or everywhere."""
    _send(lambda trader: trader.cancel_all(market), node, wallet, wait=wait, as_json=as_json)


def _send(
    work: "Callable[[Trader], Awaitable[Submission]]",
    node: str,
    wallet: "Path",
    *,
    wait: bool,
    as_json: bool,
) -> None:
    from cli._run import run

    opened = open_wallet(wallet)

    async def send() -> dict[str, Any]:
        async with open_trader(node, opened) as trader:
            return await finish(trader, await work(trader), wait=wait)

    told = run(send)
    if as_json:
        print_json(told)
    else:
        typer.echo(f"{told['state']}: envelope {told['envelope']}")


@app.command("list", epilog="Example: outcry order list --market XOM-USD --all")
def list_orders(
    market: Annotated[str | None, typer.Option("--market", help="Only this market.")] = None,
    closed: Annotated[bool, typer.Option("--all", help="Also orders that ended.")] = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=ROWS_MAX)] = ROWS_DEFAULT,
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """List the wallet's orders, newest first."""
    from cli._run import run

    opened = open_wallet(wallet)

    async def work() -> list[dict[str, Any]]:
        async with open_trader(node, opened) as trader:
            found = await trader.orders(market, closed=closed, limit=limit)
            return [_row(trader, item) for item in found]

    rows = run(work)
    if as_json:
        print_json({"orders": rows})
        return
    columns = ["order>", "market", "side", "price>", "size>", "filled>", "status", "client id"]
    print_table("orders", columns, [list(row.values())[:8] for row in rows])


def _row(trader: "Trader", order: "OrderView") -> dict[str, Any]:
    grid = trader.grid(order.market)
    return {
        "order": order.order,
        "market": order.market,
        "side": order.side,
        "price": grid.price_text(order.price) if order.price else "market",
        "size": grid.size_text(order.size),
        "filled": grid.size_text(order.filled),
        "status": order.status,
        "client_id": order.client_id,
        "envelope": order.envelope,
        "height": order.height,
    }
