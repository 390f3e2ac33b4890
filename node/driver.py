"""Carries the replica: feeds it events, makes its state durable, sends what it says.

Everything that happened since the last flush is handled together and made durable in one
transaction (group commit); only then does anything leave. The flush runs in a thread, so
frames are read while the disk works.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from consensus import (
    SENDERS_FAULTS,
    Broadcast,
    ChainArrived,
    CheckpointReached,
    Commit,
    Effect,
    EnvelopesSeen,
    Event,
    FetchChain,
    FetchEnvelopes,
    Persist,
    Received,
    Replica,
    Send,
    Tick,
)
from p2p import Network
from storage import Journal

log = structlog.get_logger(__name__)

INBOX_EVENTS_MAX = 8_192  # a full inbox makes the readers of frames wait
EVENTS_PER_FLUSH_MAX = 512  # more wait for the next flush
UNEXECUTED_BLOCKS_MAX = 512  # agreement waits for execution at this distance
WRITE_ITEMS_MAX = 1_024  # journal entries in one transaction; more take several
JOURNAL_PRUNE_FLUSHES = 100  # old journal entries are removed this often
IDLE_MS_MAX = 1_000  # the replica is asked again after this, whatever it says
ENVELOPE_KIND = "envelope"
_KEPT_SLOTS = {"vote": 4_096, "timeout": 4_096, "proposal": 64, "report": 4_096, "block": 128}


@dataclass(frozen=True)
class DriverStatistics:
    """Work done since start; `flush_ms_max` is the longest wait for the disk."""

    events: int
    flushes: int
    flush_ms_max: int
    flush_ms_total: int
    inbox: int
    refused: int


class Driver:
    """One replica, its journal, and the network it speaks through.

    `fetch_envelopes` and `fetch_chain` start work elsewhere and return at once.
    """

    def __init__(
        self,
        replica: Replica,
        journal: Journal | None,
        network: Network,
        *,
        fetch_envelopes: Callable[[FetchEnvelopes], None],
        fetch_chain: Callable[[FetchChain], None],
        checkpoint: Callable[[CheckpointReached], None],
    ) -> None:
        self._replica = replica
        self._journal = journal
        self._network = network
        self._fetch_envelopes = fetch_envelopes
        self._fetch_chain = fetch_chain
        self._checkpoint = checkpoint
        self._inbox: deque[Event] = deque()
        self._envelopes: list[tuple[str, bytes, bytes]] = []
        self._finished: list[tuple[str, bytes]] = []
        self._thread = trio.CapacityLimiter(1)  # nobody else's work delays the journal
        self._arrived = self._durable = 0
        self._flushed = trio.Event()
        self._wake = trio.Event()
        self._room = trio.Event()
        self._last_ms = 0
        self._counts = {"events": 0, "flushes": 0, "refused": 0}
        self._flush_ms_max = 0
        self._flush_ms_total = 0
        send, receive = trio.open_memory_channel[Commit](UNEXECUTED_BLOCKS_MAX)
        self._commit_sender = send
        self.commits: trio.MemoryReceiveChannel[Commit] = receive

    def now_ms(self) -> int:
        """Wall-clock milliseconds that never step back while this process lives."""
        self._last_ms = max(self._last_ms, time.time_ns() // 1_000_000)
        return self._last_ms

    def post(self, event: Event) -> None:
        """Hand over an event of this node itself; those are few and never wait."""
        self._inbox.append(event)
        self._wake.set()

    async def post_received(self, event: Received) -> None:
        """Hand over a message of a validator; waits while the inbox is full."""
        while len(self._inbox) >= INBOX_EVENTS_MAX:
            self._room = trio.Event()
            await self._room.wait()
        self.post(event)

    def envelopes_arrived(self, arrived: list[tuple[bytes, bytes]]) -> None:
        """(id, bytes) of envelopes in the order in which they were first seen here.

        They become durable before this validator's report names them: after a blackout of
        everybody a reported envelope must still be somewhere.
        """
        if self._journal is not None:
            self._envelopes += [(ENVELOPE_KIND, name, wire) for name, wire in arrived]
            self._arrived += len(arrived)
        self.post(EnvelopesSeen(tuple(name for name, _ in arrived)))

    async def durable(self) -> None:
        """Wait until every envelope that arrived so far would survive a power cut."""
        target = self._arrived
        while self._durable < target:
            await self._flushed.wait()

    def envelopes_finished(self, names: list[bytes]) -> None:
        """Envelopes that nobody will ask this node's journal for any more."""
        if self._journal is not None:
            self._finished += [(ENVELOPE_KIND, name) for name in names]

    async def run(self, first: list[Effect]) -> None:
        """Work until cancelled. `first` are the effects of `Replica.resume`."""
        await self._flush(first)
        while True:
            await self._wait()
            effects: list[Effect] = []
            now_ms = self.now_ms()
            for _ in range(min(len(self._inbox), EVENTS_PER_FLUSH_MAX)):
                effects += self._handle(self._inbox.popleft(), now_ms)
            effects += self._handle(Tick(), now_ms)
            self._room.set()
            await self._flush(effects)

    async def _wait(self) -> None:
        """Until an event comes or the replica wants to be woken."""
        if self._inbox:
            await trio.lowlevel.checkpoint()
            return
        self._wake = trio.Event()
        pause_ms = min(self._replica.wake_ms() - self.now_ms(), IDLE_MS_MAX)
        with trio.move_on_after(max(0, pause_ms) / 1_000):
            await self._wake.wait()

    def _handle(self, event: Event, now_ms: int) -> list[Effect]:
        self._counts["events"] += 1
        try:
            return self._replica.handle(event, now_ms)
        except SENDERS_FAULTS as fault:
            self._counts["refused"] += 1
            who = event.sender if isinstance(event, Received) else None
            if isinstance(event, Received | ChainArrived):
                log.warning("refused", validator=who, code=fault.code, reason=fault.sentence)
                return []
            raise

    async def _flush(self, effects: list[Effect]) -> None:
        """Make durable what must be, then carry the effects out in order."""
        entries = [
            (entry.kind, entry.key, entry.value)
            for effect in effects
            if isinstance(effect, Persist)
            for entry in effect.entries
        ]
        if self._journal is not None and (entries or self._envelopes):
            while len(self._envelopes) > WRITE_ITEMS_MAX:
                some = self._envelopes[:WRITE_ITEMS_MAX]
                del self._envelopes[:WRITE_ITEMS_MAX]
                await self._write(self._journal, some, [])
            envelopes, self._envelopes = self._envelopes, []
            finished = self._finished[:WRITE_ITEMS_MAX]
            del self._finished[:WRITE_ITEMS_MAX]
            durable = self._arrived
            await self._write(self._journal, envelopes + entries, finished)
            self._durable = durable
            self._flushed.set()
            self._flushed = trio.Event()
        for effect in effects:
            await self._carry_out(effect)

    async def _write(
        self,
        journal: Journal,
        entries: list[tuple[str, bytes, bytes]],
        deletes: list[tuple[str, bytes]],
    ) -> None:
        started = trio.current_time()
        await trio.to_thread.run_sync(journal.write, entries, deletes, limiter=self._thread)
        self._counts["flushes"] += 1
        if self._counts["flushes"] % JOURNAL_PRUNE_FLUSHES == 0:
            for kind, kept in _KEPT_SLOTS.items():
                await trio.to_thread.run_sync(journal.prune, kind, kept, limiter=self._thread)
        took = round((trio.current_time() - started) * 1_000)
        self._flush_ms_max = max(self._flush_ms_max, took)
        self._flush_ms_total += took

    async def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Broadcast(kind, payload):
                self._network.broadcast(kind, payload)
            case Send(to, kind, payload):
                self._network.send(to, kind, payload)
            case Commit():
                await self._commit_sender.send(effect)
            case FetchEnvelopes():
                self._fetch_envelopes(effect)
            case FetchChain():
                self._fetch_chain(effect)
            case CheckpointReached():
                self._checkpoint(effect)
            case Persist():
                pass  # durable already

    def statistics(self) -> DriverStatistics:
        return DriverStatistics(
            self._counts["events"],
            self._counts["flushes"],
            self._flush_ms_max,
            self._flush_ms_total,
            len(self._inbox),
            self._counts["refused"],
        )
