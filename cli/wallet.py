"""`outcry wallet`: keys, money on chain, deposits and claims, authorised trading keys."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    passphrase,
)
from cli._output import print_json, print_table, progress

if TYPE_CHECKING:
    from client import Trader, Wallet
    from exchange.envelope import Scope

app = typer.Typer(help="Keys, deposits and claims.", no_args_is_help=True)

SCOPES_DEFAULT = "trade,withdraw,chat"
DAYS_DEFAULT = 30.0
SECONDS_PER_DAY = 24 * 3_600
_WEI_DIGITS = 18
_KEY_CHARS_MAX = 200  # what is read of a private key

ReplaceOption = Annotated[bool, typer.Option("--replace", help="Overwrite a wallet that exists.")]
LightOption = Annotated[
    bool, typer.Option("--light", help="Spend less on the passphrase: development networks only.")
]


@app.command("new", epilog="Example: outcry wallet new --wallet alice.json")
def new(
    wallet: WalletOption = WALLET_DEFAULT,
    replace: ReplaceOption = False,
    light: LightOption = False,
    as_json: JsonOption = False,
) -> None:
    """Create a wallet: a fresh EVM key and a fresh trading key in one keystore file."""
    from client import Wallet

    _store(Wallet.create(), wallet, replace=replace, light=light, as_json=as_json)


@app.command("import", epilog="Example: outcry wallet import --wallet alice.json < key.hex")
def import_key(
    wallet: WalletOption = WALLET_DEFAULT,
    replace: ReplaceOption = False,
    light: LightOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a wallet of an EVM private key, read from standard input or typed unseen."""
    from client import Wallet

    if sys.stdin.isatty():
        key = str(typer.prompt("Private key (hex)", hide_input=True, err=True))
    else:
        key = sys.stdin.readline(_KEY_CHARS_MAX)
    _store(Wallet.from_hex(key), wallet, replace=replace, light=light, as_json=as_json)


def _store(made: "Wallet", path: Path, *, replace: bool, light: bool, as_json: bool) -> None:
    from client import WalletExists

    if path.exists() and not replace:
        raise WalletExists(path)
    given = passphrase(confirm=True)
    with progress("encrypting the keys"):
        made.save(path, given, replace=replace, light=light)
    _describe(made, path, as_json=as_json)


def _describe(wallet: "Wallet", path: Path, *, as_json: bool) -> None:
    told = {"file": str(path), "address": wallet.address}
    told["trading_key"] = "0x" + wallet.trading.public.hex()
    if as_json:
        print_json(told)
    else:
        for name, value in told.items():
            typer.echo(f"{name:<12} {value}")


@app.command("show", epilog="Example: outcry wallet show --wallet alice.json --json")
def show(wallet: WalletOption = WALLET_DEFAULT, as_json: JsonOption = False) -> None:
    """Show the wallet's address and its trading key; never its secrets."""
    _describe(open_wallet(wallet), wallet, as_json=as_json)


@app.command("balance", epilog="Example: outcry wallet balance --evm http://127.0.0.1:8545")
def balance(
    node: NodeOption = NODE_DEFAULT,
    evm: EvmOption = "",
    wallet: WalletOption = WALLET_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show what the wallet owns in the exchange and, with --evm, on the chain."""
    from cli._run import run

    opened = open_wallet(wallet)

    async def work() -> tuple[list[dict[str, Any]], str | None]:
        async with open_trader(node, opened, evm) as trader:
            return await _balances(trader, with_chain=bool(evm))

    rows, coin = run(work)
    if as_json:
        print_json({"address": opened.address, "coin": coin, "tokens": rows})
        return
    columns = ["token", "free>", "reserved>", "on chain>"]
    print_table(
        opened.address,
        columns,
        [[row["token"], row["free"], row["reserved"], row["chain"] or "?"] for row in rows],
    )
    if coin is not None:
        typer.echo(f"{coin} of the chain's own coin, for gas")


async def _balances(
    trader: "Trader", *, with_chain: bool
) -> tuple[list[dict[str, Any]], str | None]:
    from decimal import Decimal

    from client import plain, text

    held = {item.token: item for item in await trader.balances()}
    rows = []
    for number, token in enumerate(trader.genesis.exchange.tokens):
        item = held.get(number)
        row: dict[str, Any] = {"token": token.symbol, "chain": None}
        row["free"] = text(item.free if item else 0, token)
        row["reserved"] = text(item.reserved if item else 0, token)
        if with_chain:
            scale = trader.genesis.contracts[number].scale
            owned = Decimal(await trader.chain.token_balance(number)) / scale
            row["chain"] = plain(owned.scaleb(-token.decimals))
        rows.append(row)
    if not with_chain:
        return rows, None
    return rows, plain(Decimal(await trader.chain.balance()).scaleb(-_WEI_DIGITS))


@app.command(
    "deposit", epilog="Example: outcry wallet deposit USD 1000 --evm http://127.0.0.1:8545"
)
def deposit(
    token: Annotated[str, typer.Argument(help="The token's symbol, such as USD.")],
    amount: Annotated[str, typer.Argument(help="How much, in whole tokens.")],
    node: NodeOption = NODE_DEFAULT,
    evm: EvmOption = "",
    wallet: WalletOption = WALLET_DEFAULT,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Move tokens from the wallet into the exchange, and let its trading key use them.

    The trading key is authorised when the account does not know it yet.
    """
    from cli._run import run

    opened = open_wallet(wallet)

    async def work() -> dict[str, Any]:
        async with open_trader(node, opened, evm) as trader:
            with progress(f"depositing {amount} {token.upper()}"):
                mined = await trader.deposit(token, amount)
            told: dict[str, Any] = {"tx": "0x" + mined.tx.hex(), "block": mined.block}
            told |= {"gas": mined.gas, "deposit": mined.deposit, "credited": False}
            if not wait:
                return told
            with progress("waiting until the validators have credited it"):
                account = await trader.wait_credited(mined)
            told["credited"] = True
            if account.key(opened.trading.public) is None:
                sent = await trader.authorize()
                await finish(trader, sent, wait=True)
                told["authorized"] = "0x" + opened.trading.public.hex()
            return told

    told = run(work)
    if as_json:
        print_json(told)
        return
    typer.echo(f"deposited {amount} {token.upper()} in transaction {told['tx']}")
    typer.echo("credited" if told["credited"] else "not credited yet: see outcry wallet balance")


@app.command("claim", epilog="Example: outcry wallet claim --evm http://127.0.0.1:8545")
def claim(
    node: NodeOption = NODE_DEFAULT,
    evm: EvmOption = "",
    wallet: WalletOption = WALLET_DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Have all withdrawals that are ready paid out on chain."""
    from cli._run import run
    from client import text

    opened = open_wallet(wallet)

    async def work() -> list[dict[str, Any]]:
        async with open_trader(node, opened, evm) as trader:
            with progress("claiming"):
                paid = await trader.claim()
            tokens = trader.genesis.exchange.tokens
            return [
                {
                    "rollup": item.rollup,
                    "index": item.index,
                    "token": tokens[item.token].symbol,
                    "amount": text(item.units, tokens[item.token]),
                    "account": item.account,
                    "tx": "0x" + mined.tx.hex(),
                }
                for item, mined in paid
            ]

    rows = run(work)
    if as_json:
        print_json({"claimed": rows})
    elif not rows:
        typer.echo("nothing can be claimed now; a withdrawal waits for the next rollup block")
    else:
        columns = ["rollup>", "index>", "token", "amount>", "account", "tx"]
        print_table("claimed", columns, [list(row.values()) for row in rows])


@app.command("authorize", epilog="Example: outcry wallet authorize --scope trade --days 1")
def authorize(
    scope: Annotated[
        str, typer.Option("--scope", help="What it may do: trade, transfer, withdraw, chat.")
    ] = SCOPES_DEFAULT,
    days: Annotated[float, typer.Option("--days", min=0, help="For how long.")] = DAYS_DEFAULT,
    key: Annotated[
        str, typer.Option("--key", help="Another Ed25519 public key than the wallet's, in hex.")
    ] = "",
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Let a trading key act for the account; signed by the account's EVM key."""
    wanted = _scope(scope)
    _authorize(key, wanted, days, node=node, wallet=wallet, wait=wait, as_json=as_json)


@app.command("revoke", epilog="Example: outcry wallet revoke 0x1f..9c")
def revoke(
    key: Annotated[str, typer.Argument(help="The trading key to revoke, in hex.")],
    node: NodeOption = NODE_DEFAULT,
    wallet: WalletOption = WALLET_DEFAULT,
    wait: WaitOption = True,
    as_json: JsonOption = False,
) -> None:
    """Take all powers from a trading key."""
    _authorize(key, _scope(""), 0, node=node, wallet=wallet, wait=wait, as_json=as_json)


def _authorize(
    key: str,
    scope: "Scope",
    days: float,
    *,
    node: str,
    wallet: Path,
    wait: bool,
    as_json: bool,
) -> None:
    from cli._run import run

    public = _public_key(key) if key else None
    opened = open_wallet(wallet)

    async def work() -> dict[str, Any]:
        async with open_trader(node, opened) as trader:
            sent = await trader.authorize(scope, days * SECONDS_PER_DAY, public)
            return await finish(trader, sent, wait=wait)

    told = run(partial(work)) | {"key": "0x" + (public or opened.trading.public).hex()}
    told["scope"] = int(scope)
    if as_json:
        print_json(told)
    else:
        names = ", ".join(part.name.lower() for part in scope if part.name) or "do nothing"
        typer.echo(f"{told['state']}: key {told['key']} may {names}")


def _scope(text: str) -> "Scope":
    """Errors: BadParameter."""
    from exchange.envelope import Scope

    wanted = Scope(0)
    for name in filter(None, (part.strip().upper() for part in text.split(","))):
        if name not in Scope.__members__:
            known = ", ".join(item.lower() for item in Scope.__members__)
            raise typer.BadParameter(f"no scope {name.lower()!r}; there are {known}")
        wanted |= Scope[name]
    return wanted


def _public_key(text: str) -> bytes:
    """Errors: BadParameter."""
    try:
        public = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        public = b""
    if len(public) != 32:
        raise typer.BadParameter("a trading key is 64 hex digits, with or without 0x before")
    return public
