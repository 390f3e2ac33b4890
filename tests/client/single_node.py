"""A whole network in two processes: an embedded EVM chain, and one validator that agrees alone.

with running_network(folder) as network:
    network.fund(wallet, 10**9)
    Trader.connect(network.url, wallet, evm=network.evm)
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from client import Wallet
from exchange.genesis import ExchangeGenesis, Market, Token
from exchange.network import NetworkGenesis, TokenContract
from node.genesis import save_genesis
from node.keys import create_keys, save_keys
from settlement import Deployer, Deployment, TokenPlan, dev_key

ROOT = Path(__file__).parents[2]
CHAIN_ID = 31_337
START_DEADLINE_S = 60.0
POLL_S = 0.05
GAS_WEI = 10**18
PLANS = [TokenPlan("USD", "Test dollar", 6, 100), TokenPlan("BTC", "Test coin", 18, 10**12)]
EXCHANGE = ExchangeGenesis(
    chain_id=CHAIN_ID,
    tokens=[Token("USD", 4), Token("BTC", 6)],
    markets=[Market("BTC-USD", 1, 0, 100, 1, 0, 500)],
    fee_account=bytes(19) + b"\x01",
    powers=[100],
    rollup_interval_ms=500,
)
CONFIG = """
[node]
name = "alice"
[p2p]
listen = "127.0.0.1:0"
[api]
listen = "127.0.0.1:{port}"
[evm]
endpoints = ["{evm}"]
confirmations = 0
poll_ms = 100
"""


@dataclass(frozen=True)
class Bank:
    """A chain's endpoint and a vault on it."""

    url: str
    deployment: Deployment
    genesis: NetworkGenesis

    def fund(self, wallet: Wallet, units: int) -> None:
        """Give a wallet gas money and `units` of both tokens."""
        with Deployer(self.url, dev_key(0)) as deployer:
            deployer.send_gas([wallet.account], GAS_WEI)
            for token in range(len(self.deployment.tokens)):
                deployer.mint(self.deployment, token, wallet.account, units)


@dataclass(frozen=True)
class SingleNode:
    """The validator's API, its files, and the bank behind it."""

    url: str
    config: Path
    bank: Bank


@contextmanager
def running_chain(folder: Path) -> Iterator[str]:
    """An embedded EVM chain; its endpoint."""
    ready = folder / "evm-ready.json"
    command = ["-m", "settlement.evm", "--state", str(folder / "evm"), "--ready-file", str(ready)]
    with _process(command, folder / "evm.log") as process:
        deadline = time.monotonic() + START_DEADLINE_S
        while not ready.exists():
            assert process.poll() is None, (folder / "evm.log").read_text()
            assert time.monotonic() < deadline, "the chain did not start"
            time.sleep(POLL_S)
        url: str = msgspec.json.decode(ready.read_bytes())["url"]
        yield url


@contextmanager
def running_network(folder: Path) -> Iterator[SingleNode]:
    """A chain with a vault, and a validator that serves."""
    with running_chain(folder) as evm:
        keys = create_keys()
        validator = keys.public("alice", 100)
        with Deployer(evm, dev_key(0)) as deployer:
            deployment = deployer.deploy([validator.evm], PLANS)
            deployer.send_gas([validator.evm], GAS_WEI)
        contracts = [TokenContract(item.address_bytes, item.scale) for item in deployment.tokens]
        genesis = NetworkGenesis(
            name="test",
            time_ms=time.time_ns() // 1_000_000,
            exchange=EXCHANGE,
            validators=[validator],
            vault=deployment.vault_bytes,
            vault_block=deployment.block,
            contracts=contracts,
            epoch_ms=60_000,
        )
        save_genesis(folder / "genesis.json", genesis)
        save_keys(folder / "keys.json", keys, "secret", scrypt_n=1 << 4)
        port = _free_port()
        config = folder / "node.toml"
        config.write_text(CONFIG.format(port=port, evm=evm))
        with _process(["-m", "node", str(config)], folder / "node.log") as process:
            url = f"http://127.0.0.1:{port}"
            _wait_ready(url, process, folder / "node.log")
            yield SingleNode(url, config, Bank(evm, deployment, genesis))


def _wait_ready(url: str, process: subprocess.Popen[bytes], logged: Path) -> None:
    deadline = time.monotonic() + START_DEADLINE_S
    while True:
        assert process.poll() is None, logged.read_text()
        assert time.monotonic() < deadline, logged.read_text()[-2_000:]
        try:
            if httpx.get(f"{url}/v1/health", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(POLL_S)


@contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "OUTCRY_PASSPHRASE": "secret"},
            stdout=out,
            stderr=out,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(START_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
