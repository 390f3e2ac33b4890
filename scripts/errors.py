"""Writes docs/errors.md: every fault that can reach a person, from the classes themselves.

    .venv/bin/python scripts/errors.py

The meaning is the first line of a class' docstring; what to do next is the part of its message
after the semicolon, with "…" where the message names something of the moment.
"""

import ast
import importlib
import inspect
import pkgutil
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

from primitives.faults import Fault, LocalFault

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"

# First digit of a code: what it is about, and the rooms that may raise it.
RANGES: dict[str, tuple[str, set[str]]] = {
    "0": ("primitives", {"primitives"}),
    "1": ("envelopes", {"primitives", "exchange", "node", "client"}),
    "2": ("exchange", {"exchange"}),
    "3": ("consensus", {"consensus"}),
    "4": ("node, API, client, command line", {"node", "client", "cli", "outcry"}),
    "5": ("p2p", {"p2p"}),
    "6": ("storage", {"storage"}),
    "7": ("settlement", {"settlement"}),
    "8": ("chat", {"chat"}),
    "9": ("devnet", {"devnet"}),
}
NEXT_REMOTE = "correct what was sent, then send it again"
NEXT_LOCAL = "read the process' log, then run `outcry doctor`"
INTRODUCTION = """\
# Errors

Every refusal carries a code that never changes. A *remote* fault is the sender's: it costs the
sender, never the process that reports it. A *local* fault is the process' own: it stops before
it signs anything. Made by `python scripts/errors.py` from the classes; do not edit.
"""


def rooms() -> list[str]:
    """The packages that the wheel ships and that have code."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names: list[str] = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return [name for name in names if (ROOT / name / "__init__.py").exists()]


def load(room: str) -> None:
    """Import every module of a room, so that all its faults exist; entry points are left out."""
    package = importlib.import_module(room)
    for module in pkgutil.walk_packages(package.__path__, f"{room}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _below(kind: type[Fault]) -> Iterator[type[Fault]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)


def faults(names: list[str]) -> list[type[Fault]]:
    """Every fault of these rooms that is raised itself: those with a code of their own."""
    for name in names:
        load(name)
    kinds = {
        kind
        for kind in _below(Fault)
        if kind.__module__.split(".")[0] in names
        and ("code" in vars(kind) or not kind.__subclasses__())
        and kind.__module__ != "primitives.faults"
    }
    return sorted(kinds, key=lambda kind: (kind.code, kind.__name__))


def _template(kind: type[Fault]) -> str:
    """The message that a class gives itself, placeholders as …; empty when it has none."""
    if "__init__" not in vars(kind):
        return ""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
            message = node.args[0] if node.args else None
            if isinstance(message, ast.Constant):
                return str(message.value)
            if isinstance(message, ast.JoinedStr):
                return "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…"
                    for part in message.values
                )
    return ""


def meaning(kind: type[Fault]) -> str:
    """The first sentence-line of the class' own docstring."""
    own = inspect.cleandoc(vars(kind).get("__doc__") or "").split("\n\n")[0]
    return " ".join(own.split())


def next_step(kind: type[Fault]) -> str:
    """What the message advises, or the general advice for whose fault it is."""
    advice = _template(kind).rpartition(";")
    if advice[1]:
        return advice[2].strip()
    return NEXT_LOCAL if issubclass(kind, LocalFault) else NEXT_REMOTE


def _row(kind: type[Fault]) -> str:
    whose = "local" if issubclass(kind, LocalFault) else "remote"
    cells = [kind.code, f"`{kind.__name__}`", whose, meaning(kind), next_step(kind)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def page() -> str:
    """The whole of docs/errors.md."""
    kinds = faults(rooms())
    parts = [INTRODUCTION]
    for digit, (title, _) in RANGES.items():
        rows = [_row(kind) for kind in kinds if kind.code[1:2] == digit]
        if rows:
            head = (
                "| code | name | whose | what it means | what to do next |\n|---|---|---|---|---|"
            )
            parts.append(f"## E{digit}xx: {title}\n\n{head}\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
    print(f"{PAGE.relative_to(ROOT)}: {len(faults(rooms()))} faults")
