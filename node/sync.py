"""Asking other nodes for what is missing, and answering them.

Envelopes are asked of those whose reports name them; blocks of anybody, since certificates
prove them; batches of anybody, since their envelopes hash to ids that are already ordered.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from consensus import ChainArrived, FetchChain, FetchEnvelopes, Replica, decode_block
from exchange import envelope_id
from node.batch import decode_batch
from node.driver import Driver
from node.mempool import Mempool
from node.recording import stored_wires
from node.wire import (
    CHAIN_BLOCKS_ITEMS_MAX,
    CHAIN_BYTES_MAX,
    ENVELOPES_WANTED_ITEMS_MAX,
    PACKED_ITEMS_MAX,
    PROTOCOL_BATCHES,
    PROTOCOL_CHAIN,
    PROTOCOL_ENVELOPES,
    REQUEST_BYTES_MAX,
    RESPONSE_BYTES_MAX,
    BatchesAnswer,
    BatchesWanted,
    ChainAnswer,
    ChainWanted,
    EnvelopesWanted,
    Packed,
)
from p2p import Network
from primitives import codec
from primitives.faults import RemoteFault
from storage import Index

log = structlog.get_logger(__name__)

REQUEST_DEADLINE_MS = 5_000
CHAIN_PAUSE_MS = 50  # between two requests for blocks
CHAIN_MISSES_MAX = 3  # answers in a row that brought no block forward; then a new cause is awaited
RETRY_PAUSE_MS = 250  # after a request that brought nothing
REQUESTS_PER_SECOND = 200.0  # of one peer and protocol; more are refused
SERVING_THREADS_MAX = 2  # other nodes' requests that read from the disk at once; more wait
BATCHES_AHEAD_ITEMS_MAX = 64  # batches fetched with the one that is wanted, for the next blocks
FETCHES_MAX = 16  # fetches of envelopes under way; further ones are asked for by the next block

Arrived = Callable[[list[bytes]], Awaitable[None]]


@dataclass(frozen=True)
class SyncStatistics:
    chain_requests: int
    blocks_fetched: int
    envelopes_fetched: int
    batches_fetched: int
    failures: int


class Sync:
    """Fetching and serving for one node. `peer_ids` are the validators', by index."""

    def __init__(
        self,
        network: Network,
        replica: Replica,
        mempool: Mempool,
        index: Index,
        peer_ids: list[str],
        network_id: bytes,
    ) -> None:
        self._network = network
        self._replica = replica
        self._mempool = mempool
        self._index = index
        self._peer_ids = peer_ids
        self._network_id = network_id
        self._wanted: FetchChain | None = None
        self._wake = trio.Event()
        self._turn = 0
        self._serving = trio.CapacityLimiter(SERVING_THREADS_MAX)
        self._fetching: set[bytes] = set()
        self._ahead: dict[int, bytes] = {}  # one answer's batches by height
        self._counts = dict.fromkeys(
            ("chain_requests", "blocks", "envelopes", "batches", "failures"), 0
        )
        self.driver: Driver | None = None
        self.arrived: Arrived | None = None

    def serve(self) -> None:
        """Answer other nodes from now on."""
        for protocol, handler in (
            (PROTOCOL_ENVELOPES, self._serve_envelopes),
            (PROTOCOL_CHAIN, self._serve_chain),
            (PROTOCOL_BATCHES, self._serve_batches),
        ):
            self._network.serve(
                protocol,
                handler,
                request_bytes_max=REQUEST_BYTES_MAX,
                response_bytes_max=RESPONSE_BYTES_MAX,
                per_second=REQUESTS_PER_SECOND,
            )

    # Blocks

    def want_chain(self, effect: FetchChain) -> None:
        """Ask for blocks soon; requests under way are not repeated."""
        self._wanted = effect
        self._wake.set()

    async def run(self, poll_ms: int | None) -> None:
        """Fetch blocks whenever they are wanted, and every `poll_ms` where that is given."""
        while True:
            with trio.move_on_after(float("inf") if poll_ms is None else poll_ms / 1_000):
                await self._wake.wait()
            self._wake = trio.Event()
            wanted, self._wanted = self._wanted, None
            if wanted is None and poll_ms is None:
                continue
            await self._catch_up(wanted.peer if wanted is not None else None)

    async def _catch_up(self, peer: int | None) -> None:
        """Fetch until no peer has more. A silent peer is passed over, and so is one whose answer
        brought nothing although there must be something."""
        misses_max = 1 if peer is None else CHAIN_MISSES_MAX
        misses = 0
        while misses < misses_max and self.driver is not None:
            height = self._replica.height
            answer = await self._ask_chain(peer, height)
            if answer is None:
                return
            self._counts["blocks"] += len(answer.blocks)
            self.driver.post(ChainArrived(tuple(answer.blocks), answer.high_qc))
            await trio.sleep(CHAIN_PAUSE_MS / 1_000)
            if self._replica.height > height:
                misses = 0
                if not answer.more:
                    return
            else:
                misses += 1
                peer = None

    async def _ask_chain(self, peer: int | None, height: int) -> ChainAnswer | None:
        self._counts["chain_requests"] += 1
        wire = codec.encode(ChainWanted(height))
        for target in self._targets([] if peer is None else [peer]):
            answer: ChainAnswer | None = await self._ask(target, PROTOCOL_CHAIN, wire, ChainAnswer)
            if answer is not None:
                return answer
        return None

    async def _serve_chain(self, _peer: str, request: bytes) -> bytes:
        """Blocks above a height, and a certificate for the last of them.

        From: any node.
        Checks: shape.
        Effects: none.
        Errors: `Malformed`.
        """
        wanted = codec.decode(ChainWanted, request, bytes_max=REQUEST_BYTES_MAX)
        stored = await trio.to_thread.run_sync(
            self._stored_blocks, wanted.height, limiter=self._serving
        )
        full = len(stored) > CHAIN_BLOCKS_ITEMS_MAX
        tail, high_qc = self._replica.tail(wanted.height + len(stored))
        if full:
            tail = []
        blocks: list[bytes] = []
        size = 0
        for number, wire in enumerate(stored + tail):
            size += len(wire)
            if number == CHAIN_BLOCKS_ITEMS_MAX or (blocks and size > CHAIN_BYTES_MAX):
                # The next block carries the certificate of the last one that fits.
                following = decode_block(wire, self._network_id)
                return codec.encode(ChainAnswer(blocks, following.qc, more=True))
            blocks.append(wire)
        return codec.encode(ChainAnswer(blocks, high_qc, more=False))

    def _stored_blocks(self, above: int) -> list[bytes]:
        count = CHAIN_BLOCKS_ITEMS_MAX + 1
        return stored_wires(self._index, above + 1, count, batches=False)

    def _stored_batches(self, first: int, count: int) -> list[bytes]:
        return stored_wires(self._index, first, count, batches=True)

    # Envelopes

    async def fetch_envelopes(self, effect: FetchEnvelopes) -> None:
        """Get envelopes that a vote waits for, from those who reported them."""
        ids = [item for item in effect.ids if item not in self._fetching]
        ids = ids[: FETCHES_MAX * ENVELOPES_WANTED_ITEMS_MAX]
        self._fetching.update(ids)
        try:
            for start in range(0, len(ids), ENVELOPES_WANTED_ITEMS_MAX):
                part = ids[start : start + ENVELOPES_WANTED_ITEMS_MAX]
                await self._fetch_some(part, list(effect.reporters))
        finally:
            self._fetching.difference_update(ids)

    async def _fetch_some(self, ids: list[bytes], reporters: list[int]) -> None:
        wanted = list(ids)
        for target in reporters:
            wire = codec.encode(EnvelopesWanted(wanted))
            packed = await self._ask(target, PROTOCOL_ENVELOPES, wire, Packed)
            known = {envelope_id(item, self._network_id): item for item in packed or ()}
            found = [known[item] for item in wanted if item in known]
            if found and self.arrived is not None:
                self._counts["envelopes"] += len(found)
                await self.arrived(found)
            wanted = [item for item in wanted if item not in known]
            if not wanted:
                return

    async def _serve_envelopes(self, _peer: str, request: bytes) -> bytes:
        """Envelopes by id, those that are at hand.

        From: any node.
        Checks: shape, number of ids.
        Effects: none.
        Errors: `Malformed`.
        """
        wanted = codec.decode(EnvelopesWanted, request, bytes_max=REQUEST_BYTES_MAX)
        found = [self._mempool.get(item) for item in wanted.ids]
        wires, size = [], 0
        for held in found[:PACKED_ITEMS_MAX]:
            if held is None:
                continue
            size += len(held.wire)
            if size > CHAIN_BYTES_MAX:
                break
            wires.append(held.wire)
        return codec.encode(wires)

    # Batches

    async def fetch_batch(self, height: int, missing: set[bytes]) -> dict[bytes, bytes]:
        """The missing envelopes of an ordered batch by id, from whoever has executed it.

        Does not return before they are all there: without them execution cannot go on. Batches
        of the next heights come along, so that a node that was away catches up at more than one
        block a round trip.
        """
        found = self._from_ahead(height, missing)
        request = codec.encode(BatchesWanted(height, BATCHES_AHEAD_ITEMS_MAX))
        while not missing <= found.keys():
            for target in self._targets([]):
                answer = await self._ask(target, PROTOCOL_BATCHES, request, BatchesAnswer)
                if answer is not None and answer.batches:
                    self._ahead = dict(enumerate(answer.batches[:BATCHES_AHEAD_ITEMS_MAX], height))
                    found |= self._from_ahead(height, missing)
                if missing <= found.keys():
                    self._counts["batches"] += 1
                    return found
                wanted = sorted(missing - found.keys())[:ENVELOPES_WANTED_ITEMS_MAX]
                ids = codec.encode(EnvelopesWanted(wanted))
                packed = await self._ask(target, PROTOCOL_ENVELOPES, ids, Packed)
                for wire in packed or ():
                    name = envelope_id(wire, self._network_id)
                    if name in missing:
                        found[name] = wire
                if missing <= found.keys():
                    self._counts["batches"] += 1
                    return found
            log.warning("batch_missing", height=height, missing=len(missing - found.keys()))
            await trio.sleep(RETRY_PAUSE_MS / 1_000)
        self._counts["batches"] += 1
        return found

    def _from_ahead(self, height: int, missing: set[bytes]) -> dict[bytes, bytes]:
        """What an earlier answer holds of a batch; it is believed only as far as ids agree."""
        data = self._ahead.pop(height, None)
        return {} if data is None else self._matching(data, height, missing)

    def _matching(self, data: bytes, height: int, missing: set[bytes]) -> dict[bytes, bytes]:
        try:
            batch = decode_batch(data, self._network_id)
        except RemoteFault as fault:
            self._counts["failures"] += 1
            log.warning("batch_refused", height=height, code=fault.code, reason=fault.sentence)
            return {}
        named = {envelope_id(wire, self._network_id): wire for wire in batch.envelopes}
        return {name: wire for name, wire in named.items() if name in missing}

    async def _serve_batches(self, _peer: str, request: bytes) -> bytes:
        """Executed batches from a height on.

        From: any node.
        Checks: shape, count.
        Effects: none.
        Errors: `Malformed`.
        """
        wanted = codec.decode(BatchesWanted, request, bytes_max=REQUEST_BYTES_MAX)
        batches = await trio.to_thread.run_sync(
            self._stored_batches, wanted.first, wanted.count, limiter=self._serving
        )
        out: list[bytes] = []
        size = 0
        for data in batches:
            size += len(data)
            if out and size > CHAIN_BYTES_MAX:
                break
            out.append(data)
        return codec.encode(BatchesAnswer(out))

    # Both

    def _targets(self, first: list[int]) -> list[int]:
        """Connected validators, the preferred ones first, the others in turn."""
        self._turn += 1
        connected = [
            peer.validator
            for peer in self._network.peers()
            if peer.connected and peer.validator is not None
        ]
        turn = self._turn % len(connected) if connected else 0
        others = connected[turn:] + connected[:turn]
        return first + [target for target in others if target not in first]

    async def _ask(self, validator: int, protocol: str, request: bytes, shape: Any) -> Any:
        """One answer, or None when the peer is away, refuses, or answers nonsense."""
        try:
            data = await self._network.request(
                self._peer_ids[validator],
                protocol,
                request,
                deadline_ms=REQUEST_DEADLINE_MS,
                response_bytes_max=RESPONSE_BYTES_MAX,
            )
            return codec.decode(shape, data, bytes_max=RESPONSE_BYTES_MAX)
        except RemoteFault as fault:
            self._counts["failures"] += 1
            log.info("request_failed", validator=validator, protocol=protocol, code=fault.code)
            return None

    def statistics(self) -> SyncStatistics:
        counts = self._counts
        return SyncStatistics(
            counts["chain_requests"],
            counts["blocks"],
            counts["envelopes"],
            counts["batches"],
            counts["failures"],
        )
