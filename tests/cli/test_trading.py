"""A trader's day on the command line, against a real validator and a real chain."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import Wallet
from tests.client.single_node import SingleNode

pytestmark = pytest.mark.cluster

STEP_TIMEOUT_S = 60
Outcry = Callable[..., Any]


@pytest.fixture
def trade(network: SingleNode, outcry: Outcry, monkeypatch: pytest.MonkeyPatch) -> Outcry:
    """The command with the network in its environment; JSON comes back decoded."""
    monkeypatch.setenv("OUTCRY_NODE", network.url)
    monkeypatch.setenv("OUTCRY_EVM", network.bank.url)

    def run(*words: str, code: int = 0) -> Any:
        done = outcry(*words)
        assert done.code == code, done.err + done.out
        return json.loads(done.out) if "--json" in words and not code else done

    return run


@pytest.fixture
def make_wallet(network: SingleNode, trade: Outcry) -> Callable[[str], str]:
    """A maker of funded wallets; gives the file's name."""

    def make(name: str) -> str:
        trade("wallet", "new", "--light", "--wallet", f"{name}.json")
        network.bank.fund(Wallet.load(f"{name}.json", "secret"), 10**10)
        return f"{name}.json"

    return make


def test_a_traders_day(trade: Outcry, make_wallet: Callable[[str], str]) -> None:
    alice, bob = make_wallet("alice"), make_wallet("bob")
    told = trade("wallet", "deposit", "btc", "10", "--wallet", alice, "--json")
    assert told["credited"] is True
    assert told["authorized"]
    trade("wallet", "deposit", "USD", "100000", "--wallet", bob)

    words = ["BTC-USD", "sell", "0.5", "30000", "--client-id", "mine", "--wallet", alice]
    assert trade("order", "place", *words, "--json")["orders"][0]["status"] == "open"
    assert trade("book", "BTC-USD", "--json")["asks"] == [["30000", "0.5"]]
    placed = trade("order", "place", "BTC-USD", "buy", "0.2", "--wallet", bob)
    assert "0.2 filled, filled" in placed.out
    (mine,) = trade("trades", "BTC-USD", "--mine", "--wallet", bob, "--json")["trades"]
    assert (mine["price"], mine["size"], mine["role"]) == ("30000", "0.2", "taker")
    assert trade("trades", "BTC-USD", "--json")["trades"][0]["number"] == mine["number"]
    assert trade("market", "candles", "BTC-USD", "--json")["candles"][-1]["close"] == "30000"
    assert trade("market", "list", "--json")["markets"][0]["size_step"] == "0.0001"

    held = {row["token"]: row for row in trade("account", "--wallet", alice, "--json")["balances"]}
    assert held["USD"] == {"token": "USD", "free": "6000", "reserved": "0"}
    assert held["BTC"] == {"token": "BTC", "free": "9.5", "reserved": "0.3"}
    (order,) = trade("order", "list", "--wallet", alice, "--json")["orders"]
    assert (order["client_id"], order["filled"]) == ("mine", "0.2")
    trade("order", "cancel", "BTC-USD", "mine", "--wallet", alice)
    assert "E203" in trade("order", "cancel", "BTC-USD", "mine", "--wallet", alice, code=1).err
    assert trade("order", "cancel-all", "--wallet", alice, "--json")["state"] == "executed"

    said = trade("chat", "say", "BTC-USD", "good morning", "--wallet", alice, "--json")
    assert said["cid"] in {
        item["cid"] for item in trade("chat", "history", "BTC-USD", "--json")["messages"]
    }
    paid = trade("withdraw", "USD", "6000", "--claim", "--wallet", alice, "--json")
    assert len(paid["claimed"]) == 1
    rows = trade("wallet", "balance", "--wallet", alice, "--json")["tokens"]
    usd = next(row for row in rows if row["token"] == "USD")
    assert (usd["free"], usd["chain"]) == ("0", "1006000")
    assert trade("wallet", "claim", "--wallet", alice, "--json") == {"claimed": []}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["order", "place", "BTC-USD", "buy", "100", "30000"], 1, "E105"),
        (["order", "place", "BTC-USD", "buy", "0.1"], 1, "E209"),
        (["order", "place", "BTC-USD", "buy", "0.1", "30000.5"], 2, "30000 and 30001"),
        (["order", "place", "ETH-USD", "buy", "0.1", "3"], 2, "there are BTC-USD"),
        (["withdraw", "USD", "1000000"], 1, "E105"),
        (["wallet", "deposit", "USD", "99999999"], 1, "balance too small"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_refusal_has_a_code_and_a_sentence(
    trade: Outcry,
    network: SingleNode,
    tmp_path_factory: pytest.TempPathFactory,
    words: list[str],
    code: int,
    said: str,
) -> None:
    wallet = tmp_path_factory.getbasetemp() / "refused.json"
    if not wallet.exists():
        trade("wallet", "new", "--light", "--wallet", str(wallet))
        network.bank.fund(Wallet.load(wallet, "secret"), 10**6)
        trade("wallet", "deposit", "USD", "10", "--wallet", str(wallet))
    done = trade(*words, "--wallet", str(wallet), code=code)
    assert done.err.startswith("error E")
    assert said in done.err
    assert done.out == ""


def test_a_key_is_authorized_and_revoked(trade: Outcry, make_wallet: Callable[[str], str]) -> None:
    wallet = make_wallet("keys")
    trade("wallet", "deposit", "USD", "10", "--wallet", wallet)
    key = "0x" + "5a" * 32
    words = ["wallet", "authorize", "--scope", "trade", "--key", key, "--wallet", wallet]
    assert trade(*words, "--json")["scope"] == 1

    def scopes() -> dict[str, str]:
        told = trade("account", "--wallet", wallet, "--json")
        return {row["key"]: row["scope"] for row in told["keys"]}

    assert scopes()[key] == "trade"
    assert "may do nothing" in trade("wallet", "revoke", key, "--wallet", wallet).out
    assert scopes().get(key, "") == ""


def test_status_is_told_as_text_and_as_json(trade: Outcry, network: SingleNode) -> None:
    told = trade("status", "--ready", "--json")
    assert told["network"] == network.bank.genesis.network_id().hex()
    assert told["signing"] is True
    assert told["epoch"] >= 1
    assert told["passed_over"] == told["accused"] == []
    shown = trade("status").out
    assert "takes orders" in shown
    assert re.search(r"^signing +yes$", shown, re.MULTILINE)
    assert re.search(r"^height +\d+ \(epoch \d+, round \d+\)$", shown, re.MULTILINE)
    assert re.search(r"^accused +nobody$", shown, re.MULTILINE)


def test_an_account_that_never_deposited_is_refused(trade: Outcry) -> None:
    done = trade("account", "0x" + "11" * 20, code=1)
    assert done.err.startswith("error E")


def test_a_node_of_another_address_is_tried_next(
    trade: Outcry, network: SingleNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTCRY_NODE", f"http://127.0.0.1:9,{network.url}")
    assert trade("status", "--json")["ready"] is True


def test_doctor_finds_nothing_wrong_with_a_running_node(trade: Outcry, network: SingleNode) -> None:
    words = ["doctor", "--config", str(network.config), "--peer", network.url]
    told = trade(*words, "--json")
    states = {item["check"]: item["state"] for item in told["checks"]}
    assert told["ok"] is True
    expected = ("config", "genesis", "keystore", "journal", "evm", "api port", "clock")
    assert {name: states[name] for name in expected} == dict.fromkeys(expected, "ok")


def test_doctor_notices_a_chain_without_the_vault(
    trade: Outcry, network: SingleNode, tmp_path: Path
) -> None:
    folder = network.config.parent
    for name in ("genesis.json", "keys.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "keys.json").chmod(0o600)
    genesis = json.loads((tmp_path / "genesis.json").read_text())
    genesis["vault"] = "0x" + "11" * 20
    (tmp_path / "genesis.json").write_text(json.dumps(genesis))
    (tmp_path / "node.toml").write_bytes(network.config.read_bytes())
    done = trade("doctor", "--config", "node.toml", code=1)
    assert "fail  evm" in done.out
    assert "no vault at" in done.out


@pytest.mark.parametrize(
    "words", [["book", "BTC-USD", "--follow"], ["chat", "listen", "BTC-USD"]], ids=" ".join
)
def test_a_command_that_follows_prints_lines_until_it_is_interrupted(
    trade: Outcry,
    make_wallet: Callable[[str], str],
    network: SingleNode,
    tmp_path: Path,
    words: list[str],
) -> None:
    wallet = make_wallet("follower")
    trade("wallet", "deposit", "USD", "10", "--wallet", wallet)
    trade("chat", "say", "BTC-USD", "anybody there?", "--wallet", wallet)
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", *words, "--json", "--node", network.url],
        cwd=tmp_path,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    assert first.get("market", "BTC-USD") == "BTC-USD"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=STEP_TIMEOUT_S)
    assert process.returncode == 130
    assert "Traceback" not in err
