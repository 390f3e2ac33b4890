"""Orders that are followed to their end while nodes come and go.

    async with trio.open_nursery() as nursery:
        nursery.start_soon(orders.make, rate)
        nursery.start_soon(orders.send)
        ...
        orders.finish()
        await orders.settled()

An error of a request says nothing about the order: it may have been taken. So the same signed
envelope, which can execute only once, is sent again, to another node, until one gives a receipt.
From then on the network owes its execution.
"""

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

import httpx
import msgspec
import trio

from devnet.load import PACK_ITEMS_MAX, TICK_MS, Account, make_order, post_pack
from exchange.envelope import envelope_id
from exchange.network import NetworkGenesis

WAITING_ITEMS_MAX: Final = 20_000  # orders without an answer; more: no new ones are made
REQUESTS_MAX: Final = 64  # packs under way at once; further ones wait
RETRY_MS: Final = 500  # from an unknown outcome to the next attempt
LIFETIME_HEIGHTS: Final = 15_000  # the exchange takes at most 20,000
SETTLE_S_MAX: Final = 60.0
# Refusals that are about the node and the moment: the order may be sent again.
PASSING_CODES: Final = frozenset({"E408", "E429", "E490", "E491", "E494"})


class OrderStatistics(msgspec.Struct, frozen=True):
    """Since start. `unknown` attempts ended without an answer; `refused` orders by code."""

    made: int
    receipts: int
    attempts: int
    unknown: int
    refused: dict[str, int]
    waiting: int


class _Order:
    __slots__ = ("attempts", "id", "wire")

    def __init__(self, name: bytes, wire: bytes) -> None:
        self.id = name
        self.wire = wire
        self.attempts = 0


class Orders:
    """Makes and sends seeded orders; `apis()` are the nodes that seem to be up, by name.

    receipts: by order id, the node that promised to execute it
    refused: by order id, the code; an order that was sent more than once may execute all the same
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        genesis: NetworkGenesis,
        accounts: Sequence[Account],
        seed: int,
        apis: Callable[[], dict[str, str]],
        height: Callable[[], int],
    ) -> None:
        self._http = http
        self._genesis = genesis
        self._network = genesis.network_id()
        self._accounts = list(accounts)
        self._random = random.Random(seed)
        self._apis = apis
        self._height = height
        self._waiting: deque[_Order] = deque()
        self._requests = trio.Semaphore(REQUESTS_MAX)
        self._out = 0
        self._attempts = self._unknown = self.made = 0
        self._finished_making = False
        self.receipts: dict[bytes, str] = {}
        self.refused: dict[bytes, str] = {}

    async def make(self, rate: int) -> None:
        """Sign `rate` orders a second until `finish`; a late beat is made up for."""
        began = trio.current_time()
        while not self._finished_making:
            due = int((trio.current_time() - began) * rate)
            while self.made < due and len(self._waiting) + self._out < WAITING_ITEMS_MAX:
                wire = make_order(
                    self._genesis, self._accounts, self.made, self._height() + LIFETIME_HEIGHTS
                )
                self._waiting.append(_Order(envelope_id(wire, self._network), wire))
                self.made += 1
            await trio.sleep(TICK_MS / 1_000)

    def finish(self) -> None:
        """Make no more orders."""
        self._finished_making = True

    async def send(self) -> None:
        """Send what waits, in packs, until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                apis = self._apis()
                while self._waiting and apis:
                    count = min(len(self._waiting), PACK_ITEMS_MAX)
                    pack = [self._waiting.popleft() for _ in range(count)]
                    self._out += count
                    await self._requests.acquire()
                    name = self._random.choice(sorted(apis))
                    nursery.start_soon(self._send_pack, name, apis[name], pack)
                await trio.sleep(TICK_MS / 1_000)

    async def settled(self) -> bool:
        """Wait until every order has an answer; whether that happened within SETTLE_S_MAX."""
        with trio.move_on_after(SETTLE_S_MAX):
            while self._waiting or self._out:
                await trio.sleep(TICK_MS / 1_000)
            return True
        return False

    async def _send_pack(self, name: str, api: str, pack: list[_Order]) -> None:
        again: list[_Order] = []
        self._attempts += len(pack)
        for order in pack:
            order.attempts += 1
        try:
            results = await post_pack(self._http, api, [order.wire for order in pack])
        except (httpx.HTTPError, ValueError):
            self._unknown += len(pack)
            again = pack
        else:
            for order, result in zip(pack, results, strict=True):
                if not self._is_answered(order, result, name):
                    again.append(order)
        finally:
            self._requests.release()
        if again:
            await trio.sleep(RETRY_MS / 1_000)
            self._waiting.extend(again)
        self._out -= len(pack)

    def _is_answered(self, order: _Order, result: dict[str, object], name: str) -> bool:
        """Take note of a node's answer; False when it has to be asked again."""
        error = result.get("error")
        if not isinstance(error, dict):
            self.receipts[order.id] = name
            return True
        code = str(error.get("code"))
        if code in PASSING_CODES:
            self._unknown += 1
            return False
        self.refused[order.id] = code
        return True

    def statistics(self) -> OrderStatistics:
        return OrderStatistics(
            self.made,
            len(self.receipts),
            self._attempts,
            self._unknown,
            dict(Counter(self.refused.values())),
            len(self._waiting) + self._out,
        )
