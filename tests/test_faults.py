"""Every fault has a stable code of its room's range, a row in docs/errors.md, and a test."""

import importlib.util
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from primitives.faults import Fault, RemoteFault

ROOT = Path(__file__).resolve().parent.parent


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_errors", ROOT / "scripts" / "errors.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ERRORS = script()


@pytest.fixture(scope="module")
def faults() -> list[type[Fault]]:
    """Every fault of every room; imports them all."""
    found: list[type[Fault]] = ERRORS.faults(ERRORS.rooms())
    assert found
    return found


def test_codes_are_unique(faults: list[type[Fault]]) -> None:
    counted = Counter(kind.code for kind in faults)
    shared = [f"{kind.code} {kind.__qualname__}" for kind in faults if counted[kind.code] > 1]
    assert shared == []


def test_codes_are_their_own_and_well_formed(faults: list[type[Fault]]) -> None:
    wrong = [
        f"{kind.__module__}.{kind.__name__} {kind.code}"
        for kind in faults
        if "code" not in vars(kind) or not re.fullmatch(r"E\d{3}", kind.code)
    ]
    assert wrong == []


def test_codes_lie_in_the_range_of_their_room(faults: list[type[Fault]]) -> None:
    wrong = [
        f"{kind.__module__}.{kind.__name__} {kind.code}"
        for kind in faults
        if kind.__module__.split(".")[0] not in ERRORS.RANGES[kind.code[1]][1]
    ]
    assert wrong == []


def test_every_fault_says_what_it_means(faults: list[type[Fault]]) -> None:
    assert [kind.__name__ for kind in faults if not ERRORS.meaning(kind)] == []


def test_the_page_is_what_the_classes_say() -> None:
    page = ROOT / "docs" / "errors.md"
    assert page.read_text() == ERRORS.page(), "run: .venv/bin/python scripts/errors.py"


def test_every_fault_appears_in_a_test(faults: list[type[Fault]]) -> None:
    here = Path(__file__)
    tests = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("*.py") if p != here)
    words = set(re.findall(r"\w+", tests))
    assert [f"{k.code} {k.__name__}" for k in faults if not {k.code, k.__name__} & words] == []


class _Torn(RemoteFault):
    """The page is torn
    in two.

    More.
    """

    code = "E999"

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} pages; ask for page {count} again")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (ERRORS.meaning(_Torn), "The page is torn in two."),
        (ERRORS.next_step(_Torn), "ask for page … again"),
    ],
)
def test_a_row_is_read_from_the_class(told: str, expected: str) -> None:
    assert told == expected
