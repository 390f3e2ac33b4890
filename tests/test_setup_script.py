"""scripts/setup, run for real on a small project of the same shape, without a network.

The small project's packages are wheels made here and found through the machine's own pip
configuration (PIP_FIND_LINKS), which the script must respect. The whole set-up from the real
lock is the `long` test at the end.
"""

import base64
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STEP_TIMEOUT_S = 120
FULL_SETUP_TIMEOUT_S = 1_200

BACKEND = '''
"""A build back end in twenty lines: an editable wheel that is one path file."""
import base64, hashlib, pathlib, zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "small-1.0-py3-none-any.whl"
    info = "small-1.0.dist-info"
    files = {
        "small.pth": str(pathlib.Path.cwd()),
        f"{info}/METADATA": "Metadata-Version: 2.1\\nName: small\\nVersion: 1.0\\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\\n" for path in files))
    return name

build_wheel = build_editable
'''
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "small"
version = "1.0"
"""


def write_wheel(folder: Path, name: str, version: str, module: str) -> str:
    """A wheel of one module; returns its line for a lock."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": module,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record += f"{file},sha256={digest.decode().rstrip('=')},{len(text)}\n"
        wheel.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    whole = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{whole}\n"


@dataclass(frozen=True)
class Checkout:
    """A small checkout in a folder whose path has spaces."""

    root: Path
    wheels: Path
    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "PYTHON": sys.executable,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": self.wheels.as_uri(),
            **more,
        }

    def setup(self, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "scripts" / "setup")],
            cwd="/",
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=STEP_TIMEOUT_S,
            check=False,
        )

    def python(self, program: str) -> str:
        python = self.root / ".venv" / "bin" / "python"
        return subprocess.check_output([str(python), "-I", "-c", program], text=True, cwd="/")

    def made(self) -> dict[Path, int]:
        """Every file of the environment with its time: unchanged when nothing was done."""
        return {path: path.lstat().st_mtime_ns for path in (self.root / ".venv").rglob("*")}


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "a check out", tmp_path / "whe els", tmp_path / "ho me")
    for folder in (made.root / "scripts", made.wheels, made.home):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "setup", made.root / "scripts" / "setup")
    (made.root / "backend.py").write_text(BACKEND)
    (made.root / "pyproject.toml").write_text(PYPROJECT)
    (made.root / "ours.py").write_text("WHERE = __file__\n")
    lock = write_wheel(made.wheels, "oneself", "1.0", "NUMBER = 1\n")
    (made.root / "requirements.lock").write_text("# made for a test\n" + lock)
    return made


def test_a_path_with_spaces_works_and_a_second_run_does_nothing(checkout: Checkout) -> None:
    first = checkout.setup()
    assert first.returncode == 0, first.stdout + first.stderr
    assert checkout.python("import oneself, ours; print(oneself.NUMBER, ours.WHERE)").split(
        maxsplit=1
    ) == ["1", f"{checkout.root / 'ours.py'}\n"]
    before = checkout.made()
    second = checkout.setup(PATH="/usr/bin:/bin", PIP_FIND_LINKS="", PYTHON="/nowhere")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert checkout.made() == before


def test_nothing_is_written_outside_the_checkout(checkout: Checkout, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # pip asks a `rustc` that it finds for its version, and rustup's then writes into HOME
    done = checkout.setup(TMPDIR=str(temporary), PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(checkout.home.iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in checkout.root.iterdir() if path.name[0] == ".") == [
        ".setup",
        ".venv",
    ]


def test_another_lock_rebuilds_and_forgets_what_it_no_longer_holds(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    lock = write_wheel(checkout.wheels, "another", "2.0", "NUMBER = 2\n")
    (checkout.root / "requirements.lock").write_text(lock)
    assert checkout.setup().returncode == 0
    program = "import another, importlib.util; print(importlib.util.find_spec('oneself'))"
    assert checkout.python(program) == "None\n"


def test_another_pyproject_only_installs_the_project_again(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    kept = (checkout.root / ".venv" / "pyvenv.cfg").stat()
    (checkout.root / "pyproject.toml").write_text(PYPROJECT + "description = 'more'\n")
    again = checkout.setup()
    assert again.returncode == 0
    assert "installing outcry itself" in again.stdout
    assert "locked packages" not in again.stdout
    assert (checkout.root / ".venv" / "pyvenv.cfg").stat().st_ino == kept.st_ino
    assert checkout.setup().stdout == ""


def test_a_wrong_hash_is_refused_with_the_tail_of_the_log(checkout: Checkout) -> None:
    write_wheel(checkout.wheels, "oneself", "1.0", "NUMBER = 'not what was locked'\n")
    refused = checkout.setup()
    assert refused.returncode == 1
    assert "HASH" in refused.stderr
    assert "  next: read" in refused.stderr
    assert not (checkout.root / ".venv" / "outcry-setup.stamp").exists()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_set_up_that_was_killed_is_made_good_by_the_next(
    checkout: Checkout, how: signal.Signals
) -> None:
    process = subprocess.Popen(
        [str(checkout.root / "scripts" / "setup")],
        env=checkout.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    first_line = process.stdout.readline()
    assert "making .venv" in first_line
    time.sleep(0.7)  # somewhere in the middle; whichever step it hits must be recoverable
    process.send_signal(how)
    process.wait(timeout=STEP_TIMEOUT_S)
    process.stdout.close()
    assert process.returncode != 0
    again = checkout.setup()
    assert again.returncode == 0, again.stdout + again.stderr
    assert checkout.python("import oneself; print(oneself.NUMBER)") == "1\n"


def commands(folder: Path, *, without: set[str]) -> str:
    """A PATH that holds what the script needs, less what a bare machine would lack."""
    folder.mkdir()
    needed = "bash env dirname sha256sum cut head tail awk grep sed rm mkdir mv flock uname cc gcc"
    for name in set(needed.split()) - without:
        found = shutil.which(name)
        if found:
            (folder / name).symlink_to(found)
    for name, text in {"id": "echo 1000", "apt-get": "exit 97"}.items():
        (folder / name).write_text(f"#!{shutil.which('bash')}\n{text}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def test_without_a_compiler_and_without_sudo_it_prints_the_one_command(
    checkout: Checkout, tmp_path: Path
) -> None:
    path = commands(tmp_path / "bin", without={"cc", "gcc"})
    refused = checkout.setup(PATH=path, CC="no-such-compiler")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "build-essential" in refused.stderr
    assert "next: sudo apt-get install -y" in refused.stderr


def test_without_a_python_it_says_what_to_do(checkout: Checkout, tmp_path: Path) -> None:
    path = commands(tmp_path / "bin", without=set())
    refused = checkout.setup(PATH=path, PYTHON=str(tmp_path / "python3.11"))
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert "no Python 3.11 or 3.12" in refused.stderr
    assert "next: " in refused.stderr


@pytest.mark.long
def test_the_whole_set_up_works_below_a_path_with_spaces(tmp_path: Path) -> None:
    """From the real lock, through the machine's own index: minutes, and a network."""
    root = tmp_path / "out cry"
    root.mkdir()
    kept = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, kept.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    environment = {name: text for name, text in os.environ.items() if name != "VIRTUAL_ENV"}
    for command in (["make", "setup"], [".venv/bin/outcry", "--help"], ["make", "setup"]):
        done = subprocess.run(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=FULL_SETUP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == ""
