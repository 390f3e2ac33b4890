"""`outcry status`: how a node is, and the network that it belongs to."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli._connect import open_viewer
from cli._options import NODE_DEFAULT, JsonOption, NodeOption
from cli._output import print_json

if TYPE_CHECKING:
    from client import Status


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("status", epilog="Example: outcry status --node http://127.0.0.1:8001 --json")(
        status
    )


def status(
    node: NodeOption = NODE_DEFAULT,
    ready: Annotated[
        bool, typer.Option("--ready", help="Exit with 1 unless the node takes orders.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a node's height, peers and health; the network id is recomputed from its genesis."""
    from cli._run import run
    from client import Status

    async def work() -> Status:
        async with open_viewer(node) as viewer:
            return await viewer.status()

    found = run(work)
    if as_json:
        print_json(found)
    else:
        checkpoint = found.checkpoint
        signed = "none yet" if checkpoint is None else f"{checkpoint.height} {checkpoint.root}"
        state = "takes orders" if found.ready else "catching up"
        lines = {
            "node": f"{found.name} ({found.role}, {found.version}), {state}",
            "network": found.network,
            "height": f"{found.height} (epoch {found.epoch}, round {found.round})",
            "signing": _signing(found),
            "passed over": ", ".join(found.passed_over) or "nobody",
            "accused": ", ".join(found.accused) or "nobody",
            "checkpoint": signed,
            "peers": f"{found.peers_connected} connected, {found.validators} validators",
            "faults": f"agreement bears {found.agreement_faults_max}, "
            f"fair order bears {found.fairness_faults_max}",
            "evm": f"block {found.evm.number}, {found.evm.deposits_credited} of "
            f"{found.evm.deposits_seen} deposits credited"
            + ("" if found.evm.reachable else ", NOT REACHABLE"),
            "rollup": str(found.rollup),
            "memory": f"{found.rss_mb:.0f} MB",
        }
        for name, value in lines.items():
            typer.echo(f"{name:<11} {value}")
    if ready and not found.ready:
        raise typer.Exit(1)


def _signing(found: "Status") -> str:
    """Whether the node signs, and if not, what it waits for."""
    if found.signing:
        return "yes"
    if found.role != "validator":
        return "no, only validators do"
    return "NO, watches until an epoch begins (journal imported, lost, or ahead of the blocks)"
