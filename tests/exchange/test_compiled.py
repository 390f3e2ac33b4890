"""Compiled modules are those of today's sources, or are not there."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
COMPILE = ROOT / "scripts" / "compile"


def test_no_compiled_module_is_older_than_its_source():
    binaries = list((ROOT / "exchange").glob("*.so"))
    before = {path.name: path.stat().st_mtime_ns for path in binaries}
    done = subprocess.run(
        [sys.executable, str(COMPILE), "--stale"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "", "run: make compile, or make clean"
    after = {path.name: path.stat().st_mtime_ns for path in (ROOT / "exchange").glob("*.so")}
    assert before == after


def test_unknown_arguments_are_refused():
    done = subprocess.run(
        [sys.executable, str(COMPILE), "--fly"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "unknown argument" in done.stderr
