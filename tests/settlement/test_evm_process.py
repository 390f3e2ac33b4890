"""Starting a chain by its command line."""

import subprocess
from pathlib import Path

import pytest

from settlement import dev_key, evm_command, wait_ready
from settlement.anvil import anvil_command, find_anvil
from settlement.dev_accounts import ACCOUNTS_FUNDED
from settlement.faults import AnvilMissing, EvmNotReady

ROOT = Path(__file__).parents[2]
CHAIN_ID = 4_242


def start(command):
    return subprocess.Popen(command, cwd=ROOT)


async def test_the_embedded_chain_starts_by_its_command(tmp_path, free_port):
    state = tmp_path / "a state with spaces"
    process = start(evm_command("embedded", free_port, state, CHAIN_ID))
    try:
        assert await wait_ready(f"http://127.0.0.1:{free_port}", deadline_s=40) == CHAIN_ID
        assert (state / "ready.json").exists()
    finally:
        process.terminate()
        assert process.wait() == 0


async def test_a_chain_that_does_not_come_up_is_reported(free_port):
    with pytest.raises(EvmNotReady) as caught:
        await wait_ready(f"http://127.0.0.1:{free_port}", deadline_s=0.2)
    assert caught.value.code == "E741"


def test_a_missing_anvil_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OUTCRY_ANVIL", raising=False)
    with pytest.raises(AnvilMissing, match="setup-extras"):
        evm_command("anvil", 8_545, tmp_path / "state", CHAIN_ID, root=tmp_path)


def test_the_binary_is_found_where_it_was_put(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("OUTCRY_ANVIL", raising=False)
    below = tmp_path / ".extras/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
    below.parent.mkdir(parents=True)
    below.write_text("#!/bin/sh\n")
    assert find_anvil(tmp_path) is None
    below.chmod(0o755)
    assert find_anvil(tmp_path) == below
    named = tmp_path / "mine"
    named.write_text("#!/bin/sh\n")
    named.chmod(0o755)
    monkeypatch.setenv("OUTCRY_ANVIL", str(named))
    assert find_anvil(tmp_path) == named


def test_anvil_needs_a_port_that_is_known(tmp_path, monkeypatch):
    binary = tmp_path / "anvil"
    binary.write_text("#!/bin/sh\n")
    binary.chmod(0o755)
    monkeypatch.setenv("OUTCRY_ANVIL", str(binary))
    with pytest.raises(ValueError, match="port"):
        evm_command("anvil", 0, tmp_path / "state", CHAIN_ID)
    command = evm_command("anvil", 8_545, tmp_path / "state", CHAIN_ID)
    assert command == anvil_command(binary, 8_545, tmp_path / "state", CHAIN_ID)
    assert {"--hardfork=prague", "--silent", "--port=8545", "--chain-id=4242"} <= set(command)


def test_only_funded_accounts_have_a_key():
    assert len({dev_key(i) for i in range(ACCOUNTS_FUNDED)}) == ACCOUNTS_FUNDED
    with pytest.raises(ValueError, match="funded"):
        dev_key(ACCOUNTS_FUNDED)
