"""`outcry book`: a market's bids and asks, once or for as long as they are watched."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._connect import open_viewer
from cli._options import NODE_DEFAULT, JsonOption, NodeOption
from cli._output import print_json, print_json_line, print_table

if TYPE_CHECKING:
    from client import BookView, Viewer

DEPTH_LEVELS_DEFAULT = 10
DEPTH_LEVELS_MAX = 1_000


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("book", epilog="Example: outcry book XOM-USD --depth 5")(book)


def book(
    market: Annotated[str, typer.Argument(help="The market, such as XOM-USD.")],
    depth: Annotated[
        int, typer.Option("--depth", min=1, max=DEPTH_LEVELS_MAX, help="Levels of each side.")
    ] = DEPTH_LEVELS_DEFAULT,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    node: NodeOption = NODE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show the best bids and asks of a market."""
    from cli._run import run

    async def work() -> None:
        async with open_viewer(node) as viewer:
            if not follow:
                _show(viewer, await viewer.book(market, depth), depth, as_json=as_json)
                return
            symbol = viewer.grid(market).symbol
            async with viewer.stream("book", market=symbol) as updates:
                async for update in updates:
                    if update.book is None:
                        continue
                    if as_json:
                        print_json_line(_rows(viewer, update.book, depth))
                    else:
                        _show(viewer, update.book, depth, as_json=False)

    run(work)


def _show(viewer: "Viewer", found: "BookView", depth: int, *, as_json: bool) -> None:
    told = _rows(viewer, found, depth)
    if as_json:
        print_json(told)
        return
    bids, asks = told["bids"], told["asks"]
    rows = []
    for i in range(max(len(bids), len(asks))):
        bid = bids[i] if i < len(bids) else ("", "")
        ask = asks[i] if i < len(asks) else ("", "")
        rows.append([bid[1], bid[0], ask[0], ask[1]])
    title = f"{found.market} at height {found.height}"
    print_table(title, ["size>", "bid>", "ask>", "size>"], rows)


def _rows(viewer: "Viewer", found: "BookView", depth: int) -> dict[str, Any]:
    grid = viewer.grid(found.market)
    sides = {"bids": found.bids, "asks": found.asks}
    return {
        "market": found.market,
        "height": found.height,
        "sequence": found.sequence,
        **{
            name: [(grid.price_text(price), grid.size_text(size)) for price, size in levels[:depth]]
            for name, levels in sides.items()
        },
    }
