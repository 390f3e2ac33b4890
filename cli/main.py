"""The entry point: all groups of commands, faults as sentences, exit codes.

0 done, 1 refused, 2 wrong use, 3 the network is not there, 130 interrupted.
"""

import os
import sys
from importlib import metadata
from typing import Annotated

import typer

from cli import (
    account,
    book,
    chat,
    doctor,
    init,
    journal,
    market,
    node,
    order,
    status,
    trades,
    wallet,
    withdraw,
)
from cli._devnet import DevnetGroup
from primitives.faults import Fault

EXIT_REFUSED = 1
EXIT_WRONG_USE = 2
EXIT_NOT_THERE = 3
EXIT_INTERRUPTED = 130

# By code, because the classes would have to be imported before anything went wrong.
_EXITS = {
    "E442": EXIT_NOT_THERE,  # no node answered
    "E448": EXIT_NOT_THERE,  # the stream could not be resumed
    "E450": EXIT_NOT_THERE,  # no EVM endpoint answered
    "E913": EXIT_NOT_THERE,  # no Dask scheduler answered
    "E460": EXIT_WRONG_USE,  # an amount that does not fit
    "E461": EXIT_WRONG_USE,  # no such token or market
    "E462": EXIT_WRONG_USE,  # not a wallet
    "E463": EXIT_WRONG_USE,  # not a key or an address
    "E464": EXIT_WRONG_USE,  # no EVM endpoint given
}

app = typer.Typer(
    name="outcry",
    help="Trade, talk and validate on an Outcry network.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    epilog="Begin with: outcry wallet new, then outcry status --node URL",
)
app.add_typer(wallet.app, name="wallet")
app.add_typer(order.app, name="order")
app.add_typer(market.app, name="market")
app.add_typer(chat.app, name="chat")
app.add_typer(node.app, name="node")
app.add_typer(journal.app, name="journal")
app.add_typer(
    typer.Typer(cls=DevnetGroup, no_args_is_help=True),
    name="devnet",
    help="Run a whole network on this machine.",
    epilog="Example: outcry devnet up",
)
for _module in (book, trades, account, withdraw, status, init, doctor):
    _module.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            version = metadata.version("outcry")
        except metadata.PackageNotFoundError:
            version = "of a checkout that is not installed"
        typer.echo(f"outcry {version}")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    pass


def exit_code(fault: Fault) -> int:
    """The process' exit code for a fault."""
    return _EXITS.get(fault.code, EXIT_REFUSED)


def explain(fault: Fault) -> str:
    """A fault as a colleague would say it: the sentence, and what to do next."""
    sentence, advice = fault.sentence, getattr(fault, "advice", "")
    if not advice and "; " in sentence:
        sentence, _, advice = sentence.rpartition("; ")
    first = f"error {fault.code}: {sentence}"
    return f"{first}\n  next: {advice}" if advice else first


def main() -> None:
    """Run the command line and exit."""
    try:
        app(prog_name="outcry")
    except Fault as fault:
        typer.echo(explain(fault), err=True)
        raise SystemExit(exit_code(fault)) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None
    finally:
        _flush()


def _flush() -> None:
    """Whoever read our output may have gone; that is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
