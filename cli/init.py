"""`outcry init`: a node's keys and configuration."""

import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from cli._options import passphrase
from cli._output import print_json, progress
from cli.faults import NodeExists

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
LISTEN_PATTERN = re.compile(r"[0-9A-Za-z.:\[\]-]+:[0-9]{1,5}")
POWER_DEFAULT = 100
CONFIG_NAME = "node.toml"
KEYSTORE_NAME = "keys.json"
_LIGHT_SCRYPT_N = 1 << 12

_TEMPLATE = """\
# A node of an Outcry network. Paths are relative to this file.

[node]
name = "{name}"
role = "{role}"
genesis = "genesis.json"
keystore = "keys.json"
data = "data"

[p2p]
listen = "{p2p}"
# Addresses of other nodes: "/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW..."
bootstrap = []

[api]
listen = "{api}"

[evm]
endpoints = ["{evm}"]
confirmations = 12
"""


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("init", epilog="Example: outcry init --name alice --directory alice")(init)


def init(
    name: Annotated[str, typer.Option("--name", help="Lower-case letters, digits and dashes.")],
    directory: Annotated[
        Path, typer.Option("--directory", metavar="DIR", help="Where the files are written.")
    ] = Path(),
    role: Annotated[
        Literal["validator", "gateway"], typer.Option("--role", help="Whether it will vote.")
    ] = "validator",
    p2p_listen: Annotated[
        str, typer.Option("--p2p", metavar="HOST:PORT", help="Where other nodes connect.")
    ] = "0.0.0.0:4001",
    api_listen: Annotated[
        str, typer.Option("--api", metavar="HOST:PORT", help="Where traders connect.")
    ] = "127.0.0.1:8001",
    evm: Annotated[
        str, typer.Option("--evm", envvar="OUTCRY_EVM", help="JSON-RPC of the EVM chain.")
    ] = "http://127.0.0.1:8545",
    power: Annotated[int, typer.Option("--power", min=1, max=2**32)] = POWER_DEFAULT,
    light: Annotated[
        bool, typer.Option("--light", help="Spend less on the passphrase: development only.")
    ] = False,
) -> None:
    """Make a node's keys and configuration, and print the record for the genesis as JSON.

    Existing files are never overwritten. Give the printed record to whoever writes the genesis,
    put the finished genesis.json beside the configuration, then run: outcry node run.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise typer.BadParameter("--name: 1 to 32 lower-case letters, digits and dashes")
    for listen in (p2p_listen, api_listen):
        if not LISTEN_PATTERN.fullmatch(listen):
            raise typer.BadParameter(f"{listen!r} is not HOST:PORT")
    if '"' in evm or "\\" in evm or not evm.startswith(("http://", "https://")):
        raise typer.BadParameter("--evm: an address begins with http://")
    config, keystore = directory / CONFIG_NAME, directory / KEYSTORE_NAME
    for path in (config, keystore):
        if path.exists():
            raise NodeExists(path)
    given = passphrase(confirm=True)

    # Half a second of libp2p, and only this command makes keys.
    from node.keys import create_keys, save_keys
    from primitives import document
    from primitives.durable import replace_file

    directory.mkdir(parents=True, exist_ok=True)
    keys = create_keys()
    with progress("encrypting the keys"):
        if light:
            save_keys(keystore, keys, given, scrypt_n=_LIGHT_SCRYPT_N)
        else:
            save_keys(keystore, keys, given)
    text = _TEMPLATE.format(name=name, role=role, p2p=p2p_listen, api=api_listen, evm=evm)
    replace_file(config, text.encode())
    print_json(document.render(keys.public(name, power)))
    typer.echo(f"wrote {config} and {keystore}", err=True)
