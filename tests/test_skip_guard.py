"""A test that is skipped without being on the list fails the run, and says so."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
SKIPS = """
import pytest

def test_passes():
    pass

@pytest.mark.skip(reason="the moon is full")
def test_on_full_moon():
    raise AssertionError
"""


def run_suite(folder: Path, allowed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    tests = folder / "tests"
    tests.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  cluster: c\n  extras: e\n")
    shutil.copy(CONFTEST, tests / "conftest.py")
    (tests / "allowed_skips.txt").write_text(allowed)
    (tests / "test_moon.py").write_text(SKIPS)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(tests)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_a_skip_outside_the_list_fails_the_run(tmp_path: Path, workers: tuple[str, ...]) -> None:
    run = run_suite(tmp_path, "", *workers)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "test_on_full_moon: Skipped: the moon is full" in run.stdout


def test_a_skip_on_the_list_passes(tmp_path: Path) -> None:
    run = run_suite(tmp_path, "tests/test_moon.py::*moon | tides\n")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed, 1 skipped" in run.stdout


def test_a_list_without_a_reason_is_refused(tmp_path: Path) -> None:
    run = run_suite(tmp_path, "tests/test_moon.py::*moon |\n")
    assert run.returncode == 4
    assert "no reason given" in run.stderr


def test_a_module_that_skips_itself_counts_too(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_absent.py").write_text(
        "import pytest\npytest.importorskip('no_such_package')\n"
    )
    shutil.copy(CONFTEST, tmp_path / "tests" / "conftest.py")
    (tmp_path / "tests" / "allowed_skips.txt").write_text("")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 1, run.stdout + run.stderr
    assert "tests/test_absent.py" in run.stdout
