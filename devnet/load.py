"""Load for a cluster: many accounts, each order signed by itself, counted where it was not sent.

    report = await run_load(state, genesis, LoadPlan(rate=500, seconds=60), progress)

Orders are pre-signed, sent in packs to all nodes but one, and an order counts when that one, the
observer, reports it executed. Latency is from handing an order to the HTTP client to reading its
execution at the observer.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
import trio
from httpx_ws import aconnect_ws

from client import Chain, Wallet
from devnet.faults import DemoFailed
from devnet.layout import ClusterState, TraderState
from devnet.report import percentile
from exchange.actions import Lifetime, Place, SelfTrade, Side
from exchange.envelope import Scope, envelope_id, sign_authorization, sign_envelope
from exchange.network import NetworkGenesis
from primitives.hashing import digest

POLL_MS = 200  # between two looks at whether funding has arrived
TICK_MS = 20  # how often every node is sent its pack
SETTLE_S_MAX = 30.0  # how long to wait for the last orders after the last was sent
FUNDING_S_MAX = 180.0
REQUEST_TIMEOUT_S = 15.0
LIFETIME_HEIGHTS = 5_000
MESSAGE_BYTES_MAX = 4 << 20
PACK_ITEMS_MAX = 200
_KEY_MS = 10**15
_BASE_PRICE = 10_000
_UNITS_PER_ACCOUNT = 5 * 10**9

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LoadPlan:
    """What to send: `rate` orders a second for `seconds`, from `accounts` accounts."""

    rate: int = 100
    seconds: int = 30
    accounts: int = 100


class LatencyView(msgspec.Struct, frozen=True):
    p50: float
    p95: float
    p99: float
    max: float


class LoadReport(msgspec.Struct, frozen=True):
    """What came of it. `executed_per_second` counts until the last execution was seen."""

    rate: int
    seconds: float
    accounts: int
    sent: int
    accepted: int
    executed: int
    executed_per_second: float
    latency_ms: LatencyView
    refused: dict[str, int]
    observer: str


@dataclass
class _Account:
    wallet: Wallet
    nonce: int = 0


@dataclass
class _Run:
    sent_at: dict[bytes, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    sent: int = 0
    last_execution: float = 0.0


class _Observed(msgspec.Struct):
    """The part of a block update that matters here."""

    type: str
    data: dict[str, list[dict[str, object]]] = {}


async def run_load(
    state: ClusterState, genesis: NetworkGenesis, plan: LoadPlan, progress: Progress
) -> LoadReport:
    """Fund what is needed, send, count. Errors: `DemoFailed`, and those of the client."""
    apis = [node.api for node in state.nodes]
    observer, targets = apis[-1], apis[:-1] or apis
    accounts = _accounts(genesis, plan.accounts)
    async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S, trust_env=False) as http:
        await _fund(http, state, genesis, accounts, progress)
        progress(f"sending {plan.rate} orders a second for {plan.seconds} s")
        run = _Run()
        started = trio.current_time()
        async with trio.open_nursery() as nursery:
            await nursery.start(_observe, http, observer, run)
            await _send(http, targets, genesis, accounts, plan, run)
            with trio.move_on_after(SETTLE_S_MAX):
                while len(run.latencies) < run.accepted:
                    await trio.sleep(TICK_MS / 1_000)
            nursery.cancel_scope.cancel()
    took = max(run.last_execution - started, 0.001)
    return LoadReport(
        rate=plan.rate,
        seconds=round(took, 2),
        accounts=plan.accounts,
        sent=run.sent,
        accepted=run.accepted,
        executed=len(run.latencies),
        executed_per_second=round(len(run.latencies) / took, 1),
        latency_ms=LatencyView(
            *(round(percentile(run.latencies, share), 1) for share in (0.5, 0.95, 0.99, 1.0))
        ),
        refused=run.refused,
        observer=state.nodes[-1].name,
    )


# Funding


def _accounts(genesis: NetworkGenesis, count: int) -> list[_Account]:
    """The same accounts in every run on one network, so that they are funded once."""
    network = genesis.network_id()
    secrets = (digest("outcry/load/1", network, b"%d" % number) for number in range(count))
    return [_Account(Wallet.from_hex(secret.hex())) for secret in secrets]


async def _fund(
    http: httpx.AsyncClient,
    state: ClusterState,
    genesis: NetworkGenesis,
    accounts: list[_Account],
    progress: Progress,
) -> None:
    """Deposit for accounts that have nothing yet, and authorise their keys."""
    api = state.nodes[0].api
    unknown = [item for item in accounts if not await _learn(http, api, item)]
    if unknown:
        progress(f"funding {len(unknown)} accounts on chain")
        await _deposit(state, genesis, unknown, state.traders[-1])
        with trio.fail_after(FUNDING_S_MAX):
            while not await _learn(http, api, unknown[-1]):
                await trio.sleep(POLL_MS / 1_000)
            await _authorize(http, api, genesis, unknown)
    for item in accounts:
        await _learn(http, api, item)


async def _deposit(
    state: ClusterState, genesis: NetworkGenesis, accounts: list[_Account], funder: TraderState
) -> None:
    async with Chain.connect([state.evm], Wallet.from_hex(funder.evm_secret), genesis) as chain:
        for token in range(len(genesis.exchange.tokens)):
            await chain.approve(token, _UNITS_PER_ACCOUNT * len(accounts))
            for item in accounts:
                await chain.deposit(token, _UNITS_PER_ACCOUNT, item.wallet.account)


async def _authorize(
    http: httpx.AsyncClient, api: str, genesis: NetworkGenesis, accounts: list[_Account]
) -> None:
    wires = [
        sign_authorization(
            item.wallet.evm,
            genesis.domain(),
            item.wallet.trading.public,
            Scope.TRADE | Scope.WITHDRAW,
            _KEY_MS,
            1,
        )
        for item in accounts
    ]
    for start in range(0, len(wires), PACK_ITEMS_MAX):
        results = await _post(http, api, wires[start : start + PACK_ITEMS_MAX])
        errors = [item["error"] for item in results if "error" in item]
        if errors:
            raise DemoFailed(f"an authorization was refused: {errors[0]}")
    while not all([await _has_key(http, api, item) for item in accounts[-3:]]):
        await trio.sleep(POLL_MS / 1_000)


async def _learn(http: httpx.AsyncClient, api: str, item: _Account) -> bool:
    """Whether the exchange knows the account with all its tokens; its next nonce if so."""
    answer = await http.get(f"{api}/v1/accounts/{item.wallet.address}")
    if answer.status_code != httpx.codes.OK:
        return False
    view = answer.json()
    for key in view["keys"]:
        if key["key"] == "0x" + item.wallet.trading.public.hex():
            item.nonce = key["next_nonce"]
    return all(balance["free"] or balance["reserved"] for balance in view["balances"])


async def _has_key(http: httpx.AsyncClient, api: str, item: _Account) -> bool:
    view = (await http.get(f"{api}/v1/accounts/{item.wallet.address}")).json()
    return bool(view.get("keys"))


# Sending


async def _send(
    http: httpx.AsyncClient,
    targets: list[str],
    genesis: NetworkGenesis,
    accounts: list[_Account],
    plan: LoadPlan,
    run: _Run,
) -> None:
    """Send packs on a fixed beat; a late beat is made up for, so the rate is kept."""
    height = (await http.get(f"{targets[0]}/v1/status")).json()["height"]
    last_valid = height + LIFETIME_HEIGHTS
    began = trio.current_time()
    total = plan.rate * plan.seconds
    made = beat = 0
    async with trio.open_nursery() as nursery:
        while made < total:
            due = min(total, int((trio.current_time() - began) * plan.rate) + 1)
            wires = [_order(genesis, accounts, number, last_valid) for number in range(made, due)]
            made = due
            for start in range(0, len(wires), PACK_ITEMS_MAX):
                pack = wires[start : start + PACK_ITEMS_MAX]
                target = targets[beat % len(targets)]
                beat += 1
                nursery.start_soon(_send_pack, http, target, genesis.network_id(), pack, run)
            await trio.sleep(TICK_MS / 1_000)


def _order(
    genesis: NetworkGenesis, accounts: list[_Account], number: int, last_valid: int
) -> bytes:
    """Order number `number`: sides alternate around one price, so that about half match."""
    item = accounts[number % len(accounts)]
    side = Side.BUY if (number + number // len(accounts)) % 2 else Side.SELL
    price = _BASE_PRICE + number * 7 % 11 - 5
    action = Place(0, side, price, 1 + number % 5, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
    wire = sign_envelope(
        item.wallet.trading,
        genesis.network_id(),
        item.wallet.account,
        item.nonce,
        last_valid,
        [action],
    )
    item.nonce += 1
    return wire


async def _send_pack(
    http: httpx.AsyncClient, target: str, network: bytes, wires: list[bytes], run: _Run
) -> None:
    now = trio.current_time()
    for wire in wires:
        run.sent_at[envelope_id(wire, network)] = now
    run.sent += len(wires)
    try:
        results = await _post(http, target, wires)
    except httpx.HTTPError as error:
        name = type(error).__name__
        run.refused[name] = run.refused.get(name, 0) + len(wires)
        return
    for result in results:
        error_part = result.get("error")
        if isinstance(error_part, dict):
            code = str(error_part.get("code"))
            run.refused[code] = run.refused.get(code, 0) + 1
        else:
            run.accepted += 1


async def _post(
    http: httpx.AsyncClient, target: str, wires: list[bytes]
) -> list[dict[str, object]]:
    answer = await http.post(
        f"{target}/v1/envelopes",
        content=msgspec.msgpack.encode(wires),
        headers={"content-type": "application/msgpack"},
    )
    if answer.status_code != httpx.codes.OK:
        return [answer.json()] * len(wires)
    results: list[dict[str, object]] = answer.json()["results"]
    return results


# Counting


async def _observe(
    http: httpx.AsyncClient,
    api: str,
    run: _Run,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Read the observer's blocks until cancelled."""
    url = api.replace("http://", "ws://") + "/v1/stream"
    socket: Any
    async with aconnect_ws(url, http, max_message_size_bytes=MESSAGE_BYTES_MAX) as socket:
        await socket.send_text('{"op": "subscribe", "channel": "blocks"}')
        await socket.receive_text()
        task_status.started()
        while True:
            update = msgspec.json.decode(await socket.receive_text(), type=_Observed)
            now = trio.current_time()
            for block in update.data.get("blocks", []):
                _count(block, now, run)


def _count(block: dict[str, object], now: float, run: _Run) -> None:
    transactions = block.get("transactions")
    if not isinstance(transactions, list):
        return
    for item in transactions:
        sent = run.sent_at.pop(bytes.fromhex(item["id"][2:]), None)
        if sent is not None:
            run.latencies.append((now - sent) * 1_000)
            run.last_execution = now
