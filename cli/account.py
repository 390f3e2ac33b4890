"""`outcry account`: balances, keys and nonces of an account."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._connect import open_viewer, open_wallet
from cli._options import NODE_DEFAULT, WALLET_DEFAULT, JsonOption, NodeOption, WalletOption
from cli._output import print_json, print_table

if TYPE_CHECKING:
    from client import AccountView, Viewer


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("account", epilog="Example: outcry account --json")(account)


def account(
    address: Annotated[
        str | None, typer.Argument(help="Whose account; the wallet's when none is given.")
    ] = None,
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show an account: what it owns, what is reserved, and which keys may act for it."""
    from cli._run import run
    from client import parse_address

    owner = open_wallet(wallet).account if address is None else parse_address(address)

    async def work() -> dict[str, Any]:
        async with open_viewer(node) as viewer:
            return _told(viewer, await viewer.account(owner))

    told = run(work)
    if as_json:
        print_json(told)
        return
    title = f"{told['address']}, account {told['index']}"
    rows = [[row["token"], row["free"], row["reserved"]] for row in told["balances"]]
    print_table(title, ["token", "free>", "reserved>"], rows)
    rows = [list(row.values()) for row in told["keys"]]
    print_table("keys", ["key", "scope", "expires", "next nonce>"], rows)


def _told(viewer: "Viewer", found: "AccountView") -> dict[str, Any]:
    from client import text
    from exchange.envelope import Scope

    tokens = viewer.genesis.exchange.tokens
    return {
        "address": found.address,
        "index": found.index,
        "height": found.height,
        "balances": [
            {
                "token": item.symbol,
                "free": text(item.free, tokens[item.token]),
                "reserved": text(item.reserved, tokens[item.token]),
            }
            for item in found.balances
        ],
        "keys": [
            {
                "key": item.key,
                "scope": ",".join(part.name.lower() for part in Scope(item.scope) if part.name),
                "expires": datetime.fromtimestamp(item.expires_ms / 1_000, UTC).isoformat(),
                "next_nonce": item.next_nonce,
            }
            for item in found.keys
        ],
        "authorization_sequence": found.authorization_sequence,
    }
