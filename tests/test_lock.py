"""The lock says exactly what is installed, by hash, and not where it comes from."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOCK = (ROOT / "requirements.lock").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY = re.compile(
    r"(?P<name>[\w.-]+)==(?P<version>[\w.!+]+)( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+"
)


def entries() -> list[str]:
    """The lock's logical lines, continuations joined, comments dropped."""
    joined = re.sub(r"\s*\\\n\s*", " ", LOCK)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def locked() -> dict[str, Version]:
    matches = [ENTRY.fullmatch(line) for line in entries()]
    return {canonicalize_name(m["name"]): Version(m["version"]) for m in matches if m}


def wanted() -> list[Requirement]:
    project = PYPROJECT["project"]
    lines = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    lines += PYPROJECT["dependency-groups"]["build"]
    return [Requirement(line) for line in lines]


def test_every_line_is_one_exact_version_with_hashes() -> None:
    assert [line[:60] for line in entries() if not ENTRY.fullmatch(line)] == []


def test_the_lock_names_no_address() -> None:
    words = ["://", "index-url", "find-links", "trusted-host", " @ ", "file:"]
    assert [word for word in words if word in LOCK] == []


def test_no_package_is_locked_twice() -> None:
    assert len(entries()) == len(locked()) > 0


def test_the_lock_holds_what_pyproject_asks_for() -> None:
    versions = locked()
    missing = [
        str(requirement)
        for requirement in wanted()
        if canonicalize_name(requirement.name) not in versions
        or not requirement.specifier.contains(
            versions[canonicalize_name(requirement.name)], prereleases=True
        )
    ]
    assert missing == [], "run: make lock"


def test_the_build_backend_is_locked() -> None:
    backends = [Requirement(line) for line in PYPROJECT["build-system"]["requires"]]
    assert all(canonicalize_name(backend.name) in locked() for backend in backends)


def test_set_up_and_what_it_builds_with_agree() -> None:
    setup = (ROOT / "scripts" / "setup").read_text()
    tools = re.search(r'BUILD_TOOLS="([^"]+)"', setup)
    assert tools
    assert {Requirement(line).name for line in PYPROJECT["dependency-groups"]["build"]} <= set(
        tools[1].split()
    )
    assert set(tools[1].split()) <= set(locked())
