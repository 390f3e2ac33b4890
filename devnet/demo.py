"""The demo: two traders deposit, trade through two different validators, talk, and withdraw.

Nothing is simulated: the processes, the chain, the signatures and the money's way are those of
a real network; only the EVM chain and the machine are ours alone.
"""

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import trio

from client import Mined, Trader, Wallet
from devnet.cluster import Cluster
from devnet.faults import DemoFailed
from devnet.layout import ClusterState
from devnet.report import (
    BalanceReport,
    ChatReport,
    DemoReport,
    FillReport,
    LatencyReport,
    TransactionReport,
    ValidatorReport,
    percentile,
)
from primitives.durable import replace_file

MARKET = "XOM-USD"
BASE, QUOTE = "XOM", "USD"
TRADES = 20
AGREE_S_MAX = 30.0  # how long nodes may take to show the same history
POLL_S = 0.1
REQUEST_TIMEOUT_S = 20.0
ROWS_MAX = 1_000
CERTIFYING_HEIGHTS = 3  # blocks above one that prove it final to whoever replays the export
EXPORT_HEIGHTS_MAX = 2_000
_DEPOSIT_BASE, _DEPOSIT_QUOTE = Decimal(500), Decimal(2_000)

Progress = Callable[[str], None]


@dataclass
class _Story:
    """What is collected on the way."""

    cluster: Cluster
    progress: Progress
    transactions: list[TransactionReport] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    before: dict[tuple[str, str], int] = field(default_factory=dict)

    def mined(self, what: str, receipt: Mined) -> None:
        self.transactions.append(
            TransactionReport(what, "0x" + receipt.tx.hex(), receipt.gas, receipt.block)
        )


async def run_demo(cluster: Cluster, progress: Progress) -> DemoReport:
    """Play the demo on a running cluster. Errors: `DemoFailed`, and those of the client."""
    started = time.monotonic()
    state = cluster.state
    story = _Story(cluster, progress)
    validators = [node for node in state.nodes if node.role == "validator"]
    sides = (validators[0], validators[1 % len(validators)])
    observer = validators[-1].api
    async with AsyncExitStack() as stack:
        traders = [
            await stack.enter_async_context(
                Trader.connect(node.api, Wallet.from_hex(account.evm_secret), evm=state.evm)
            )
            for node, account in zip(sides, state.traders, strict=False)
        ]
        watcher = await stack.enter_async_context(Trader.connect(observer, traders[0].wallet))
        names = [account.name for account in state.traders[:2]]
        await _note_balances(story, names, traders)
        await _deposit(story, traders)
        await _trade(story, traders, watcher)
        await _talk(story, traders)
        await _withdraw(story, traders)
        balances = await _balances(story, names, traders)
    async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S, trust_env=False) as http:
        progress("collecting what every node says")
        return await _report(http, story, balances, time.monotonic() - started)


async def _deposit(story: _Story, traders: list[Trader]) -> None:
    """Alice brings the base token and Bob the quote token; both authorise a trading key."""
    story.progress(f"depositing {_DEPOSIT_BASE} {BASE} and {_DEPOSIT_QUOTE} {QUOTE} on chain")
    plan = ((traders[0], BASE, _DEPOSIT_BASE), (traders[1], QUOTE, _DEPOSIT_QUOTE))
    for trader, token, amount in plan:
        receipt = await trader.deposit(token, amount)
        story.mined("deposit", receipt)
        await trader.wait_credited(receipt)
        authorized = await trader.authorize()
        await trader.wait_executed(authorized.id)


async def _trade(story: _Story, traders: list[Trader], watcher: Trader) -> None:
    """Each sell of Alice, sent to one validator, meets a buy of Bob, sent to another."""
    story.progress(f"trading {TRADES} times through two different validators")
    alice, bob = traders
    for number in range(TRADES):
        price = Decimal("1.00") + Decimal(number) / 100
        size = Decimal(number % 5 + 1)
        for trader, action in ((alice, alice.sell), (bob, bob.buy)):
            began = time.monotonic()
            order = await action(MARKET, size, price)
            await watcher.wait_executed(order.id)
            story.latencies.append((time.monotonic() - began) * 1_000)
            found = await trader.wait_executed(order.id)
            if found.rejections:
                raise DemoFailed(f"an order of the demo was refused: {found.rejections}")
    fills = await watcher.trades(MARKET)
    if len(fills) < TRADES:
        raise DemoFailed(f"{len(fills)} of {TRADES} trades took place")


async def _talk(story: _Story, traders: list[Trader]) -> None:
    story.progress(f"talking in the room {MARKET}")
    alice, bob = traders
    await alice.say(MARKET, "Sold you some XOM. Pleasure doing business.")
    await _wait_for_messages(bob, 1)
    await bob.say(MARKET, "Likewise! Is there more where that came from?")
    await _wait_for_messages(alice, 2)
    await alice.say(MARKET, "Always. Withdrawing my dollars now.")


async def _wait_for_messages(trader: Trader, count: int) -> None:
    with trio.move_on_after(AGREE_S_MAX):
        while len(await trader.history(MARKET)) < count:
            await trio.sleep(POLL_S)
        return
    raise DemoFailed(f"a message did not reach the other trader's node in {AGREE_S_MAX:.0f} s")


async def _withdraw(story: _Story, traders: list[Trader]) -> None:
    """Everything that the traders own goes back to the chain."""
    story.progress("withdrawing everything, waiting for a rollup block, claiming on chain")
    for trader in traders:
        cancelled = await trader.cancel_all()
        await trader.wait_executed(cancelled.id)
        requested = 0
        for balance in await trader.balances():
            if balance.free == 0:
                continue
            decimals = trader.genesis.exchange.tokens[balance.token].decimals
            amount = Decimal(balance.free).scaleb(-decimals)
            order = await trader.withdraw(balance.symbol, amount)
            await trader.wait_executed(order.id)
            requested += 1
        claimable = await trader.wait_claimable(count=requested)
        if len(claimable) < requested:
            raise DemoFailed(f"{len(claimable)} of {requested} withdrawals became claimable")
        for _, receipt in await trader.claim():
            story.mined("claim", receipt)


async def _note_balances(story: _Story, names: list[str], traders: list[Trader]) -> None:
    for name, trader in zip(names, traders, strict=True):
        for token, kind in enumerate(trader.genesis.exchange.tokens):
            story.before[name, kind.symbol] = await _on_chain(trader, token)


async def _balances(story: _Story, names: list[str], traders: list[Trader]) -> list[BalanceReport]:
    return [
        BalanceReport(
            name,
            trader.wallet.address,
            kind.symbol,
            story.before[name, kind.symbol],
            await _on_chain(trader, token),
        )
        for name, trader in zip(names, traders, strict=True)
        for token, kind in enumerate(trader.genesis.exchange.tokens)
    ]


async def _on_chain(trader: Trader, token: int) -> int:
    """What a trader holds of a token outside the vault, in exchange units."""
    wei: int = await trader.chain.token_balance(token)
    return wei // trader.genesis.contracts[token].scale


# The report


async def _report(
    http: httpx.AsyncClient, story: _Story, balances: list[BalanceReport], seconds: float
) -> DemoReport:
    state = story.cluster.state
    first = state.nodes[0].api
    validators = [await _validator(http, story.cluster, node.name) for node in state.nodes]
    for tx in await _rollup_transactions(http, state):
        receipt = await _receipt(http, state, tx)
        gas, block = int(receipt["gasUsed"], 16), int(receipt["blockNumber"], 16)
        story.transactions.append(TransactionReport("rollup", tx, gas, block))
    newest = max(item.checkpoint_height for item in validators)
    height = await wait_height(http, first, newest + CERTIFYING_HEIGHTS)
    archive = story.cluster.layout.root / "chain.car"
    await _export(http, first, height, archive)
    return DemoReport(
        network=state.network,
        directory=str(story.cluster.layout.root),
        evm=state.evm,
        seconds=round(seconds, 1),
        validators=validators,
        fills=await _fills(http, first),
        latency_ms=LatencyReport(
            round(percentile(story.latencies, 0.5), 1),
            round(percentile(story.latencies, 0.99), 1),
            len(story.latencies),
        ),
        blocks=await _block_cids(http, first, height),
        settlement=sorted(story.transactions, key=lambda item: item.block),
        balances=balances,
        chat=await chat_report(http, state),
        archive=str(archive),
    )


async def _rollup_transactions(http: httpx.AsyncClient, state: ClusterState) -> list[str]:
    """The transactions of all rollup blocks; each is known to the validator that sent it."""
    found: dict[int, str] = {}
    for node in state.nodes:
        answer = await _get(http, f"{node.api}/v1/rollups?limit={ROWS_MAX}")
        for rollup in answer["rollups"]:
            if rollup["transaction"]:
                found[rollup["number"]] = rollup["transaction"]
    return [found[number] for number in sorted(found)]


async def _validator(http: httpx.AsyncClient, cluster: Cluster, name: str) -> ValidatorReport:
    node = cluster.node(name)
    status = await _get(http, f"{node.api}/v1/status")
    checkpoint = status["checkpoint"] or {"height": 0, "root": ""}
    return ValidatorReport(
        id=name,
        api=node.api,
        pid=status["pid"],
        height=status["height"],
        checkpoint_height=checkpoint["height"],
        checkpoint_root=checkpoint["root"],
        peers=status["peers_connected"],
        rss_mb=round(cluster.rss_mb(name), 1),
    )


async def _fills(http: httpx.AsyncClient, api: str) -> list[FillReport]:
    trades = (await _get(http, f"{api}/v1/markets/{MARKET}/trades?limit={ROWS_MAX}"))["trades"]
    return [
        FillReport(
            MARKET,
            trade["number"],
            trade["height"],
            trade["price"],
            trade["size"],
            str(trade["maker_order"]),
            str(trade["taker_order"]),
        )
        for trade in reversed(trades)
    ]


async def _block_cids(http: httpx.AsyncClient, api: str, height: int) -> list[str]:
    cids: list[str] = []
    while len(cids) < height:
        first = len(cids) + 1
        last = min(height, first + ROWS_MAX - 1)
        answer = await _get(http, f"{api}/v1/blocks?from={first}&to={last}&limit={ROWS_MAX}")
        cids += [block["cid"] for block in answer["blocks"]]
        if not answer["blocks"]:
            break
    return cids


async def _export(http: httpx.AsyncClient, api: str, height: int, path: Path) -> None:
    last = min(height, EXPORT_HEIGHTS_MAX)
    answer = await http.get(f"{api}/v1/export?from=1&to={last}")
    answer.raise_for_status()
    replace_file(path, answer.content)


async def wait_height(http: httpx.AsyncClient, api: str, height: int) -> int:
    """The height of a node once it is at least `height`. Errors: `DemoFailed`."""
    with trio.move_on_after(AGREE_S_MAX):
        while True:
            seen: int = (await _get(http, f"{api}/v1/status"))["height"]
            if seen >= height:
                return seen
            await trio.sleep(POLL_S)
    raise DemoFailed(f"{api} did not reach height {height} in {AGREE_S_MAX:.0f} s")


async def chat_report(http: httpx.AsyncClient, state: ClusterState) -> ChatReport:
    """The room's history; waits a while until all nodes have the same."""
    histories: list[list[str]] = []
    messages: list[str] = []
    deadline = trio.current_time() + AGREE_S_MAX
    while True:
        histories = []
        for node in state.nodes:
            answer = await _get(http, f"{node.api}/v1/chat/{MARKET}?limit=200")
            histories.append([item["cid"] for item in answer["messages"]])
            messages = [item["text"] for item in answer["messages"]]
        equal = all(history == histories[0] for history in histories)
        if (equal and messages) or trio.current_time() > deadline:
            return ChatReport(MARKET, messages, histories[0], equal)
        await trio.sleep(POLL_S)


async def _receipt(http: httpx.AsyncClient, state: ClusterState, tx: str) -> dict[str, str]:
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_getTransactionReceipt", "params": [tx]}
    answer = (await http.post(state.evm, json=question)).json()
    receipt: dict[str, str] | None = answer.get("result")
    if receipt is None:
        raise DemoFailed(f"the chain does not know the rollup's transaction {tx}")
    return receipt


async def _get(http: httpx.AsyncClient, url: str) -> Any:
    answer = await http.get(url)
    answer.raise_for_status()
    return answer.json()
