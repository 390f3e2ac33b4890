"""`init` makes a node's files; `doctor` finds what is wrong with them and says what to do."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consensus import ONCE_KINDS
from exchange.genesis import ExchangeGenesis, Market, Token
from exchange.network import NetworkGenesis, TokenContract, ValidatorGenesis
from node.config import load_config
from node.genesis import save_genesis
from node.keys import load_keys
from primitives import document
from storage import Journal
from tests.client.single_node import SingleNode

ROOT = Path(__file__).resolve().parents[2]
START_S_MAX = 60

Outcry = Callable[..., Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def node(outcry: Outcry, tmp_path: Path) -> Path:
    """The configuration of a validator whose network consists of itself."""
    ports = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    words = ["--name", "alice", "--directory", "alice", "--light", "--evm", "http://127.0.0.1:9"]
    done = outcry("init", *words, "--p2p", ports[0], "--api", ports[1])
    assert done.code == 0, done.err
    validator = document.parse(ValidatorGenesis, json.loads(done.out))
    exchange = ExchangeGenesis(
        chain_id=31_337,
        tokens=[Token("USD", 4), Token("BTC", 6)],
        markets=[Market("BTC-USD", 1, 0, 100, 1, 0, 0)],
        fee_account=bytes(20),
        powers=[validator.power],
        rollup_interval_ms=1_000,
    )
    contracts = [TokenContract(bytes(19) + bytes([i]), 1) for i in (1, 2)]
    genesis = NetworkGenesis("test", 1, exchange, [validator], bytes(20), 0, contracts, 60_000)
    save_genesis(tmp_path / "alice" / "genesis.json", genesis)
    return tmp_path / "alice" / "node.toml"


def examine(outcry: Outcry, config: Path, *words: str) -> dict[str, Any]:
    done = outcry("doctor", "--config", str(config), "--json", *words)
    told: dict[str, Any] = json.loads(done.out)
    assert done.code == (0 if told["ok"] else 1), done.err
    return told


def states(told: dict[str, Any], check: str) -> set[str]:
    return {item["state"] for item in told["checks"] if item["check"] == check}


def test_init_writes_what_a_node_reads(node: Path) -> None:
    config = load_config(node)
    assert (config.node.name, config.node.role) == ("alice", "validator")
    keys = load_keys(config.path(config.node.keystore), "secret")
    genesis = json.loads(config.path(config.node.genesis).read_bytes())
    assert genesis["validators"][0]["consensus"] == "0x" + keys.signing().public.hex()


def test_init_never_overwrites(outcry: Outcry, node: Path) -> None:
    before = node.read_bytes()
    done = outcry("init", "--name", "bob", "--directory", "alice", "--light")
    assert done.code == 1
    assert done.err.startswith("error E467: ")
    assert node.read_bytes() == before


def test_a_sound_node_has_only_its_surroundings_to_complain_about(
    outcry: Outcry, node: Path
) -> None:
    told = examine(outcry, node)
    for check in ("config", "genesis", "keystore", "disk", "p2p port", "api port"):
        assert states(told, check) <= {"ok", "warn"}, told
    assert states(told, "journal") == {"warn"}  # there is none before the first start
    assert states(told, "evm") == {"fail"}  # nobody listens there
    assert all(item["advice"] for item in told["checks"] if item["state"] != "ok")


def test_text_says_the_same(outcry: Outcry, node: Path) -> None:
    done = outcry("doctor", "--config", str(node))
    assert done.code == 1
    assert "fail  evm" in done.out
    assert "start the chain" in done.out


def test_a_wrong_passphrase_is_found(
    outcry: Outcry, node: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OUTCRY_PASSPHRASE", "other")
    told = examine(outcry, node)
    assert states(told, "keystore") == {"fail"}


def test_another_validators_keystore_is_found(outcry: Outcry, node: Path) -> None:
    (node.parent / "keys.json").unlink()
    (node.parent / "node.toml").rename(node.parent / "kept.toml")
    assert outcry("init", "--name", "bob", "--directory", "alice", "--light").code == 0
    told = examine(outcry, node.parent / "kept.toml")
    assert states(told, "keystore") == {"fail"}


def test_a_keystore_that_others_may_read_is_found(outcry: Outcry, node: Path) -> None:
    (node.parent / "keys.json").chmod(0o644)
    assert states(examine(outcry, node), "keystore") == {"warn"}


def test_a_port_in_use_is_found(outcry: Outcry, node: Path) -> None:
    host, _, port = load_config(node).api.listen.rpartition(":")
    with socket.create_server((host, int(port))):
        told = examine(outcry, node)
    assert states(told, "api port") == {"fail"}
    assert states(told, "p2p port") == {"ok"}


def journal_of(node: Path, *, watch: bool = False) -> Journal:
    """The opened journal of a validator."""
    config = load_config(node)
    genesis = document.parse(
        NetworkGenesis, msgspec.json.decode(config.path("genesis.json").read_bytes())
    )
    public = load_keys(config.path("keys.json"), "secret").signing().public
    config.path("data").mkdir()
    path = config.path("data") / "journal.db"
    return Journal.open(path, public, genesis.network_id(), once=ONCE_KINDS, watch=watch)


def test_a_journal_is_opened_and_compared(outcry: Outcry, node: Path) -> None:
    journal_of(node).close()
    assert states(examine(outcry, node), "journal") == {"ok"}


def test_a_journal_that_watches_is_said_to(outcry: Outcry, node: Path) -> None:
    journal_of(node, watch=True).close()
    told = examine(outcry, node)
    assert states(told, "journal") == {"warn"}
    assert "signs nothing until an epoch has begun" in json.dumps(told)


def test_a_sealed_journal_is_a_failure_with_a_way_on(outcry: Outcry, node: Path) -> None:
    journal_of(node).close()
    done = outcry("journal", "export", "--config", str(node), "--to", "alice.moved")
    assert done.code == 0, done.err
    told = examine(outcry, node)
    assert states(told, "journal") == {"fail"}
    assert "E616" in json.dumps(told)


def test_a_journal_of_another_key_is_found(outcry: Outcry, node: Path) -> None:
    config = load_config(node)
    config.path("data").mkdir()
    path = config.path("data") / "journal.db"
    Journal.open(path, bytes(32), bytes(32), once=ONCE_KINDS).close()
    assert states(examine(outcry, node), "journal") == {"fail"}


def test_a_running_node_explains_its_ports(outcry: Outcry, node: Path) -> None:
    journal = journal_of(node)
    host, _, port = load_config(node).api.listen.rpartition(":")
    with socket.create_server((host, int(port))):
        told = examine(outcry, node)
    journal.close()
    assert states(told, "journal") == {"ok"}
    assert states(told, "api port") == {"ok"}
    assert states(told, "p2p port") == {"warn"}


@pytest.fixture
def gateway(network: SingleNode, outcry: Outcry, tmp_path: Path) -> Iterator[Path]:
    """The configuration of a gateway, and of its process, of a network that runs."""
    ports = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    words = ["--name", "gate", "--role", "gateway", "--directory", "gate", "--light"]
    done = outcry("init", *words, "--evm", network.bank.url, "--p2p", ports[0], "--api", ports[1])
    assert done.code == 0, done.err
    (tmp_path / "gate" / "genesis.json").write_bytes(
        network.config.with_name("genesis.json").read_bytes()
    )
    config = tmp_path / "gate" / "node.toml"
    log = tmp_path / "gate.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "node", str(config)],
            cwd=ROOT,
            env={**os.environ, "OUTCRY_PASSPHRASE": "secret"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = time.monotonic() + START_S_MAX
        while b'"ready"' not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield config
    finally:
        process.terminate()
        process.wait(START_S_MAX)


def test_a_running_gateways_own_ports_are_no_complaint(outcry: Outcry, gateway: Path) -> None:
    told = examine(outcry, gateway)
    assert states(told, "node") == {"ok"}
    assert states(told, "api port") == states(told, "p2p port") == {"ok"}
    other = gateway.with_name("other.toml")
    other.write_text(gateway.read_text().replace('name = "gate"', 'name = "fence"'))
    told = examine(outcry, other)
    assert states(told, "node") == {"warn"}
    assert states(told, "api port") == states(told, "p2p port") == {"fail"}


def test_peers_are_dialled(outcry: Outcry, node: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        text = node.read_text().replace(
            "bootstrap = []", f'bootstrap = ["/ip4/127.0.0.1/tcp/{port}/p2p/x", "nonsense"]'
        )
        node.write_text(text)
        told = examine(outcry, node)
    assert states(told, "peers") == {"ok", "fail"}


def test_a_broken_configuration_is_a_refusal(outcry: Outcry, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[node")
    done = outcry("doctor", "--config", "bad.toml")
    assert done.code == 1
    assert done.err.startswith("error E430: ")


def test_a_broken_genesis_stops_a_node_with_a_sentence(outcry_process: Outcry, node: Path) -> None:
    (node.parent / "genesis.json").write_text("{}")
    done = outcry_process("node", "run", "--config", str(node), OUTCRY_PASSPHRASE="secret")
    assert done.code == 1
    assert "error E431: " in done.err
    assert "Traceback" not in done.err
