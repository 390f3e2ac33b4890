"""A real embedded chain, one process for all tests of the room, and benches of contracts on it."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError

from primitives import anchors
from primitives.secp256k1 import EvmKey, checksum_address
from settlement import (
    Deployer,
    Deployment,
    RollupStatement,
    TokenPlan,
    artifacts,
    dev_key,
    sign_rollup,
)
from settlement._endpoints import Endpoints
from settlement._sender import Receipt, Sender, reason_of
from settlement.artifacts import Artifact
from settlement.compile import compile_contract
from settlement.faults import TransactionReverted

Twist = Callable[[dict[str, Any], Callable[[bytes], bytes]], bytes | None]
CHAIN_ID = 31_337
START_DEADLINE_S = 40.0
ROOT = Path(__file__).parents[2]
USD = TokenPlan("USD", "Test dollar", 6, 100)
BTC = TokenPlan("BTC", "Test bitcoin", 18, 10**12)


@dataclass
class Evm:
    """One embedded chain's process."""

    state: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    url: str = ""
    accounts: list[str] = field(default_factory=list)

    def start(self, *extra: str) -> None:
        """Start it and wait for its ready file."""
        ready = self.state.with_suffix(".ready")
        ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "settlement.evm", "--state", str(self.state)]
        command += ["--port", str(self.port), "--ready-file", str(ready), *extra]
        with self.state.with_suffix(".log").open("ab") as out:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out)
        deadline = time.monotonic() + START_DEADLINE_S
        while not ready.exists():
            assert self.process.poll() is None, self.state.with_suffix(".log").read_text()
            assert time.monotonic() < deadline, "the chain did not start"
            time.sleep(0.02)
        found = msgspec.json.decode(ready.read_bytes())
        self.url, self.port, self.accounts = found["url"], found["port"], found["accounts"]

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(timeout=START_DEADLINE_S)


@pytest.fixture(scope="session")
def evm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evm]:
    """The chain that most tests share."""
    chain = Evm(tmp_path_factory.mktemp("evm") / "state")
    chain.start()
    yield chain
    assert chain.stop() == 0


@pytest.fixture
def own_evm(tmp_path: Path) -> Iterator[Evm]:
    """A chain of the test's own, to be killed and restarted."""
    chain = Evm(tmp_path / "state")
    chain.start()
    yield chain
    if chain.process is not None and chain.process.poll() is None:
        chain.kill()


class Relay:
    """An endpoint in front of a chain that a test can twist, cut and mend.

    `twist(call, forward)` gives the body of the answer: `forward(body)` asks the real chain;
    None closes the connection without an answer.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.twist: Twist = lambda call, forward: forward(json.dumps(call).encode())
        self.asked: list[str] = []
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_POST(self) -> None:
                call = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                relay.asked.append(call["method"])
                answer = relay.twist(call, relay._forward)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _forward(self, body: bytes) -> bytes:
        return httpx.post(self.upstream, content=body, timeout=30, trust_env=False).content

    def die(self) -> None:
        """Stop answering; connections are refused from now on."""
        self.twist = lambda call, forward: None  # noqa: ARG005
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def make_relay(evm: Evm) -> Iterator[Callable[[], Relay]]:
    """A maker of endpoints in front of the shared chain."""
    made: list[Relay] = []

    def make() -> Relay:
        made.append(Relay(evm.url))
        return made[-1]

    yield make
    for relay in made:
        relay.die()


class Bench:
    """A vault with its validators' keys, and one account that owns tokens."""

    def __init__(self, url: str, validators: int, plans: Sequence[TokenPlan] = (USD, BTC)) -> None:
        self.keys = sorted(
            (EvmKey(anchors.keccak(b"validator %d" % i)) for i in range(validators)),
            key=lambda key: key.address,
        )
        with Deployer(url, dev_key(0)) as deployer:
            self.deployment: Deployment = deployer.deploy([k.address for k in self.keys], plans)
        self.endpoints = Endpoints([url])
        self.web3 = Web3(self.endpoints)
        self.sender = Sender(self.endpoints, dev_key(0), CHAIN_ID)
        self.vault = self._contract("Vault", self.deployment.vault)
        self.tokens = [self._contract("TestToken", t.address) for t in self.deployment.tokens]

    def _contract(self, name: str, address: str) -> Any:
        return self.web3.eth.contract(
            address=self.web3.to_checksum_address(address), abi=artifacts.load(name).abi
        )

    def ask(self, name: str, *arguments: Any) -> Any:
        """A view of the vault."""
        return self.vault.functions[name](*arguments).call()

    def refusal(self, name: str, *arguments: Any, contract: Any = None) -> str:
        """The reason with which a call is refused; it must be."""
        chosen = contract or self.vault
        question = {"to": chosen.address, "data": chosen.encode_abi(name, list(arguments))}
        question["from"] = checksum_address(self.sender.address)
        with pytest.raises(ContractLogicError) as caught:
            self.web3.eth.call(question)
        return reason_of(caught.value)

    def send(self, name: str, *arguments: Any, contract: Any = None) -> Receipt:
        """A transaction, mined."""
        chosen = contract or self.vault
        data = bytes(HexBytes(chosen.encode_abi(name, list(arguments))))
        sent = self.sender.submit(bytes.fromhex(chosen.address[2:]), data)
        receipt = self.sender.receipt(sent)
        assert receipt is not None
        return receipt

    def create(self, artifact: Artifact, *arguments: Any) -> Any:
        """Deploy another contract."""
        contract = self.web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        data = bytes(HexBytes(contract.constructor(*arguments).data_in_transaction))
        receipt = self.sender.receipt(self.sender.submit(None, data))
        assert receipt is not None
        assert receipt.contract is not None
        return self.web3.eth.contract(
            address=self.web3.to_checksum_address(receipt.contract), abi=artifact.abi
        )

    def fund(self, units: int = 10**9) -> None:
        """Give the sender tokens, and let the vault take them."""
        for token, plan in zip(self.tokens, self.deployment.tokens, strict=True):
            amount = units * plan.scale
            self.send("mint", checksum_address(self.sender.address), amount, contract=token)
            self.send("approve", self.vault.address, amount, contract=token)

    def statement(self, **changes: Any) -> RollupStatement:
        """The next rollup block that the vault accepts, apart from `changes`."""
        last = self.ask("last_number")
        count, accumulator = self.ask("deposit_head")
        fields: dict[str, Any] = {
            "chain_id": CHAIN_ID,
            "vault": self.deployment.vault_bytes,
            "number": last + 1,
            "height": self.ask("rollups", last)[0] + 10,
            "state_root": anchors.keccak(b"state"),
            "withdrawal_root": bytes(32),
            "deposits": count,
            "accumulator": accumulator,
        }
        return RollupStatement(**{**fields, **changes})

    def sign(self, statement: RollupStatement, signers: Sequence[int] | None = None) -> list[bytes]:
        """Signatures by the validators with these indexes (all of them), ascending."""
        chosen = range(len(self.keys)) if signers is None else signers
        return [sign_rollup(self.keys[i].secret, statement) for i in chosen]

    @staticmethod
    def arguments(statement: RollupStatement, signatures: Sequence[bytes]) -> list[Any]:
        """What the vault's `commit` takes."""
        return [
            statement.number,
            statement.height,
            statement.state_root,
            statement.withdrawal_root,
            statement.deposits,
            statement.accumulator,
            list(signatures),
        ]

    def commit(self, statement: RollupStatement) -> Receipt:
        """Commit with all signatures."""
        return self.send("commit", *self.arguments(statement, self.sign(statement)))


@pytest.fixture(scope="session")
def make_bench(evm: Evm) -> Callable[..., Bench]:
    """A maker of fresh vaults on the shared chain."""

    def make(validators: int = 4, plans: Sequence[TokenPlan] = (USD, BTC)) -> Bench:
        return Bench(evm.url, validators, plans)

    return make


@pytest.fixture(scope="module")
def shared(make_bench: Callable[..., Bench]) -> Bench:
    """One funded vault for tests that leave it as it was, or do not mind what others did."""
    made = make_bench()
    made.fund()
    return made


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    """A fresh vault of four validators, whose sender has tokens."""
    made = make_bench()
    made.fund()
    return made


@pytest.fixture(scope="session")
def odd_contract() -> Callable[[str], Artifact]:
    """Compiles one of the tests' own contracts."""
    return lambda name: compile_contract(Path(__file__).parent / "contracts" / f"{name}.vy")


@pytest.fixture(scope="session")
def vault_artifact() -> Artifact:
    """The vault, for deployments of odd kinds."""
    return artifacts.load("Vault")


@pytest.fixture
def refused_with() -> Callable[..., str]:
    """Runs something that a contract must refuse, and gives the reason."""

    def run(work: Callable[[], object]) -> str:
        with pytest.raises(TransactionReverted) as caught:
            work()
        return caught.value.reason

    return run


@pytest.fixture
def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
