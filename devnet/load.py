"""Load for a cluster: many accounts, each order signed by itself, counted where it was not sent.

    report = await run_load(state, genesis, LoadPlan(rate=500, seconds=60), progress)

All orders are signed and packed before the clock starts. Packs leave on a fixed beat, to all nodes
but one, and an order counts when that one, the observer, reports it executed. Latency is from the
instant at which an order was due to reading its execution at the observer: an order that the load
itself sends late has waited all the same.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any

import httpx
import msgspec
import psutil
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
TICK_MS = 20  # how often a pack leaves; each goes to another node than the one before
PACKS_ON_THE_WAY_MAX = 512  # more unanswered requests: the beat waits for one
SETTLE_S_MAX = 30.0  # how long to wait for the last orders after the last was sent
FUNDING_S_MAX = 180.0
REQUEST_TIMEOUT_S = 15.0
LIFETIME_HEIGHTS = 5_000
MESSAGE_BYTES_MAX = 4 << 20
PACK_ITEMS_MAX = 200
PRESIGNED_PACKS_MAX = 10_000  # later ones are signed when they are due: memory is bounded
_KEY_MS = 10**15
_BASE_PRICE = 10_000
_UNITS_PER_ACCOUNT = 5 * 10**9

Progress = Callable[[str], None]


@dataclass(frozen=True)
class LoadPlan:
    """What to send: `rate` orders a second for `seconds`, from `accounts` accounts.

    The node called `spare` is neither sent anything nor observed, so that it may fail meanwhile.
    """

    rate: int = 100
    seconds: int = 30
    accounts: int = 100
    spare: str = ""


class LatencyView(msgspec.Struct, frozen=True):
    p50: float
    p95: float
    p99: float
    max: float


class LoadReport(msgspec.Struct, frozen=True):
    """What came of it. `executed_per_second` counts until the last execution was seen.

    `executed` also counts orders whose answer did not arrive; `lost` are those with a receipt that
    were not seen executed. `cpu_ms_per_order` is the processor time of all nodes on this machine
    together; `executed_in_second` counts executions by the full seconds since the first order was
    due.
    """

    rate: int
    seconds: float
    accounts: int
    sent: int
    accepted: int
    executed: int
    lost: int
    executed_per_second: float
    latency_ms: LatencyView
    cpu_ms_per_order: float
    executed_in_second: list[int]
    refused: dict[str, int]
    observer: str


@dataclass
class Account:
    """A trader of the load, and the nonce of its next order."""

    wallet: Wallet
    nonce: int = 0


@dataclass(frozen=True)
class _Pack:
    """One request: its body, the ids of its orders, and when it is due after the start."""

    due_s: float
    body: bytes
    ids: list[str]


class _Seen(msgspec.Struct):
    id: str


class _SeenBlock(msgspec.Struct):
    height: int
    transactions: list[_Seen] = []


class _SeenBlocks(msgspec.Struct, frozen=True):
    blocks: list[_SeenBlock] = []


class _Observed(msgspec.Struct):
    """The part of a block update that matters here."""

    type: str
    data: _SeenBlocks = _SeenBlocks()


class _Told(msgspec.Struct):
    code: str


class _Result(msgspec.Struct):
    error: _Told | None = None


class _Results(msgspec.Struct):
    results: list[_Result] = []
    error: _Told | None = None


@dataclass
class _Run:
    """What happened so far; `sent_at` holds orders that were not seen executed yet, `promised`
    those of them that have a receipt."""

    height: int
    sent_at: dict[str, float] = field(default_factory=dict)
    latencies: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    promised: set[str] = field(default_factory=set)
    refused: dict[str, int] = field(default_factory=dict)
    accepted: int = 0
    sent: int = 0

    def refuse(self, code: str, count: int) -> None:
        self.refused[code] = self.refused.get(code, 0) + count

    def saw(self, block: _SeenBlock, now: float) -> None:
        """Count the orders that a block executed."""
        self.height = block.height
        for item in block.transactions:
            sent = self.sent_at.pop(item.id, None)
            self.promised.discard(item.id)
            if sent is not None:
                self.latencies.append((now - sent) * 1_000)
                self.times.append(now)


async def run_load(
    state: ClusterState, genesis: NetworkGenesis, plan: LoadPlan, progress: Progress
) -> LoadReport:
    """Fund what is needed, send, count. Errors: `DemoFailed`, and those of the client."""
    nodes = [node for node in state.nodes if node.name != plan.spare]
    observer, targets = nodes[-1].api, [node.api for node in nodes[:-1] or nodes]
    accounts = load_accounts(genesis, plan.accounts)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=PACKS_ON_THE_WAY_MAX)
    async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S, trust_env=False, limits=limits) as http:
        await fund(http, state, genesis, accounts, progress)
        run = _Run((await http.get(f"{targets[0]}/v1/status")).json()["height"])
        async with trio.open_nursery() as nursery:
            await nursery.start(_observe, http, observer, run)
            progress(f"signing {plan.rate * plan.seconds} orders")
            packs = _packs(genesis, accounts, plan, run)
            ready = list(islice(packs, PRESIGNED_PACKS_MAX))
            gc.freeze()  # a collection that walks over all orders would delay the beat
            progress(f"sending {plan.rate} orders a second for {plan.seconds} s")
            before_s = _cpu_s(state)
            started = trio.current_time()
            await _send(http, targets, chain(ready, packs), run)
            with trio.move_on_after(SETTLE_S_MAX):
                while run.promised:
                    await trio.sleep(TICK_MS / 1_000)
            cpu_s = sum(s - before_s[name] for name, s in _cpu_s(state).items())
            nursery.cancel_scope.cancel()
        gc.unfreeze()
    took = max(run.times[-1] - started, 0.001) if run.times else plan.seconds
    by_second = Counter(int(time - started) for time in run.times)
    executed = len(run.latencies)
    return LoadReport(
        rate=plan.rate,
        seconds=round(took, 2),
        accounts=plan.accounts,
        sent=run.sent,
        accepted=run.accepted,
        executed=executed,
        lost=len(run.promised),
        executed_per_second=round(executed / took, 1),
        latency_ms=LatencyView(
            *(round(percentile(run.latencies, share), 1) for share in (0.5, 0.95, 0.99, 1.0))
        ),
        cpu_ms_per_order=round(cpu_s * 1_000 / max(executed, 1), 3),
        executed_in_second=[by_second[second] for second in range(int(took) + 1)],
        refused=run.refused,
        observer=nodes[-1].name,
    )


def _cpu_s(state: ClusterState) -> dict[str, float]:
    """Processor seconds that each node which runs has used so far."""
    used = {}
    for node in state.nodes:
        with suppress(psutil.Error):
            times = psutil.Process(node.pid).cpu_times()
            used[node.name] = times.user + times.system
    return used


# Funding


def load_accounts(genesis: NetworkGenesis, count: int) -> list[Account]:
    """The same accounts in every run on one network, so that they are funded once."""
    network = genesis.network_id()
    secrets = (digest("outcry/load/1", network, b"%d" % number) for number in range(count))
    return [Account(Wallet.from_hex(secret.hex())) for secret in secrets]


async def fund(
    http: httpx.AsyncClient,
    state: ClusterState,
    genesis: NetworkGenesis,
    accounts: list[Account],
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
    state: ClusterState, genesis: NetworkGenesis, accounts: list[Account], funder: TraderState
) -> None:
    async with Chain.connect([state.evm], Wallet.from_hex(funder.evm_secret), genesis) as chain:
        for token in range(len(genesis.exchange.tokens)):
            await chain.approve(token, _UNITS_PER_ACCOUNT * len(accounts))
            for item in accounts:
                await chain.deposit(token, _UNITS_PER_ACCOUNT, item.wallet.account)


async def _authorize(
    http: httpx.AsyncClient, api: str, genesis: NetworkGenesis, accounts: list[Account]
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
        results = await post_pack(http, api, wires[start : start + PACK_ITEMS_MAX])
        errors = [item["error"] for item in results if "error" in item]
        if errors:
            raise DemoFailed(f"an authorization was refused: {errors[0]}")
    while not all([await _has_key(http, api, item) for item in accounts[-3:]]):
        await trio.sleep(POLL_MS / 1_000)


async def _learn(http: httpx.AsyncClient, api: str, item: Account) -> bool:
    """Whether the exchange knows the account with all its tokens; its next nonce if so."""
    answer = await http.get(f"{api}/v1/accounts/{item.wallet.address}")
    if answer.status_code != httpx.codes.OK:
        return False
    view = answer.json()
    for key in view["keys"]:
        if key["key"] == "0x" + item.wallet.trading.public.hex():
            item.nonce = key["next_nonce"]
    return all(balance["free"] or balance["reserved"] for balance in view["balances"])


async def _has_key(http: httpx.AsyncClient, api: str, item: Account) -> bool:
    view = (await http.get(f"{api}/v1/accounts/{item.wallet.address}")).json()
    return bool(view.get("keys"))


# Sending


def _packs(
    genesis: NetworkGenesis, accounts: list[Account], plan: LoadPlan, run: _Run
) -> Iterator[_Pack]:
    """All orders, in packs of one beat's worth, each with the instant at which it is due."""
    network = genesis.network_id()
    total = plan.rate * plan.seconds
    made = beat = 0
    while made < total:
        due = min(total, plan.rate * (beat + 1) * TICK_MS // 1_000)
        last_valid = run.height + LIFETIME_HEIGHTS
        for start in range(made, due, PACK_ITEMS_MAX):
            numbers = range(start, min(start + PACK_ITEMS_MAX, due))
            wires = [_make_order(network, accounts, number, last_valid) for number in numbers]
            ids = ["0x" + envelope_id(wire, network).hex() for wire in wires]
            yield _Pack(beat * TICK_MS / 1_000, msgspec.msgpack.encode(wires), ids)
        made, beat = due, beat + 1


async def _send(
    http: httpx.AsyncClient, targets: list[str], packs: Iterable[_Pack], run: _Run
) -> None:
    """Send each pack when it is due; late ones leave at once, so the rate is kept."""
    began = trio.current_time()
    on_the_way = trio.Semaphore(PACKS_ON_THE_WAY_MAX)
    async with trio.open_nursery() as nursery:
        for number, pack in enumerate(packs):
            await trio.sleep_until(began + pack.due_s)
            await on_the_way.acquire()
            target = targets[number % len(targets)]
            due = began + pack.due_s
            nursery.start_soon(_send_pack, http, target, pack, due, on_the_way, run)


def make_order(
    genesis: NetworkGenesis, accounts: list[Account], number: int, last_valid: int
) -> bytes:
    """Order number `number`: sides alternate around one price, so that about half match."""
    return _make_order(genesis.network_id(), accounts, number, last_valid)


def _make_order(network: bytes, accounts: list[Account], number: int, last_valid: int) -> bytes:
    item = accounts[number % len(accounts)]
    side = Side.BUY if (number + number // len(accounts)) % 2 else Side.SELL
    price = _BASE_PRICE + number * 7 % 11 - 5
    action = Place(0, side, price, 1 + number % 5, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
    wire = sign_envelope(
        item.wallet.trading,
        network,
        item.wallet.account,
        item.nonce,
        last_valid,
        [action],
    )
    item.nonce += 1
    return wire


async def _send_pack(
    http: httpx.AsyncClient,
    target: str,
    pack: _Pack,
    due: float,
    on_the_way: trio.Semaphore,
    run: _Run,
) -> None:
    for name in pack.ids:
        run.sent_at[name] = due
    run.sent += len(pack.ids)
    try:
        answer = await _post(http, target, pack.body)
    except httpx.HTTPError as error:
        run.refuse(type(error).__name__, len(pack.ids))
        return
    finally:
        on_the_way.release()
    told = msgspec.json.decode(answer.content, type=_Results)
    if told.error is not None:
        run.refuse(told.error.code, len(pack.ids))
    for name, result in zip(pack.ids, told.results, strict=False):
        if result.error is None:
            run.accepted += 1
            if name in run.sent_at:
                run.promised.add(name)
        else:
            run.refuse(result.error.code, 1)


async def post_pack(
    http: httpx.AsyncClient, target: str, wires: list[bytes]
) -> list[dict[str, object]]:
    """Hand envelopes to a node: a receipt or {"error": ...} for each, in order.

    Errors: those of httpx, after which it is unknown what the node took.
    """
    answer = await _post(http, target, msgspec.msgpack.encode(wires))
    if answer.status_code != httpx.codes.OK:
        return [answer.json()] * len(wires)
    results: list[dict[str, object]] = answer.json()["results"]
    return results


async def _post(http: httpx.AsyncClient, target: str, body: bytes) -> httpx.Response:
    return await http.post(
        f"{target}/v1/envelopes", content=body, headers={"content-type": "application/msgpack"}
    )


# Counting


async def _observe(
    http: httpx.AsyncClient, api: str, run: _Run, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Read the observer's blocks until cancelled."""
    url = api.replace("http://", "ws://") + "/v1/stream"
    decoder = msgspec.json.Decoder(_Observed)
    socket: Any
    async with aconnect_ws(url, http, max_message_size_bytes=MESSAGE_BYTES_MAX) as socket:
        await socket.send_text('{"op": "subscribe", "channel": "blocks"}')
        await socket.receive_text()
        task_status.started()
        while True:
            update = decoder.decode(await socket.receive_text())
            now = trio.current_time()
            for block in update.data.blocks:
                run.saw(block, now)
