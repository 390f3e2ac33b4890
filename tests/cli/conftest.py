"""Running the command: in this process for speed, or in one of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog

from cli.main import main
from tests.client.single_node import SingleNode, running_network

STEP_TIMEOUT_S = 60


@dataclass(frozen=True)
class Done:
    """What a run of the command left."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Commands configure the process' logs; other tests must not notice."""
    kept = structlog.get_config()
    yield
    structlog.configure(**kept)


@pytest.fixture
def outcry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Done]:
    """Run the command here, in an empty directory, with "secret" as the passphrase."""
    for name in [name for name in os.environ if name.startswith("OUTCRY_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OUTCRY_PASSPHRASE", "secret")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["outcry", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        assert isinstance(code, int)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return run


@pytest.fixture
def outcry_process(tmp_path: Path) -> Callable[..., Done]:
    """Run the command in a process of its own, in an empty directory."""

    def run(*words: str, stdin: str = "", **environment: str) -> Done:
        clean = {name: v for name, v in os.environ.items() if not name.startswith("OUTCRY_")}
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words],
            cwd=tmp_path,
            env={**clean, "COLUMNS": "100", **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SingleNode]:
    """A real validator on a real chain."""
    with running_network(tmp_path_factory.mktemp("network")) as running:
        yield running
