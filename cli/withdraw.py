"""`outcry withdraw`: taking tokens out of the exchange, back to the chain."""

from typing import Annotated, Any

import typer

from cli._connect import finish, open_trader, open_wallet
from cli._options import (
    NODE_DEFAULT,
    WALLET_DEFAULT,
    EvmOption,
    JsonOption,
    NodeOption,
    WaitOption,
    WalletOption,
)
from cli._output import print_json, progress


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("withdraw", epilog="Example: outcry withdraw USD 250 --claim --evm URL")(withdraw)


def withdraw(
    token: Annotated[str, typer.Argument(help="The token's symbol, such as USD.")],
    amount: Annotated[str, typer.Argument(help="How much, in whole tokens.")],
    recipient: Annotated[
        str | None, typer.Option("--to", help="Address to be paid; the wallet's own when none.")
    ] = None,
    claim: Annotated[
        bool, typer.Option("--claim", help="Wait for the rollup block and claim; needs --evm.")
    ] = False,
    node: NodeOption = NODE_DEFAULT,
    evm: EvmOption = "",
    wallet: WalletOption = WALLET_DEFAULT,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Ask for tokens to be paid out on chain; they can be claimed after the next rollup block."""
    from cli._run import run
    from client import parse_address

    to = None if recipient is None else parse_address(recipient)
    if claim and not evm:
        raise typer.BadParameter("--claim needs --evm URL or OUTCRY_EVM")
    if claim and not wait:
        raise typer.BadParameter("--claim and --no-wait do not go together")
    opened = open_wallet(wallet)

    async def work() -> dict[str, Any]:
        async with open_trader(node, opened, evm) as trader:
            ready = sum(item.claimable for item in await trader.withdrawals()) if claim else 0
            told = await finish(trader, await trader.withdraw(token, amount, to), wait=wait)
            if not claim:
                return told
            with progress("waiting for the rollup block"):
                await trader.wait_claimable(count=ready + 1)
            with progress("claiming"):
                paid = await trader.claim()
            return told | {"claimed": ["0x" + mined.tx.hex() for _, mined in paid]}

    told = run(work)
    if as_json:
        print_json(told)
        return
    typer.echo(f"{told['state']}: envelope {told['envelope']}")
    if told.get("claimed"):
        typer.echo("paid in " + ", ".join(told["claimed"]))
    else:
        typer.echo("claim it after the next rollup block: outcry wallet claim --evm URL")
