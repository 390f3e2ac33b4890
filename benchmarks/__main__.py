"""`python -m benchmarks`: every benchmark; one table, and benchmarks/out/latest.json.

The engine is measured twice, each time in a process of its own: as Python runs its sources, and
compiled by mypyc (`make compile`). What was compiled before stays so.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks import cluster, simulation
from benchmarks.rows import Row, show, write

PARTS = ("engine", "simulation", "cluster")
_COMPILE = Path(__file__).resolve().parent.parent / "scripts" / "compile"
_COMPILED_STAMP = _COMPILE.parent.parent / "exchange" / ".compiled"


def engine_rows() -> list[Row]:
    """The engine's rows, from sources and compiled."""
    was_compiled = _COMPILED_STAMP.exists()
    _compile("--clean")
    rows = _measure("pure Python")
    _compile()
    rows += _measure("compiled")
    if not was_compiled:
        _compile("--clean")
    return rows


def _compile(*arguments: str) -> None:
    subprocess.run([sys.executable, str(_COMPILE), *arguments], check=True)


def _measure(how: str) -> list[Row]:
    """Run `benchmarks.engine` in a fresh process and take over its rows."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "rows.json"
        subprocess.run([sys.executable, "-m", "benchmarks.engine", str(out)], check=True)
        rows = msgspec.json.decode(out.read_bytes(), type=list[Row])
    return [msgspec.structs.replace(row, name=f"{row.name} ({how})") for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=int, default=cluster.SECONDS, help="of each cluster load")
    parser.add_argument("--only", choices=PARTS, help="run one part")
    arguments = parser.parse_args()
    rows: list[Row] = []
    if arguments.only in (None, "engine"):
        rows += engine_rows()
    if arguments.only in (None, "simulation"):
        rows += simulation.measure()
    if arguments.only in (None, "cluster"):
        rows += cluster.measure(arguments.seconds)
    show(rows, title="Outcry beside its peers")
    write(rows)


if __name__ == "__main__":
    main()
