"""Rooms import only downwards; the contract is also shown to refuse what it forbids."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = ROOT / "pyproject.toml"
ROOMS: list[str] = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["root_packages"]


def test_rooms_import_only_downwards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename=str(PYPROJECT), no_cache=True)
    assert status == 0, capsys.readouterr().out


def lint_house(folder: Path, extra: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Checks the real contracts on empty rooms of the same names, plus the lines of `extra`."""
    for room in ROOMS:
        (folder / room).mkdir()
        (folder / room / "__init__.py").write_text(extra.get(room, ""))
    (folder / "pyproject.toml").write_text(PYPROJECT.read_text())
    program = "from importlinter.cli import lint_imports; exit(lint_imports(no_cache=True))"
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_empty_house_is_in_order(tmp_path: Path) -> None:
    run = lint_house(tmp_path, {"node": "import p2p, consensus\n", "client": "import exchange\n"})
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("primitives", "import cli"),
        ("exchange", "from consensus import x"),
        ("storage", "def f():\n    import p2p"),
        ("p2p", "import settlement"),
        ("client", "import storage"),
        ("client", "import node"),
        ("node", "import devnet"),
        ("outcry", "import devnet"),
    ],
)
def test_an_import_that_climbs_is_refused(tmp_path: Path, room: str, line: str) -> None:
    run = lint_house(tmp_path, {room: line + "\n"})
    assert run.returncode == 1, run.stdout + run.stderr
    assert "BROKEN" in run.stdout
