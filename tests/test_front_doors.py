"""What a room shows to others is pinned, explained and really there.

After a wanted change: `.venv/bin/python scripts/front_doors.py`, and commit what it writes.
"""

import ast
import importlib
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PINNED: dict[str, list[str]] = json.loads(Path(__file__).with_name("front_doors.json").read_text())


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_doors", ROOT / "scripts" / "front_doors.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_front_doors_show_what_is_pinned() -> None:
    assert script().front_doors() == PINNED, "wanted? run scripts/front_doors.py"


@pytest.mark.parametrize("room", PINNED)
def test_every_public_name_exists(room: str) -> None:
    package = importlib.import_module(room)
    assert [name for name in PINNED[room] if not hasattr(package, name)] == []


@pytest.mark.parametrize("room", PINNED)
def test_a_front_door_explains_itself_with_an_example(room: str) -> None:
    docstring = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text())) or ""
    assert any(line.startswith("    ") for line in docstring.splitlines()), docstring


def test_public_names_are_re_exports_and_own_definitions() -> None:
    source = """
import json
from a.b import C as C, D, E as F
from . import g as g
LIMIT: int = 3
_hidden = 1
def make(): ...
class Thing: ...
"""
    assert script().public_names(source) == ["C", "LIMIT", "Thing", "g", "make"]
