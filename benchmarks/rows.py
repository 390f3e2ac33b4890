"""One line of the benchmark table, the table, and `benchmarks/out/latest.json`."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

OUT_PATH = Path(__file__).parent / "out" / "latest.json"


class Row(msgspec.Struct, frozen=True):
    """Ours beside a peer's, both in `unit`; the ratio is ours / peer's.

    Without a peer `peer` is empty, and `peer_value` and `ratio` are None. `samples` are the
    single measurements of ours, of which `ours` is the median unless the name says otherwise.
    """

    name: str
    ours: float
    peer: str
    peer_value: float | None
    ratio: float | None
    unit: str
    samples: list[float]


def show(rows: Sequence[Row], *, title: str, notes: Sequence[str] = ()) -> None:
    """Print the table to the terminal."""
    table = Table(title=title)
    for heading in ("measurement", "ours", "peer", "its value", "ratio", "unit", "samples"):
        table.add_column(heading, justify="left" if heading in _TEXT else "right")
    for row in rows:
        table.add_row(
            row.name,
            _figure(row.ours),
            row.peer or "-",
            "-" if row.peer_value is None else _figure(row.peer_value),
            "-" if row.ratio is None else f"{row.ratio:.2f}",
            row.unit,
            str(len(row.samples)),
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_COLUMNS)
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)


def write(rows: Sequence[Row], path: Path = OUT_PATH) -> None:
    """Write the rows as a JSON list, replacing what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=2) + b"\n")


_FILE_COLUMNS = 110  # a table that nobody can scroll sideways is not folded at 80
_TEXT = frozenset({"measurement", "peer", "unit"})


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
