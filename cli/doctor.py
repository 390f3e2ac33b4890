"""`outcry doctor`: what keeps a node from working, and what to do about it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._options import JsonOption, endpoints, passphrase
from cli._output import print_json, progress

if TYPE_CHECKING:
    from cli._checks import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("doctor", epilog="Example: outcry doctor --config alice/node.toml")(doctor)


def doctor(
    config: Annotated[
        Path, typer.Option("--config", metavar="FILE", help="The node's configuration (TOML).")
    ],
    peer: Annotated[
        str, typer.Option("--peer", metavar="URL[,URL]", help="APIs of other nodes, for the clock.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Check clock, disk, ports, peers, journal, keystore and chain of a node.

    Exit code 0 when nothing failed, 1 otherwise. A node may be running meanwhile.
    """
    nodes = endpoints(peer) if peer else []
    given = passphrase()
    with progress("looking"):
        findings = _findings(config, given, nodes)
    if as_json:
        rows = [
            {"check": item.check, "state": item.state, "what": item.what, "advice": item.advice}
            for item in findings
        ]
        print_json({"ok": all(item.state != "fail" for item in findings), "checks": rows})
    else:
        for item in findings:
            state = typer.style(f"{item.state:<4}", fg=_COLOURS[item.state])
            typer.echo(f"{state}  {item.check:<9} {item.what}")
            if item.advice:
                typer.echo(f"                {item.advice}")
    if any(item.state == "fail" for item in findings):
        raise typer.Exit(1)


def _findings(path: Path, given: str, nodes: list[str]) -> "list[Finding]":
    # A second of imports: consensus, storage and the keys of libp2p.
    from cli import _checks
    from node.config import load_config

    config: Any = load_config(path)
    genesis, of_genesis = _checks.check_genesis(config)
    keys, of_keystore = _checks.check_keystore(config, genesis, given)
    in_use, of_journal = _checks.check_journal(config, genesis, keys)
    answers, of_running = _checks.check_running(config, genesis)
    return [
        _checks.ok("config", f"{config.node.role} {config.node.name}"),
        of_genesis,
        of_keystore,
        of_journal,
        *of_running,
        _checks.check_disk(config),
        *_checks.check_ports(config, is_running=in_use or answers),
        *_checks.check_peers(config),
        *_checks.check_chain(config, genesis, keys),
        *_checks.check_clock(config, nodes),
    ]
