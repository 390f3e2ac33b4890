"""Writes tests/front_doors.json: the public names of every room's `__init__`.

    .venv/bin/python scripts/front_doors.py

What the file lists others may use; a change of it is a change of an interface, and is reviewed
as one. Names are read from the source: nothing is imported.
"""

import ast
import json
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINNED = ROOT / "tests" / "front_doors.json"


def rooms() -> list[str]:
    """The packages that the wheel ships."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names: list[str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return names


def public_names(source: str) -> list[str]:
    """What a front door shows: re-exports written `X as X`, and what it defines itself."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname for alias in node.names if alias.asname == alias.name}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return sorted(name for name in names if not name.startswith("_"))


def front_doors() -> dict[str, list[str]]:
    """Public names by room; a room that has no code yet is left out."""
    doors = {room: ROOT / room / "__init__.py" for room in rooms()}
    return {room: public_names(door.read_text()) for room, door in doors.items() if door.exists()}


if __name__ == "__main__":
    PINNED.write_text(json.dumps(front_doors(), indent=2) + "\n")
    print(f"{PINNED.relative_to(ROOT)}: {sum(map(len, front_doors().values()))} names")
