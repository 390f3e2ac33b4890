"""A real embedded EVM chain with a vault, a genesis that names them, and a funded wallet."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest
import trio
from anycorn import serve
from anycorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from client import Wallet
from exchange.envelope import Admitted, Envelope, admit
from exchange.network import NetworkGenesis, TokenContract, ValidatorGenesis
from exchange.receipt import sign_receipt
from primitives import anchors, document
from primitives.ed25519 import SigningKey
from primitives.faults import RemoteFault
from primitives.secp256k1 import EvmKey
from settlement import Deployer, Deployment, dev_key
from tests.client.single_node import (
    EXCHANGE,
    PLANS,
    Bank,
    SingleNode,
    running_chain,
    running_network,
)

GRACE_S = 0.1
NODE_SEED = b"\x07" * 32


def make_genesis(deployment: Deployment | None = None) -> NetworkGenesis:
    """A network of one validator, whose signing key is made of `NODE_SEED`."""
    validator = ValidatorGenesis(
        name="alice",
        consensus=SigningKey(NODE_SEED).public,
        peer_id="peer",
        sealing=bytes(32),
        anchor=bytes(48),
        anchor_proof=bytes(96),
        evm=EvmKey(NODE_SEED).address,
        power=100,
    )
    contracts = [TokenContract(bytes(19) + bytes([i]), 10) for i in (1, 2)]
    vault, block = bytes(19) + b"\x09", 0
    if deployment is not None:
        vault, block = deployment.vault_bytes, deployment.block
        contracts = [TokenContract(item.address_bytes, item.scale) for item in deployment.tokens]
    return NetworkGenesis("test", 1_000, EXCHANGE, [validator], vault, block, contracts, 60_000)


@pytest.fixture
def genesis() -> NetworkGenesis:
    return make_genesis()


@pytest.fixture
def genesis_of() -> Callable[..., NetworkGenesis]:
    """A maker of genesis documents, on a deployment or on made-up addresses."""
    return make_genesis


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bank]:
    """A chain with a vault, whose only validator has the key `NODE_SEED`."""
    with running_chain(tmp_path_factory.mktemp("evm")) as url:
        with Deployer(url, dev_key(0)) as deployer:
            deployment = deployer.deploy([EvmKey(NODE_SEED).address], PLANS)
        yield Bank(url, deployment, make_genesis(deployment))


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SingleNode]:
    """A real validator on a real chain."""
    with running_network(tmp_path_factory.mktemp("network")) as running:
        yield running


@pytest.fixture
def funded(bank: Bank) -> Callable[[], Wallet]:
    """A maker of fresh wallets with gas money and 10**9 units of both tokens."""

    def make() -> Wallet:
        wallet = Wallet.from_hex(anchors.keccak(str(time.time_ns()).encode()).hex())
        bank.fund(wallet, 10**9)
        return wallet

    return make


class ScriptedNode:
    """HTTP and WebSocket of a node whose admission is real and whose failures are scripted.

    `script` tells what the next POSTs of an envelope meet: "take" (also when it is empty), "500"
    and "take, 500" (answered with an error before or after taking it), "503", "429", "forge",
    "garbage". `streams` holds, per connection, the frames that answer a subscription.
    """

    def __init__(self, genesis: NetworkGenesis) -> None:
        self.genesis = genesis
        self.shown = genesis  # what /v1/genesis says
        self.claimed = genesis.network_id()  # what /v1/status says
        self.key = SigningKey(NODE_SEED)
        self.height = 10
        self.script: list[str] = []
        self.streams: list[list[Any]] = []
        self.taken: dict[bytes, Admitted] = {}
        self.used: set[tuple[bytes, int]] = set()
        self.counted = 0  # the next nonce that /v1/accounts tells
        self.posts: list[bytes] = []
        self.subscriptions: list[Any] = []
        self.outcome: dict[str, Any] = {"state": "executed", "code": "", "rejections": []}
        self.url = ""

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/genesis", self._genesis),
                Route("/v1/status", self._status),
                Route("/v1/accounts/{address}", self._account),
                Route("/v1/envelopes/{name}", self._envelope),
                Route("/v1/envelopes", self._submit, methods=["POST"]),
                WebSocketRoute("/v1/stream", self._stream),
            ]
        )

    async def _genesis(self, _: Request) -> Response:
        return JSONResponse(document.render(self.shown))

    async def _status(self, _: Request) -> Response:
        return JSONResponse(
            {
                "name": "alice",
                "role": "validator",
                "version": "0",
                "pid": 1,
                "rss_mb": 1.0,
                "network": "0x" + self.claimed.hex(),
                "ready": True,
                "height": self.height,
                "round": 1,
                "time_ms": 5_000,
                "root": "0x",
                "checkpoint": None,
                "validators": 1,
                "agreement_faults_max": 0,
                "fairness_faults_max": 0,
                "peers_connected": 0,
                "rollup": 0,
                "later": "a field of a newer version",
                "evm": {
                    "reachable": True,
                    "number": 1,
                    "deposits_seen": 1,
                    "deposits_credited": 1,
                },
            }
        )

    async def _account(self, request: Request) -> Response:
        key = {"key": "0x" + self.trading.hex(), "scope": 15, "expires_ms": 10**12}
        return JSONResponse(
            {
                "address": request.path_params["address"],
                "index": 1,
                "height": self.height,
                "balances": [{"token": 0, "symbol": "USD", "free": 5, "reserved": 0}],
                "keys": [key | {"next_nonce": self.counted, "nonce_min": 0, "nonce_max": 9}],
                "authorization_sequence": 0,
            }
        )

    trading = b""

    async def _envelope(self, request: Request) -> Response:
        name = request.path_params["name"]
        if bytes.fromhex(name[2:]) not in self.taken:
            return refusal(404, "E404", "not seen here")
        return JSONResponse({"id": name, "height": 11, "position": 0, **self.outcome})

    async def _submit(self, request: Request) -> Response:
        body = await request.json()
        step = self.script.pop(0) if self.script else "take"
        if "envelopes" in body:
            results = []
            for item in body["envelopes"]:
                told = self._take(bytes.fromhex(item[2:]))
                content = msgspec.json.decode(bytes(told.body))
                results.append(content if "error" in content else {"receipt": content})
            return JSONResponse({"results": results})
        wire = bytes.fromhex(body["envelope"][2:])
        self.posts.append(wire)
        if step == "500":
            return JSONResponse({"error": "a proxy's page"}, 500)
        if step == "503":
            return refusal(503, "E494", "catching up")
        if step == "429":
            return refusal(429, "E429", "too fast", {"Retry-After": "0.05"})
        if step == "garbage":
            return Response(b"<html>", 200)
        answer = self._take(wire, forged=step == "forge")
        return JSONResponse({}, 500) if step == "take, 500" else answer

    def _take(self, wire: bytes, *, forged: bool = False) -> Response:
        try:
            admitted = admit(wire, self.genesis.domain())
        except RemoteFault as fault:
            return refusal(400, fault.code, fault.sentence)
        sent = admitted.transaction
        if admitted.id not in self.taken and isinstance(sent, Envelope):
            if (sent.key, sent.nonce) in self.used:
                return refusal(409, "E104", f"nonce {sent.nonce} was used")
            if sent.last_valid < self.height:
                return refusal(409, "E103", "expired")
            self.used.add((sent.key, sent.nonce))
        self.taken[admitted.id] = admitted
        network = bytes(32) if forged else self.genesis.network_id()
        receipt = sign_receipt(self.key, network, admitted.id, self.height, 1)
        return JSONResponse(document.render(receipt))

    async def _stream(self, socket: WebSocket) -> None:
        await socket.accept()
        self.subscriptions.append(await socket.receive_json())
        for frame in self.streams.pop(0) if self.streams else []:
            if frame == "wait":
                await trio.sleep_forever()
            elif isinstance(frame, str):
                await socket.send_text(frame)
            else:
                await socket.send_json(frame)
        await socket.close(1001)


def refusal(
    status: int, code: str, message: str, headers: dict[str, str] | None = None
) -> Response:
    error = {"code": code, "message": message, "next": "do better"}
    return JSONResponse({"error": error}, status, headers)


@pytest.fixture
async def serve_node(
    genesis: NetworkGenesis,
) -> AsyncIterator[Callable[[], Awaitable[ScriptedNode]]]:
    """A starter of scripted nodes on free ports, all of the same network."""
    stopped = trio.Event()
    async with trio.open_nursery() as nursery:

        async def start() -> ScriptedNode:
            scripted = ScriptedNode(genesis)
            config = Config()
            config.bind = ["127.0.0.1:0"]
            config.graceful_timeout = config.shutdown_timeout = GRACE_S
            served = partial(
                serve, scripted.app(), config, mode="asgi", shutdown_trigger=stopped.wait
            )
            scripted.url = (await nursery.start(served))[0]
            return scripted

        yield start
        stopped.set()
