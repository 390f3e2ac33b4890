"""A node without a network: real exchange, ledger, storage, intake and chat, driven by hand.

async with open_world(tmp_path) as world:
    await world.fund(trader)
    await world.submit(trader.place(...))
    await world.block()
"""

import os
import queue
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import trio

from chat import ChatService, sign_message
from consensus import Block, Commit, QuorumCertificate
from consensus.block import make_block
from consensus.report import FIRST_PREVIOUS, sign_link
from exchange import BlockInput, Deposit, Exchange, Observation, admit
from exchange.actions import Action, Lifetime, Place, SelfTrade, Side, Withdraw
from exchange.envelope import Scope, sign_authorization, sign_envelope
from exchange.genesis import ExchangeGenesis, Market, Token
from exchange.network import NetworkGenesis, TokenContract
from exchange.receipt import Receipt
from node.api.server import serve_api
from node.config import ApiSection, Config, EvmSection, NodeSection
from node.feed import BlockUpdate, ChatUpdate, Feed
from node.genesis import agreement
from node.intake import Intake
from node.keys import NodeKeys, create_keys
from node.ledger import Ledger
from node.mempool import Mempool
from node.metrics import Metric, from_statistics
from node.status import CheckpointView, ClaimView, EnvelopeStatus, EvmView, Status
from primitives import codec
from primitives.anchors import deposit_accumulator, withdrawal_leaf
from primitives.cid import cid_of
from primitives.ed25519 import SigningKey
from primitives.keccak_tree import proof as keccak_proof
from primitives.secp256k1 import EvmKey
from storage import Index

START_MS = 1_700_000_000_000
BLOCK_MS = 1_000
START_TIMEOUT_S = 30
FUNDS = 1_000_000_000_000
MARKET = "BTC-USD"
ALL_SCOPES = Scope.TRADE | Scope.TRANSFER | Scope.WITHDRAW | Scope.CHAT


class Trader:
    """An account's owner and its trading key."""

    def __init__(self, number: int) -> None:
        self.owner = EvmKey(bytes([number]) * 32)
        self.key = SigningKey(bytes([number + 100]) * 32)
        self.address = self.owner.address
        self.nonce = 0
        self.messages = 0

    @property
    def hex(self) -> str:
        return "0x" + self.address.hex()

    def sign(self, network: bytes, *actions: Action, last_valid: int = 10_000) -> bytes:
        wire = sign_envelope(self.key, network, self.address, self.nonce, last_valid, list(actions))
        self.nonce += 1
        return wire

    def say(self, network: bytes, text: str, room: str = MARKET, heads: Any = ()) -> bytes:
        self.messages += 1
        return sign_message(
            self.key,
            network,
            room,
            self.address,
            self.messages,
            time.time_ns() // 1_000_000,
            heads,
            text,
        )


def place(
    side: Side,
    price: int,
    size: int,
    *,
    market: int = 0,
    lifetime: Lifetime = Lifetime.GTC,
    client_id: str = "",
) -> Place:
    return Place(market, side, price, size, lifetime, SelfTrade.CANCEL_RESTING, client_id)


def buy(price: int, size: int, **more: Any) -> Place:
    return place(Side.BUY, price, size, **more)


def sell(price: int, size: int, **more: Any) -> Place:
    return place(Side.SELL, price, size, **more)


def withdraw(token: int, units: int, recipient: bytes) -> Withdraw:
    return Withdraw(token, units, recipient)


def make_genesis(keys: NodeKeys) -> NetworkGenesis:
    return NetworkGenesis(
        name="test",
        time_ms=START_MS,
        exchange=ExchangeGenesis(
            chain_id=1337,
            tokens=[Token("USD", 6), Token("BTC", 8), Token("ETH", 8)],
            markets=[
                Market(MARKET, 1, 0, 10_000, 100, 100, 500),
                Market("ETH-USD", 2, 0, 10_000, 100, 100, 500),
            ],
            fee_account=b"\xfe" * 20,
            powers=[1],
            rollup_interval_ms=1,
        ),
        validators=[keys.public("solo", 1)],
        vault=b"\xaa" * 20,
        vault_block=3,
        epoch_ms=60_000,
        contracts=[TokenContract(bytes([9 + i]) * 20, 10**10) for i in range(3)],
    )


class LocalNode:
    """What the API sees of a node (`node.api.face.NodeFace`), without peers and chain."""

    def __init__(self, genesis: NetworkGenesis, keys: NodeKeys, index: Index, api: ApiSection):
        self.config = Config(NodeSection("solo"), EvmSection(["http://127.0.0.1:1"]), api=api)
        self.genesis = genesis
        self.network = genesis.network_id()
        self.index = index
        self.feed = Feed()
        self.exchange = Exchange(genesis.exchange, self.network)
        self.mempool = Mempool()
        self.waiting: list[bytes] = []
        self.is_ready = True
        self.ledger = Ledger(
            self.exchange,
            index,
            self.mempool,
            self.feed,
            genesis.domain(),
            on_rollup=lambda _rollup, _root: None,
            on_keys=self._on_keys,
        )
        self.intake = Intake(
            genesis.domain(),
            self.exchange,
            self.mempool,
            cast(Any, None),  # there is nobody to hand envelopes on to
            keys.signing(),
            is_validator=True,
            height=lambda: self.ledger.height,
            is_ready=lambda: self.is_ready,
        )
        rooms = [market.symbol for market in genesis.exchange.markets]
        self.chat = ChatService(index, self.network, rooms, self._authorize)

    async def _on_keys(self, changed: set[tuple[bytes, bytes]]) -> None:
        for account, key in changed:
            await trio.to_thread.run_sync(self.chat.recheck, account, key)

    def _authorize(self, account: bytes, key: bytes, time_ms: int) -> bool:
        row = self.index.key_at(account, key, time_ms)
        return row is not None and bool(row.scope & Scope.CHAT)

    async def submit(self, wires: list[bytes]) -> Any:
        answers = await self.intake.submit(wires)
        for answer in answers:
            if isinstance(answer, Receipt) and answer.envelope not in self.waiting:
                self.waiting.append(answer.envelope)
        return answers

    async def say(self, wire: bytes) -> bytes:
        now_ms = time.time_ns() // 1_000_000
        accepted = await trio.to_thread.run_sync(self.chat.accept, wire, now_ms)
        for kept in accepted.shown:
            self.feed.publish(ChatUpdate(kept.cid, kept.message))
        return accepted.cid

    async def envelope(self, name: bytes) -> EnvelopeStatus | None:
        row = await trio.to_thread.run_sync(self.index.transaction, name)
        if row is None:
            held = name in self.mempool
            text = "0x" + name.hex()
            return EnvelopeStatus(text, "accepted", None, None, "", []) if held else None
        refused = await trio.to_thread.run_sync(self.index.rejections, name, 64)
        return EnvelopeStatus(
            "0x" + name.hex(),
            row.status,
            row.height,
            row.position,
            row.code,
            [(item.action, item.code) for item in refused],
        )

    async def withdrawals(self, address: bytes) -> list[ClaimView]:
        rows = await trio.to_thread.run_sync(self.index.withdrawals, address, 100)
        return [await trio.to_thread.run_sync(self._claim, row) for row in rows]

    def _claim(self, row: Any) -> ClaimView:
        leaves = [
            withdrawal_leaf(row.rollup, item.leaf, item.account, item.token, item.units)
            for item in self.index.rollup_withdrawals(row.rollup, 100)
        ]
        proof = ["0x" + item.hex() for item in keccak_proof(leaves, row.leaf)]
        account = "0x" + row.account.hex()
        return ClaimView(row.rollup, row.leaf, account, row.token, row.units, proof, True, False)

    def status(self) -> Status:
        return Status(
            name="solo",
            role="validator",
            version="0",
            network=self.network.hex(),
            pid=os.getpid(),
            rss_mb=1.5,
            ready=self.is_ready,
            signing=True,
            height=self.ledger.height,
            epoch=1,
            round=self.ledger.height,
            time_ms=self.ledger.time_ms,
            root=self.exchange.root.hex(),
            checkpoint=CheckpointView(self.ledger.height, self.exchange.root.hex()),
            validators=1,
            agreement_faults_max=0,
            fairness_faults_max=0,
            passed_over=[],
            accused=[],
            peers_connected=0,
            peers=[],
            evm=EvmView(False, 0, 0, self.exchange.deposits.next_index),
            rollup=0,
            mempool=self.mempool.statistics().waiting,
        )

    async def metrics(self) -> list[Metric]:
        parts = ("exchange", "mempool", "ledger", "intake", "chat", "feed", "index")
        return [
            metric
            for name in parts
            for metric in from_statistics(f"outcry_{name}", getattr(self, name).statistics())
        ]


class World:
    """A node whose blocks the test makes."""

    def __init__(self, node: LocalNode, keys: NodeKeys) -> None:
        self.node = node
        self.network = node.network
        self._key = keys.signing()
        self._tip = agreement(node.genesis).cid
        self._deposits: list[Deposit] = []
        self._accumulator = node.exchange.deposits.accumulator
        self._commits, commits = trio.open_memory_channel[Commit](1)
        self._received = commits

    async def run(self) -> None:
        await self.node.ledger.run(self._received)

    def deposit(self, trader: Trader, token: int, units: int) -> None:
        """To be credited by the next block."""
        index = self.node.exchange.deposits.next_index + len(self._deposits)
        self._accumulator = deposit_accumulator(
            self._accumulator, index, trader.address, token, units
        )
        self._deposits.append(Deposit(index, trader.address, token, units, self._accumulator))

    async def fund(self, *traders: Trader) -> None:
        """Money in all tokens, and a key with every scope."""
        for trader in traders:
            for token in range(3):
                self.deposit(trader, token, FUNDS)
        await self.block()
        for trader in traders:
            await self.submit(self.authorization(trader))
        await self.block()

    def authorization(self, trader: Trader, sequence: int = 1) -> bytes:
        domain = self.node.genesis.domain()
        expires_ms = time.time_ns() // 1_000_000 + 10**9
        return sign_authorization(
            trader.owner, domain, trader.key.public, ALL_SCOPES, expires_ms, sequence
        )

    async def submit(self, *wires: bytes) -> list[bytes]:
        """Envelopes for the next block; their ids. A refusal is an error of the test."""
        answers = await self.node.submit(list(wires))
        refused = [answer for answer in answers if isinstance(answer, Exception)]
        assert not refused, refused
        return [answer.envelope for answer in answers]

    async def do(self, trader: Trader, *actions: Action) -> bytes:
        """One envelope, executed in a block of its own; its id."""
        (name,) = await self.submit(trader.sign(self.network, *actions))
        await self.block()
        return name

    async def block(self) -> BlockUpdate:
        """Execute everything that was admitted and not executed, as the next block."""
        node = self.node
        waiting = [name for name in node.waiting if not node.mempool.is_executed(name)]
        node.waiting.clear()
        commit = Commit(self._make_block(waiting), tuple(waiting))
        with node.feed.subscribe() as updates:
            await self._commits.send(commit)
            async for update in updates:
                if isinstance(update, BlockUpdate) and update.height == commit.block.height:
                    return update
        raise AssertionError("the feed ended")

    def execute_unheard(self, *wires: bytes) -> BlockUpdate:
        """Execute a block that nobody has heard of yet; storage never will."""
        exchange = self.node.exchange
        height, time_ms = exchange.height + 1, exchange.time_ms + BLOCK_MS
        admitted = tuple(admit(wire, self.node.genesis.domain()) for wire in wires)
        result = exchange.apply(BlockInput(height, time_ms, admitted))
        names = tuple(item.id for item in admitted)
        return BlockUpdate(height, cid_of(b"%d" % height), time_ms, result, names)

    def _make_block(self, names: list[bytes]) -> Block:
        node, height = self.node, self.node.ledger.height + 1
        count = node.exchange.deposits.next_index + len(self._deposits)
        seen = Observation(height, bytes(32), count, self._accumulator, self._deposits)
        self._deposits = []
        time_ms = START_MS + height * BLOCK_MS
        link = sign_link(
            self._key,
            self.network,
            1,
            0,
            height,
            FIRST_PREVIOUS,
            names,
            time_ms,
            codec.encode(seen),
        )
        block = make_block(
            self._key,
            self.network,
            round_=height,
            height=height,
            author=0,
            time_ms=time_ms,
            qc=QuorumCertificate(1, height - 1, self._tip, []),
            tc=None,
            link_wires=[codec.encode(link)],
            checkpoint=None,
        )
        self._tip = block.cid
        return block


@asynccontextmanager
async def open_world(directory: Path, **api: int) -> AsyncIterator[World]:
    """A world with an empty index in `directory`; `api` changes the [api] section."""
    keys = create_keys()
    genesis = make_genesis(keys)
    index = Index.open(directory / "index.db", genesis.network_id())
    try:
        world = World(LocalNode(genesis, keys, index, ApiSection(**api)), keys)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.run)
            yield world
            nursery.cancel_scope.cancel()
    finally:
        index.close()


class Furnished:
    """A served world with two traders, orders, trades, a rollup block and a chat message."""

    def __init__(self) -> None:
        self.alice, self.bob, self.stranger = Trader(1), Trader(2), Trader(3)
        self.url = ""
        self.world: Any = None
        self.placed = b""
        self.rejected = b""
        self.said = b""

    async def furnish(self, world: World) -> None:
        self.world = world
        alice, bob = self.alice, self.bob
        await world.fund(alice, bob)
        self.placed = await world.do(
            alice, buy(100, 5, client_id="first"), sell(120, 3), buy(90, 7)
        )
        await world.do(bob, sell(100, 2))
        self.rejected = await world.do(bob, buy(100, 10**9), withdraw(0, 500, bob.address))
        await world.do(alice, withdraw(1, 700, bob.address))
        self.said = await world.node.say(alice.say(world.network, "hello"))


@contextmanager
def served(directory: Path, **api: int) -> Iterator[Furnished]:
    """A furnished world, served by a real server in a thread of its own."""
    furnished = Furnished()
    started: queue.Queue[Any] = queue.Queue()

    async def main() -> None:
        async with open_world(directory, **api) as world:
            await furnished.furnish(world)
            async with trio.open_nursery() as nursery:
                furnished.url = await nursery.start(serve_api, world.node, "127.0.0.1", 0)
                started.put((trio.lowlevel.current_trio_token(), nursery.cancel_scope))
                await trio.sleep_forever()

    def run() -> None:
        try:
            trio.run(main)
        except BaseException as error:
            started.put(error)
            raise

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    found = started.get(timeout=START_TIMEOUT_S)
    if isinstance(found, BaseException):
        raise found
    token, scope = found
    try:
        yield furnished
    finally:
        token.run_sync_soon(scope.cancel)
        thread.join(START_TIMEOUT_S)
        assert not thread.is_alive()
