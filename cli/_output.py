"""How commands print: tables for people, JSON for programs, progress on the side."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


def print_json(value: Any) -> None:
    """`value` as indented JSON on standard output; structs become objects."""
    # Imported here: `outcry --help` prints no JSON.
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(value, enc_hook=_encoded), indent=2)
    typer.echo(text.decode())


def check_target(path: Path | None) -> None:
    """Refuse a file that could not be written at the end, before anything long begins.

    Errors: BadParameter, exit code 2.
    """
    if path is None:
        return
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written; name a file in a folder that exists")


def check_folder(path: Path) -> None:
    """The same for a folder that will be made when it is needed."""
    nearest = path.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be made in {nearest}; choose another folder")


def write_json(path: Path | None, value: Any) -> None:
    """Write `value` as indented JSON to a file, if one is given."""
    if path is None:
        return
    import msgspec

    from primitives.durable import replace_file

    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    replace_file(path.absolute(), data + b"\n")


def print_json_line(value: Any) -> None:
    """`value` as one line of JSON, flushed: for commands that go on printing."""
    import msgspec

    typer.echo(msgspec.json.encode(value, enc_hook=_encoded).decode())
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table; columns whose name ends in `>` are aligned to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table(header_style="dim")
    for column in columns:
        name = column.removesuffix(">")
        table.add_column(name, justify="right" if column.endswith(">") else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nothing may be cut where a program or a log reads it.
        console = Console(highlight=False, width=_width(columns, rows))
    # Above the table and not in it, where a long title would be broken to the table's width.
    console.print(title, style="bold", markup=False, soft_wrap=True)
    console.print(table, markup=False)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Show on the terminal that `what` is under way; nothing where there is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(f"{what} ..."):
        yield


def _width(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> int:
    cells = [[str(cell) for cell in row] for row in [columns, *rows]]
    return sum(max(len(row[i]) for row in cells) + 3 for i in range(len(columns))) + 1


def _encoded(value: Any) -> Any:
    """What msgspec does not know: bytes are 0x hex, as everywhere in the API."""
    return str(value)
