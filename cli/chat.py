"""`outcry chat`: the rooms of the markets."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._connect import open_trader, open_viewer, open_wallet
from cli._options import NODE_DEFAULT, WALLET_DEFAULT, JsonOption, NodeOption, WalletOption
from cli._output import print_json, print_json_line

if TYPE_CHECKING:
    from client import ChatView

app = typer.Typer(help="Read and write in a market's room.", no_args_is_help=True)

ROWS_DEFAULT = 50
ROWS_MAX = 200

RoomArgument = Annotated[str, typer.Argument(help="The room: a market, such as XOM-USD.")]


@app.command("history", epilog="Example: outcry chat history XOM-USD --limit 10")
def history(
    room: RoomArgument,
    limit: Annotated[int, typer.Option("--limit", min=1, max=ROWS_MAX)] = ROWS_DEFAULT,
    node: NodeOption = NODE_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what was said in a room, oldest first."""
    from cli._run import run

    async def work() -> "list[ChatView]":
        async with open_viewer(node) as viewer:
            return await viewer.history(room, limit=limit)

    found = run(work)
    if as_json:
        print_json({"room": room.upper(), "messages": [_row(item) for item in found]})
    for item in [] if as_json else found:
        typer.echo(_line(item))


@app.command("say", epilog='Example: outcry chat say XOM-USD "good morning"')
def say(
    room: RoomArgument,
    text: Annotated[str, typer.Argument(help="What to say.")],
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Say something in a room, signed by the wallet's trading key."""
    from cli._run import run

    opened = open_wallet(wallet)

    async def work() -> str:
        async with open_trader(node, opened) as trader:
            return await trader.say(room, text)

    cid = run(work)
    if as_json:
        print_json({"cid": cid})
    else:
        typer.echo(f"said: {cid}")


@app.command("listen", epilog="Example: outcry chat listen XOM-USD")
def listen(
    room: RoomArgument, node: NodeOption = NODE_DEFAULT, as_json: JsonOption = False
) -> None:
    """Show a room's newest messages, then each new one, until Ctrl-C."""
    from cli._run import run

    async def work() -> None:
        async with open_viewer(node) as viewer, viewer.listen(room) as messages:
            async for item in messages:
                if as_json:
                    print_json_line(_row(item))
                else:
                    typer.echo(_line(item))

    run(work)


def _row(item: "ChatView") -> dict[str, Any]:
    return {"cid": item.cid, "account": item.account, "time_ms": item.time_ms, "text": item.text}


def _line(item: "ChatView") -> str:
    moment = datetime.fromtimestamp(item.time_ms / 1_000, UTC)
    # Colour and cursor codes in a stranger's text must not reach the terminal.
    shown = "".join(sign if sign.isprintable() else "\ufffd" for sign in item.text)
    return f"{moment:%Y-%m-%d %H:%M:%S}  {item.account[:10]}  {shown}"
