"""The matching engine beside engines from PyPI: `python -m benchmarks.engine`.

Two paths of ours are measured on the same messages:

engine    per message: the key's nonce is consumed, and the order placed or cancelled with
          balances, reservations, fees, self-trade prevention and events. It is the code that
          consensus runs for an action; signatures were checked, and payloads decoded, before.
exchange  whole blocks through `Exchange.apply`: also looks up account and key, checks expiry and
          scope, and after each block asserts conservation, hashes every touched account into
          the state tree and all events into the history.

The peers match orders and nothing else: no accounts, no money, no fees. All engines get the same
messages in blocks of the same size, take turns, and must come to the same trades. The garbage
collector is on for all; before each run, what exists already is frozen out of its sight.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks._peers import PEERS, Driver
from benchmarks.rows import Row, show, write
from benchmarks.workload import (
    ACCOUNTS,
    FUNDS_UNITS,
    MARKET,
    Message,
    Workload,
    funded_accounts,
    generate,
)
from exchange import Admitted, BlockInput, Deposit, Exchange, Observation
from exchange.accounts import TradingKey
from exchange.actions import Action, Cancel, Lifetime, Place, SelfTrade, Side
from exchange.engine import Engine
from exchange.envelope import Envelope, Scope
from exchange.events import Event, Filled
from exchange.genesis import ExchangeGenesis, Token
from primitives.anchors import EMPTY_ACCUMULATOR, deposit_accumulator
from primitives.hashing import digest

MESSAGES = 200_000
REPETITIONS = 5
BLOCK_MESSAGES = 500
SEED = 7
NOTES = (
    "engine: nonces, balances, fees, self-trade prevention, events; no signature checks.",
    "exchange: whole blocks, with account and key checks, conservation, and the state root.",
    "peers: matching alone. Same messages and blocks, in turns; all made the same trades.",
)
_NETWORK = bytes(32)
_DEPOSITS_PER_BLOCK = 64


class OurEngine:
    """Nonces, the engine, and its events; one trading key for each account."""

    def __init__(self) -> None:
        accounts = funded_accounts()
        self._engine = Engine([MARKET], accounts[-1])
        self._keyed = [(account, TradingKey()) for account in accounts]
        self._nonces = [0] * len(accounts)
        self._events: tuple[Event, ...] = ()

    def prepare(self, block: Sequence[Message]) -> list[tuple[Any, ...]]:
        """The block as a node holds it once admitted: accounts, keys, nonces, actions."""
        return [
            (*self._keyed[account], nonce, action)
            for account, nonce, action in _numbered(block, self._nonces)
        ]

    def apply(self, block: Sequence[tuple[Any, ...]]) -> None:
        engine = self._engine
        place, cancel, touch = engine.place, engine.cancel, engine.touched.add
        for account, key, nonce, action in block:
            key.nonces.use(nonce)
            touch(account)
            if type(action) is Place:
                place(account, action, _NETWORK)
            else:
                cancel(account, action)
        self._events = engine.drain()

    def collect(self) -> tuple[int, int]:
        return _fills(self._events)


class OurExchange:
    """Whole blocks of envelopes, each with one action, up to the state root."""

    def __init__(self) -> None:
        genesis = ExchangeGenesis(
            1, [Token("BASE", 6), Token("QUOTE", 6)], [MARKET], b"\xfe" * 20, [1], 1_000
        )
        self._exchange = Exchange(genesis, _NETWORK)
        self._nonces = [0] * ACCOUNTS
        self._events: tuple[Event, ...] = ()
        self._deposit_all()
        for account in self._exchange.accounts.by_index:
            key = account.keys[_public(account.address)] = TradingKey()
            key.scope, key.expires_ms = int(Scope.TRADE), 2**60

    def prepare(self, block: Sequence[Message]) -> BlockInput:
        """The block with envelopes as admission leaves them; nobody looks at signatures again."""
        last_valid = self._exchange.height + 1_000
        transactions = []
        for account, nonce, action in _numbered(block, self._nonces):
            address = account.to_bytes(20, "big")
            envelope = Envelope(
                _NETWORK, address, _public(address), nonce, last_valid, b"", bytes(64)
            )
            name = digest("outcry/benchmark/1", _NETWORK, address, nonce.to_bytes(8, "big"))
            transactions.append(Admitted(name, envelope, (action,)))
        return self._next(tuple(transactions))

    def apply(self, block: BlockInput) -> None:
        self._events = self._exchange.apply(block).events

    def collect(self) -> tuple[int, int]:
        return _fills(self._events)

    def _next(
        self,
        transactions: tuple[Admitted, ...] = (),
        observations: tuple[tuple[int, Observation], ...] = (),
    ) -> BlockInput:
        height = self._exchange.height + 1
        return BlockInput(height, height * 25, transactions, observations)

    def _deposit_all(self) -> None:
        accumulator, deposits = EMPTY_ACCUMULATOR, list[Deposit]()
        for index in range(2 * ACCOUNTS):
            address, token = (index // 2).to_bytes(20, "big"), index % 2
            accumulator = deposit_accumulator(accumulator, index, address, token, FUNDS_UNITS)
            deposits.append(Deposit(index, address, token, FUNDS_UNITS, accumulator))
        for start in range(0, len(deposits), _DEPOSITS_PER_BLOCK):
            part = deposits[start : start + _DEPOSITS_PER_BLOCK]
            seen = Observation(1, bytes(32), len(deposits), accumulator, part)
            self._exchange.apply(self._next(observations=((0, seen),)))


OURS: dict[str, Callable[[], OurEngine | OurExchange]] = {
    "engine": OurEngine,
    "exchange": OurExchange,
}


def measure(messages: int = MESSAGES, repetitions: int = REPETITIONS) -> list[Row]:
    """One row for each path of ours and each workload, beside the fastest peer."""
    rows = []
    for flow in ("mixed", "crossing"):
        workload = generate(flow, messages=messages, seed=SEED)
        rates = _rates(workload, repetitions)
        peer = max(PEERS, key=lambda name: median(rates[name]))
        peer_value = median(rates[peer])
        for path in OURS:
            ours = median(rates[path])
            rows.append(
                Row(
                    f"{path}, {flow}",
                    ours,
                    peer,
                    peer_value,
                    ours / peer_value,
                    "messages/s",
                    rates[path],
                )
            )
    return rows


def _rates(workload: Workload, repetitions: int) -> dict[str, list[float]]:
    """Messages per second of every engine, once in each round."""
    makers: dict[str, Callable[[], Driver | OurEngine | OurExchange]] = {**OURS, **PEERS}
    rates: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(repetitions):
        for name, make in makers.items():
            seconds = _run(name, make(), workload)
            rates[name].append(len(workload.messages) / seconds)
    return rates


def _run(name: str, driver: Any, workload: Workload) -> float:
    """Seconds that a fresh engine needs for the workload; its trades are checked."""
    seconds, fills, volume = 0.0, 0, 0
    prepare = getattr(driver, "prepare", list)
    gc.collect()
    gc.freeze()
    try:
        for start in range(0, len(workload.messages), BLOCK_MESSAGES):
            block = prepare(workload.messages[start : start + BLOCK_MESSAGES])
            started = perf_counter()
            driver.apply(block)
            seconds += perf_counter() - started
            new_fills, new_volume = driver.collect()
            fills, volume = fills + new_fills, volume + new_volume
    finally:
        gc.unfreeze()
    if (fills, volume) != (workload.fills, workload.volume):
        raise AssertionError(
            f"{name} made {fills} trades of {volume} lots on the {workload.name} workload, "
            f"not {workload.fills} of {workload.volume}: it cannot be compared"
        )
    return seconds


def _numbered(block: Sequence[Message], nonces: list[int]) -> Iterator[tuple[int, int, Action]]:
    """(account, its next nonce, action) for each message."""
    for number, account, side, price, size in block:
        action: Action = Cancel(0, number)
        if side:
            action = Place(0, Side(side), price, size, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")
        yield account, nonces[account], action
        nonces[account] += 1


def _fills(events: Sequence[Event]) -> tuple[int, int]:
    sizes = [event.size for event in events if isinstance(event, Filled)]
    return len(sizes), sum(sizes)


def _public(address: bytes) -> bytes:
    """A key's name; whose signature it would check is of no interest here."""
    return address.ljust(32, b"\x01")


def main() -> None:
    """Measure, print, write: to the file named on the command line, or where all rows go."""
    rows = measure()
    show(rows, title="The matching engine beside its peers", notes=NOTES)
    write(rows, *map(Path, sys.argv[1:2]))


if __name__ == "__main__":
    main()
