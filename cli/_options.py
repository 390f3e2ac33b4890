"""The options that many commands share, and what their values mean."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

ENDPOINTS_ITEMS_MAX = 32  # more in --node or --evm: wrong use
PASSPHRASE_VARIABLE = "OUTCRY_PASSPHRASE"
NODE_DEFAULT = "http://127.0.0.1:8001"
WALLET_DEFAULT = Path("outcry-wallet.json")


def endpoints(text: str) -> list[str]:
    """The addresses in `URL,URL`. Errors: BadParameter, exit code 2."""
    found = [part.strip() for part in text.split(",") if part.strip()]
    if not 0 < len(found) <= ENDPOINTS_ITEMS_MAX:
        raise typer.BadParameter(f"give 1 to {ENDPOINTS_ITEMS_MAX} addresses")
    for one in found:
        if not one.startswith(("http://", "https://")):
            raise typer.BadParameter(f"{one!r} is not an address; one begins with http://")
    return found


def _checked(text: str) -> str:
    if text:
        endpoints(text)
    return text


NodeOption = Annotated[
    str,
    typer.Option(
        "--node",
        envvar="OUTCRY_NODE",
        metavar="URL[,URL]",
        callback=_checked,
        help="Nodes to ask; the next one is tried when one does not answer.",
    ),
]
EvmOption = Annotated[
    str,
    typer.Option(
        "--evm",
        envvar="OUTCRY_EVM",
        metavar="URL[,URL]",
        callback=_checked,
        help="JSON-RPC of the EVM chain that holds the money.",
    ),
]
WalletOption = Annotated[
    Path,
    typer.Option("--wallet", envvar="OUTCRY_WALLET", metavar="FILE", help="The wallet's keystore."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until it is executed, or return at once.")
]


def passphrase(*, confirm: bool = False) -> str:
    """The wallet's passphrase, from the environment or the terminal.

    Errors: BadParameter when there is neither.
    """
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise typer.BadParameter(
            f"no terminal to ask for the passphrase; set {PASSPHRASE_VARIABLE}"
        )
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
