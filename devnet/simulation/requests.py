"""Asking other nodes for what is missing, over the faulty links, as `node.sync` does.

Envelopes are asked of those who reported them, one after the other; blocks of the validator that
has them, then of the others in turn. A request to a node that cannot be reached fails soon; one
whose question or answer is lost fails at its deadline.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from consensus import ChainArrived, FetchChain, FetchEnvelopes
from devnet.simulation.network import Links
from devnet.simulation.node import SimulatedNode

REQUEST_DEADLINE_MS = 5_000
REFUSED_MS = 3  # a connection that cannot be made is noticed after this
CHAIN_PAUSE_MS = 50  # between two requests for blocks
IDS_ITEMS_MAX = 256  # envelopes in one request
FETCHES_ITEMS_MAX = 4_096  # envelopes asked for at once; more are asked for by the next block

T = TypeVar("T")


class Surroundings(Protocol):
    """What requests need of the world."""

    links: Links

    def later(self, ms: int, action: Callable[[], None]) -> None: ...

    def at(self, time_ms: int, action: Callable[[], None]) -> None: ...

    def now_ms(self) -> int: ...

    def process(self, index: int) -> int | None:
        """Which process of a node lives; None while none does."""

    def is_paused(self, index: int) -> bool:
        """Whether the process of a node does nothing, so that requests are not answered."""

    def serves(self, index: int) -> bool:
        """Whether a node answers this request; liars may not."""

    def node(self, index: int) -> SimulatedNode: ...

    def envelopes_arrived(self, index: int, wires: list[bytes]) -> list[bytes]:
        """Hand fetched envelopes to a node; their ids."""

    def chain_arrived(self, index: int, chain: ChainArrived) -> None: ...


class Requests:
    """All requests under way between the nodes of one world."""

    def __init__(self, world: Surroundings, count: int) -> None:
        self._world = world
        self._count = count
        self._turn = 0
        self._fetching: list[set[bytes]] = [set() for _ in range(count)]
        self._wanted: list[FetchChain | None] = [None] * count
        self._catching_up = [False] * count

    def restarted(self, index: int) -> None:
        """A new process has no requests under way."""
        self._fetching[index] = set()
        self._wanted[index] = None
        self._catching_up[index] = False

    # Envelopes

    def envelopes(self, index: int, effect: FetchEnvelopes) -> None:
        """Get envelopes that a vote or an execution waits for."""
        fetching = self._fetching[index]
        ids = [name for name in effect.ids if name not in fetching][:FETCHES_ITEMS_MAX]
        fetching.update(ids)
        for start in range(0, len(ids), IDS_ITEMS_MAX):
            part = tuple(ids[start : start + IDS_ITEMS_MAX])
            self._fetch_some(index, part, part, effect.reporters)

    def _fetch_some(
        self, index: int, asked: tuple[bytes, ...], wanted: tuple[bytes, ...], of: tuple[int, ...]
    ) -> None:
        if not wanted or not of:
            self._fetching[index].difference_update(asked)
            return

        def answered(wires: list[bytes] | None) -> None:
            found = self._world.envelopes_arrived(index, wires) if wires else []
            rest = tuple(name for name in wanted if name not in found)
            self._fetch_some(index, asked, rest, of[1:])

        self._ask(index, of[0], lambda node: node.envelopes_of(wanted), answered)

    # Blocks

    def chain(self, index: int, effect: FetchChain) -> None:
        """Get blocks; a request under way is not repeated."""
        self._wanted[index] = effect
        if not self._catching_up[index]:
            self._catch_up(index)

    def _catch_up(self, index: int) -> None:
        wanted, self._wanted[index] = self._wanted[index], None
        self._catching_up[index] = wanted is not None
        if wanted is not None:
            self._turn += 1
            turn = self._turn % self._count
            others = [*range(turn, self._count), *range(turn)]
            others = [i for i in others if i not in (index, wanted.peer)]
            self._ask_chain(index, [wanted.peer, *others])

    def _ask_chain(self, index: int, of: list[int]) -> None:
        """Ask one after the other; go on with whoever answers until it has no more."""
        if not of:
            self._catch_up(index)
            return
        height = self._height(index)

        def answered(chain: ChainArrived | None) -> None:
            if chain is None:
                self._ask_chain(index, of[1:])
                return
            self._world.chain_arrived(index, chain)
            started = self._world.process(index)
            self._world.later(CHAIN_PAUSE_MS, lambda: looked(started, bool(chain.blocks)))

        def looked(started: int | None, any_came: bool) -> None:
            if started is None or self._world.process(index) != started:
                return
            if any_came and self._height(index) > height:
                self._ask_chain(index, of)
            else:
                self._catch_up(index)

        self._ask(index, of[0], lambda node: node.chain_above(height), answered)

    def _height(self, index: int) -> int:
        replica = self._world.node(index).replica
        return 0 if replica is None else replica.statistics().height

    # Both

    def _ask(
        self,
        index: int,
        target: int,
        question: Callable[[SimulatedNode], T | None],
        answered: Callable[[T | None], None],
    ) -> None:
        """Ask `target`; `answered` is called once, unless the asking process ends before."""
        world = self._world
        started = world.process(index)
        pending = [True]

        def finish(value: T | None) -> None:
            if pending[0] and world.process(index) == started:
                pending[0] = False
                answered(value)

        def arrived() -> None:
            if world.process(target) is None or world.is_paused(target) or not world.serves(target):
                return
            value = question(world.node(target))
            for time_ms in world.links.arrivals(target, index, world.now_ms()):
                world.at(time_ms, lambda: finish(value))

        cut = world.links.is_cut(index, target) or world.links.is_cut(target, index)
        if cut or world.process(target) is None:
            world.later(REFUSED_MS, lambda: finish(None))
            return
        for time_ms in world.links.arrivals(index, target, world.now_ms()):
            world.at(time_ms, arrived)
        world.later(REQUEST_DEADLINE_MS, lambda: finish(None))
