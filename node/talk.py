"""Chat for one node: messages from clients and gossip, and catching up with other nodes."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

import structlog
import trio

from chat import (
    SYNC_PAGES_MAX,
    SYNC_REQUEST_BYTES_MAX,
    SYNC_RESPONSE_BYTES_MAX,
    WIRE_BYTES_MAX,
    Accepted,
    ChatService,
    KeptMessage,
    admit_message,
)
from exchange.envelope import Scope
from exchange.network import NetworkGenesis
from node.feed import ChatUpdate, Feed
from node.wire import PROTOCOL_CHAT, TOPIC_CHAT
from p2p import Network
from primitives.faults import RemoteFault
from storage import Index

log = structlog.get_logger(__name__)

SYNC_PAUSE_MS = 3_000  # between two rounds of comparing rooms with some other node
TICK_PAUSE_MS = 1_000
SYNC_DEADLINE_MS = 5_000
SYNC_PER_SECOND = 20.0  # requests of one peer; more are refused


@dataclass(frozen=True)
class TalkStatistics:
    synchronised: int
    absorbed: int
    failures: int


class Talk:
    """The rooms of a node: one per market, open to whoever holds a key with the chat scope."""

    def __init__(
        self,
        genesis: NetworkGenesis,
        index: Index,
        network: Network,
        feed: Feed,
        peer_ids: list[str],
    ) -> None:
        self._network_id = genesis.network_id()
        self._index = index
        self._network = network
        self._feed = feed
        self._peer_ids = [item for item in peer_ids if item != network.peer_id]
        self._turn = 0
        self._counts = {"synchronised": 0, "absorbed": 0, "failures": 0}
        rooms = [market.symbol for market in genesis.exchange.markets]
        self.service = ChatService(index, self._network_id, rooms, self._authorize)

    def _authorize(self, account: bytes, key: bytes, time_ms: int) -> bool:
        """Whether committed blocks gave the key the scope to chat at that time."""
        row = self._index.key_at(account, key, time_ms)
        return row is not None and bool(row.scope & Scope.CHAT) and time_ms <= row.expires_ms

    async def say(self, wire: bytes) -> bytes:
        """Take a message from a client and pass it on; its CID. Errors: `ChatFault`."""
        accepted = await self._accept(wire)
        if accepted.is_new:
            await self._network.publish(TOPIC_CHAT, wire)
        return accepted.cid

    async def recheck(self, changed: set[tuple[bytes, bytes]]) -> None:
        """A block changed these (account, key) pairs: drop what they had no authority for."""
        for account, key in changed:
            await trio.to_thread.run_sync(self.service.recheck, account, key)

    def serve(self) -> None:
        """Answer other nodes' requests for history from now on."""
        self._network.serve(
            PROTOCOL_CHAT,
            self._serve,
            request_bytes_max=SYNC_REQUEST_BYTES_MAX,
            response_bytes_max=SYNC_RESPONSE_BYTES_MAX,
            per_second=SYNC_PER_SECOND,
        )

    async def run(self) -> None:
        """Read gossip, compare rooms with others now and then, show what waited; for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_gossip)
            nursery.start_soon(self._synchronise)
            nursery.start_soon(self._tick)

    async def _read_gossip(self) -> None:
        messages = self._network.subscribe(TOPIC_CHAT, accept=self._is_wellformed)
        async for message in messages:
            try:
                await self._accept(message.payload)
            except RemoteFault as fault:
                log.info("chat_refused", peer=message.peer, code=fault.code)

    def _is_wellformed(self, payload: bytes) -> bool:
        """What everybody decides alike about a gossiped message, before it goes further."""
        if len(payload) > WIRE_BYTES_MAX:
            return False
        try:
            admit_message(payload, self._network_id)
        except RemoteFault:
            return False
        return True

    async def _accept(self, wire: bytes) -> Accepted:
        accepted = await trio.to_thread.run_sync(self.service.accept, wire, _now_ms())
        self._publish(accepted.shown)
        return accepted

    def _publish(self, shown: Iterable[KeptMessage]) -> None:
        for kept in shown:
            self._feed.publish(ChatUpdate(kept.cid, kept.message))

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK_PAUSE_MS / 1_000)
            self._publish(await trio.to_thread.run_sync(self.service.tick, _now_ms()))

    async def _serve(self, _peer: str, request: bytes) -> bytes:
        """A page of messages that the asking node lacks.

        From: any node.
        Checks: shape, network, room.
        Effects: none.
        Errors: `MalformedSync`, `UnknownRoom`.
        """
        return await trio.to_thread.run_sync(self.service.sync_response, request)

    async def _synchronise(self) -> None:
        """Compare every room with one other node after the other."""
        while True:
            connected = {peer.peer_id for peer in self._network.peers() if peer.connected}
            others = [item for item in self._peer_ids if item in connected]
            if others:
                self._turn += 1
                await self._compare(others[self._turn % len(others)])
            await trio.sleep(SYNC_PAUSE_MS / 1_000)

    async def _compare(self, peer: str) -> None:
        for room in self.service.rooms:
            try:
                await self._catch_up(peer, room)
                self._counts["synchronised"] += 1
            except RemoteFault as fault:
                self._counts["failures"] += 1
                log.info("chat_sync_failed", peer=peer, room=room, code=fault.code)

    async def _catch_up(self, peer: str, room: str) -> None:
        request: bytes | None = await trio.to_thread.run_sync(self.service.sync_request, room)
        for _ in range(SYNC_PAGES_MAX):
            if request is None:
                return
            response = await self._network.request(
                peer,
                PROTOCOL_CHAT,
                request,
                deadline_ms=SYNC_DEADLINE_MS,
                response_bytes_max=SYNC_RESPONSE_BYTES_MAX,
            )
            absorbed = await trio.to_thread.run_sync(self.service.absorb, response, _now_ms())
            self._counts["absorbed"] += len(absorbed.kept)
            self._publish(absorbed.shown)
            request = absorbed.next_request

    def statistics(self) -> TalkStatistics:
        counts = self._counts
        return TalkStatistics(counts["synchronised"], counts["absorbed"], counts["failures"])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
