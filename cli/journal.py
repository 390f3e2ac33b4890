"""`outcry journal`: what a validator has signed, and moving it to another machine."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli._options import JsonOption, passphrase
from cli._output import print_json, progress

if TYPE_CHECKING:
    from storage import JournalSummary, KindSummary

app = typer.Typer(
    help="Look at a validator's vote journal, and move it to another machine.",
    no_args_is_help=True,
    epilog="Example: outcry journal show --config alice/node.toml",
)

ConfigOption = Annotated[
    Path, typer.Option("--config", metavar="FILE", help="The node's configuration (TOML).")
]
Place = tuple[Path, bytes, bytes]  # the journal, the consensus key, the network

# What the number in a slot counts; its epoch comes before it, where there is one.
_COUNTED = {
    "vote": "round",
    "timeout": "round",
    "proposal": "round",
    "report": "sequence",
    "checkpoint": "height",
    "rollup": "number",
}
_NUMBER_BYTES = 8
_SIGNS = "may sign"
_WATCHES = "waits: signs nothing until the next epoch has begun"
_SEALED = "sealed: was exported, and signs nothing here"


@app.command("export", epilog="Example: outcry journal export --config node.toml --to alice.moved")
def export_to(
    config: ConfigOption,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The new file to write.")],
    as_json: JsonOption = False,
) -> None:
    """Write the journal of a stopped validator to a file, and seal it here.

    From then on the validator does not start here: two copies of a journal would sign twice.
    The file holds no keys. The keystore's passphrase is taken from OUTCRY_PASSPHRASE.
    """
    with progress("exporting"):
        from node.opening import JOURNAL_BYTES_MAX
        from storage import export_journal

        path, owner, network = _place(config)
        found = export_journal(path, to, owner, network, bytes_max=JOURNAL_BYTES_MAX)
    _tell(found, as_json=as_json)
    if not as_json:
        typer.echo(f"written to {to}; this machine's journal is sealed")
        typer.echo(f"next, on the other machine: outcry journal import --config FILE --from {to}")


@app.command(
    "import", epilog="Example: outcry journal import --config node.toml --from alice.moved"
)
def import_from(
    config: ConfigOption,
    source: Annotated[
        Path,
        typer.Option(
            "--from", metavar="FILE", exists=True, dir_okay=False, help="What export wrote."
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Take over the journal that was exported elsewhere for this node's consensus key.

    The validator then waits for the next epoch before it signs. A journal that is here already
    is replaced only when the export holds all that it has signed.
    The keystore's passphrase is taken from OUTCRY_PASSPHRASE.
    """
    with progress("importing"):
        from node.opening import JOURNAL_BYTES_MAX
        from storage import import_journal

        path, owner, network = _place(config)
        _make_directory(path.parent)
        found = import_journal(source, path, owner, network, bytes_max=JOURNAL_BYTES_MAX)
    _tell(found, as_json=as_json)
    if not as_json:
        typer.echo(f"imported; remove {source}, and never import it on another machine")


@app.command("show", epilog="Example: outcry journal show --config alice/node.toml --json")
def show(config: ConfigOption, as_json: JsonOption = False) -> None:
    """Show whose journal it is, what was signed last, and whether it is sealed or waits.

    The node must not be running. The keystore's passphrase is taken from OUTCRY_PASSPHRASE.
    """
    with progress("reading"):
        from node.opening import JOURNAL_BYTES_MAX
        from storage import inspect_journal

        path, owner, network = _place(config)
        found = inspect_journal(path, owner, network, bytes_max=JOURNAL_BYTES_MAX)
    _tell(found, as_json=as_json)


@app.command(
    "resume",
    epilog="Example: outcry journal resume --config alice/node.toml --copy-never-started",
)
def resume(
    config: ConfigOption,
    copy_never_started: Annotated[
        bool,
        typer.Option(
            "--copy-never-started",
            help="You are sure that no validator was ever started with the export.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Undo an export: let the validator sign here again, once the next epoch has begun.

    Only you can know that the exported copy was never used. If it was, this key signs twice.
    The keystore's passphrase is taken from OUTCRY_PASSPHRASE.
    """
    if not copy_never_started:
        raise typer.BadParameter(
            "say --copy-never-started if no validator was ever started with the export; "
            "otherwise export there, and import here"
        )
    with progress("resuming"):
        from node.opening import JOURNAL_BYTES_MAX
        from storage import resume_journal

        path, owner, network = _place(config)
        found = resume_journal(path, owner, network, bytes_max=JOURNAL_BYTES_MAX)
    _tell(found, as_json=as_json)


def _place(config_path: Path) -> Place:
    """Where the journal of a configuration lies, and whose it must be.

    Errors: those of configuration, genesis and keystore; BadParameter for a gateway.
    """
    from node.config import load_config
    from node.genesis import load_genesis
    from node.keys import load_keys
    from node.opening import JOURNAL_NAME

    config = load_config(config_path)
    if config.node.role != "validator":
        raise typer.BadParameter(f"{config_path} is a gateway's: it signs nothing")
    genesis = load_genesis(config.path(config.node.genesis))
    keys = load_keys(config.path(config.node.keystore), passphrase())
    path = config.path(config.node.data) / JOURNAL_NAME
    return path, keys.signing().public, genesis.network_id()


def _make_directory(folder: Path) -> None:
    """Errors: `StorageUnusable`."""
    from storage.faults import StorageUnusable

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageUnusable(folder, error.strerror or type(error).__name__) from error


def _tell(found: "JournalSummary", *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "owner": "0x" + found.owner.hex(),
                "network": "0x" + found.network.hex(),
                "sealed": found.sealed,
                "watch": found.watch,
                "kinds": [
                    {
                        "kind": item.kind,
                        "once": item.once,
                        "entries": item.entries,
                        "last": _last(item),
                    }
                    for item in found.kinds
                ],
            }
        )
        return
    state = _SEALED if found.sealed else _WATCHES if found.watch else _SIGNS
    lines = {
        "owner": "0x" + found.owner.hex(),
        "network": "0x" + found.network.hex(),
        "state": state,
    }
    for item in found.kinds:
        last = _last(item)
        told = "" if last is None else ", last " + " ".join(f"{k} {v}" for k, v in last.items())
        lines[item.kind] = f"{item.entries} kept{told}"
    for name, value in lines.items():
        typer.echo(f"{name:<10} {value}")


def _last(item: "KindSummary") -> dict[str, Any] | None:
    """The last slot that was signed of a kind whose slots are signed once."""
    if not item.once or item.last is None:
        return None
    counted = _COUNTED.get(item.kind)
    if counted is not None and len(item.last) == 2 * _NUMBER_BYTES:
        epoch, number = item.last[:_NUMBER_BYTES], item.last[_NUMBER_BYTES:]
        return {"epoch": int.from_bytes(epoch, "big"), counted: int.from_bytes(number, "big")}
    if counted is not None and len(item.last) == _NUMBER_BYTES:
        return {counted: int.from_bytes(item.last, "big")}
    return {"key": "0x" + item.last.hex()}
