"""Every package that the project promises to stand on is really used; `pytest -s` lists where."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
IMPORTED_AS = {
    "libp2p": "libp2p",
    "trio": "trio",
    "msgpack": "msgpack",
    "pynacl": "nacl",
    "py_ecc": "py_ecc",
    "web3": "web3",
    "pytest-trio": "pytest_trio",
    "ipfshttpclient": "ipfshttpclient",
}
ABSENT = {"ipfshttpclient": "arrives with the IPFS storage work"}


def imported(source: str) -> set[str]:
    """Top-level names of what a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names


def has_async_test(source: str) -> bool:
    """pytest-trio is used by every `async def test_...`; nothing needs to import it."""
    return any(
        isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_")
        for node in ast.walk(ast.parse(source))
    )


def users() -> dict[str, list[str]]:
    """Package to the files that use it."""
    table: dict[str, list[str]] = {package: [] for package in IMPORTED_AS}
    for path in sorted(ROOT.glob("*/**/*.py")):
        place = path.relative_to(ROOT)
        if place.parts[0].startswith(".") or path == Path(__file__):
            continue
        source = path.read_text()
        names = imported(source)
        for package, module in IMPORTED_AS.items():
            if module in names or (package == "pytest-trio" and has_async_test(source)):
                table[package].append(str(place))
    return table


USERS = users()


@pytest.mark.parametrize("package", IMPORTED_AS)
def test_a_required_package_is_used(package: str) -> None:
    print(f"\n{package}: {ABSENT.get(package, '')} {len(USERS[package])} files")
    for place in USERS[package]:
        print(f"  {place}")
    if package in ABSENT:
        assert USERS[package] == [], f"{package} has come: take it out of ABSENT"
    else:
        assert USERS[package]


def test_a_use_is_an_import_not_a_mention() -> None:
    assert imported("# import web3\nx = 'import trio'") == set()
    assert imported("def f():\n    from web3.types import X\nfrom . import trio") == {"web3"}
