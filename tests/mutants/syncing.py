"""Catching up through the real `node.sync`, among peers of which some do not answer."""

import random
from dataclasses import dataclass
from types import SimpleNamespace

import trio
import trio.testing

from consensus import ChainArrived, FetchChain
from consensus.certificate import genesis_certificate
from node.sync import Sync
from node.wire import ChainAnswer
from primitives import codec
from primitives.cid import cid_of
from primitives.faults import RemoteFault
from tests.mutants.engines import BySeed, Finding

PEERS = 3
WAIT_MS = 60_000  # of the mock clock


class NoAnswer(RemoteFault):
    """A peer is away."""

    code = "E499"


class _Peers:
    """Connected validators; those in `silent` never answer."""

    def __init__(self, silent: frozenset[int]) -> None:
        self._silent = silent

    def peers(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(connected=True, validator=index) for index in range(PEERS)]

    async def request(
        self, peer: str, _protocol: str, _payload: bytes, *, deadline_ms: int, **_bounds: int
    ) -> bytes:
        if int(peer) in self._silent:
            await trio.sleep(deadline_ms / 1_000)
            raise NoAnswer("no answer in time")
        return codec.encode(ChainAnswer([b"block"], genesis_certificate(1, cid_of(b"")), False))


class _Height:
    """A replica as far as `node.sync` asks it: how high it is."""

    def __init__(self, arrived: list[ChainArrived]) -> None:
        self._arrived = arrived

    @property
    def height(self) -> int:
        return len(self._arrived)

    def statistics(self) -> "_Height":
        return self


@dataclass(frozen=True)
class Fetching(BySeed):
    """A node asks a peer that the seed names for blocks; the seed also says who is silent."""

    seed: int = 0

    @property
    def kind(self) -> str:
        return "node.sync"

    def run(self) -> Finding | None:
        dice = random.Random(self.seed)
        silent = frozenset(dice.sample(range(PEERS), dice.randint(0, PEERS - 1)))
        return self._fetch(dice.randrange(PEERS), silent)

    def calm(self) -> Finding | None:
        return self._fetch(0, frozenset())

    def _fetch(self, named: int, silent: frozenset[int]) -> Finding | None:
        arrived: list[ChainArrived] = []
        trio.run(
            _catch_up, named, silent, arrived, clock=trio.testing.MockClock(autojump_threshold=0)
        )
        if arrived:
            return None
        return Finding("catches-up", f"no block came; v{named} was asked, silent: {set(silent)}")


async def _catch_up(named: int, silent: frozenset[int], arrived: list[ChainArrived]) -> None:
    replica = _Height(arrived)
    names = [str(index) for index in range(PEERS)]
    sync = Sync(_Peers(silent), replica, None, None, names, bytes(32))  # type: ignore[arg-type]
    sync.driver = SimpleNamespace(post=arrived.append)  # type: ignore[assignment]
    sync.want_chain(FetchChain(named, 0))
    with trio.move_on_after(WAIT_MS / 1_000):
        await sync.run(None)
