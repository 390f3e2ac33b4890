"""Dependencies are explained, used, and permissive, or named as exceptions on the page."""

import ast
import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "dependencies.md").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
COPYLEFT = re.compile(r"\b[AL]?GPL|\bMPL|Mozilla|GNU|\bEUPL|\bSSPL|\bEPL", re.IGNORECASE)


def names(lines: Iterable[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in lines}


def rows(section: str) -> set[str]:
    """The first cells of the tables below a heading of the page."""
    body = PAGE.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    cells = re.findall(r"^\| ([\w.-]+) \|", body, re.MULTILINE)
    return {canonicalize_name(cell) for cell in cells if cell != "package"}


def in_turn(roots: set[str]) -> set[str]:
    """These packages and all that they require on this machine, extras included where asked."""
    seen: set[str] = set()
    waiting = [Requirement(name) for name in roots]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in seen:
            continue
        seen.add(name)
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            extras = [{"extra": extra} for extra in ["", *wanted.extras]]
            if needed.marker is None or any(needed.marker.evaluate(extra) for extra in extras):
                waiting.append(needed)
    return seen


def licence(name: str) -> str:
    told = metadata.metadata(name)
    stated = [
        value.partition("\n")[0]
        for field in ("License-Expression", "License", "Classifier")
        for value in told.get_all(field) or []
        if field != "Classifier" or value.startswith("License ::")
    ]
    return " ".join(stated)


def test_every_shipped_dependency_has_a_row() -> None:
    assert rows("What ships") == names(PYPROJECT["project"]["dependencies"])


def test_every_development_dependency_has_a_row() -> None:
    wanted = names(PYPROJECT["dependency-groups"]["build"])
    for extra in PYPROJECT["project"]["optional-dependencies"].values():
        wanted |= names(extra)
    assert rows("What only tests, checks and benchmarks need") == wanted


def test_copyleft_in_what_ships_is_named_on_the_page() -> None:
    shipped = in_turn(names(PYPROJECT["project"]["dependencies"]))
    assert len(shipped) > len(PYPROJECT["project"]["dependencies"])
    assert {name for name in shipped if COPYLEFT.search(licence(name))} == rows("Licences")


def test_every_shipped_dependency_is_imported_by_the_product() -> None:
    modules: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.split(".")[0])
    provided = metadata.packages_distributions()
    used = {canonicalize_name(name) for module in modules for name in provided.get(module, [])}
    assert names(PYPROJECT["project"]["dependencies"]) - used == set()
