"""`outcry node`: running a node."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run a validator or a gateway.", no_args_is_help=True)


@app.command("run", epilog="Example: outcry node run --config alice/node.toml")
def run_node(
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="The node's configuration (TOML).")
    ],
) -> None:
    """Run a node until it is stopped by Ctrl-C or SIGTERM.

    The keystore's passphrase is taken from OUTCRY_PASSPHRASE.
    """
    from cli._run import first_of
    from node import process

    try:
        process.run_node(config)
    except BaseExceptionGroup as group:
        found = first_of(group)
        raise group if found is None else found from None
