"""The committed artifacts are what the sources compile to."""

import subprocess
import sys
from pathlib import Path

import pytest

from settlement import artifacts
from settlement.compile import COMPILER_VERSION, ROOM, compile_contract
from settlement.faults import ArtifactUnreadable, CompilerMissing


@pytest.mark.parametrize("name", artifacts.CONTRACTS)
def test_an_artifact_is_its_source_compiled_byte_for_byte(name):
    compiled = compile_contract(ROOM / "contracts" / f"{name}.vy")
    committed = (ROOM / artifacts.DIRECTORY / f"{name}.json").read_bytes()
    assert artifacts.encode(compiled) == committed, "run: python -m settlement.compile"
    assert artifacts.load(name) == compiled


def test_every_contract_of_the_room_has_an_artifact():
    sources = {path.stem for path in (ROOM / "contracts").glob("*.vy")}
    files = {path.stem for path in (ROOM / artifacts.DIRECTORY).glob("*.json")}
    assert sources == files == set(artifacts.CONTRACTS)


def test_contracts_fit_into_the_size_that_a_chain_accepts():
    for name in artifacts.CONTRACTS:
        assert len(artifacts.load(name).bytecode) // 2 < 24_576


def test_an_artifact_that_does_not_exist_is_named():
    with pytest.raises(ArtifactUnreadable, match="Nothing is unusable"):
        artifacts.load("Nothing")


def test_another_compiler_is_refused(monkeypatch):
    monkeypatch.setattr("vyper.__version__", "0.4.2")
    with pytest.raises(CompilerMissing, match=COMPILER_VERSION):
        compile_contract(ROOM / "contracts" / "Vault.vy")


def test_a_node_imports_the_chain_without_the_embedded_evm():
    code = """
import sys, settlement.chain
heavy = {"eth", "eth_tester", "vyper"} & {name.split(".")[0] for name in sys.modules}
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(ROOM).parent, capture_output=True, check=False
    )
    assert run.returncode == 0, run.stderr
