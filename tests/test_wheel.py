"""The wheel alone is the product: its rooms, its data, its command, and nothing else of ours."""

import json
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS: list[str] = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
STEP_TIMEOUT_S = 240


def run(*command: str | Path, cwd: Path) -> str:
    """Standard output of a command that must succeed, in an environment without our paths."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd), "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, ROOT, cwd=out)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty environment with the wheel in it, that sees this one's dependencies only.

    A path file adds this environment's site-packages behind its own. Path files found *there*
    are not read, so the checkout, which an editable installation names in one, stays unseen.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    install = ["install", "--no-deps", "--no-index", "--no-cache-dir", "--no-compile"]
    run(sys.executable, "-m", "pip", "--python", python, *install, wheel, cwd=folder)
    (site,) = folder.glob("lib/python3.*/site-packages")
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(sorted(paths)) + "\n")
    return folder


def test_the_wheel_holds_the_rooms_and_nothing_else(contents: set[str]) -> None:
    top = {name.split("/")[0] for name in contents if ".dist-info/" not in name}
    assert top == set(ROOMS)


def test_the_wheel_holds_every_file_that_a_room_needs(contents: set[str]) -> None:
    needed = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in {".py", ".json", ".vy", ".typed", ".toml", ".sql"} and path.is_file()
    }
    assert needed - contents == set()
    assert {"settlement/artifacts/Vault.json", "settlement/artifacts/TestToken.json"} <= contents


def test_the_wheel_carries_its_licence(contents: set[str]) -> None:
    assert any(name.endswith("/licenses/LICENSE") for name in contents)


def test_the_command_runs_from_anywhere(environment: Path) -> None:
    assert "Usage" in run(environment / "bin" / "outcry", "--help", cwd=Path("/"))


def test_every_room_comes_from_the_wheel_alone(environment: Path) -> None:
    program = (
        "import importlib, importlib.util, json, sys\n"
        f"rooms = {{name: importlib.import_module(name).__file__ for name in {ROOMS!r}}}\n"
        f"print(json.dumps({{'rooms': rooms, 'seen': {str(ROOT)!r} in sys.path}}))\n"
    )
    told = json.loads(run(environment / "bin" / "python", "-I", "-c", program, cwd=Path("/")))
    outside = [
        file for file in told["rooms"].values() if not Path(file).is_relative_to(environment)
    ]
    assert outside == []
    assert told["seen"] is False


def test_the_installed_artifacts_can_be_read(environment: Path) -> None:
    program = (
        "import importlib.resources as r, json\n"
        "for f in (r.files('settlement') / 'artifacts').iterdir():\n"
        "    assert json.loads(f.read_text()), f\n"
        "    print(f)\n"
    )
    told = run(environment / "bin" / "python", "-I", "-c", program, cwd=Path("/"))
    assert str(environment) in told
