"""Carries the replica: feeds it events, makes its state durable, sends what it says.

Everything that happened since the last flush is handled together and made durable in one
transaction (group commit); only then does anything leave. The flush runs in a thread, so
frames are read while the disk works.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
import trio

from consensus import (
    SENDERS_FAULTS,
    Broadcast,
    ChainArrived,
    CheckpointReached,
    Commit,
    DoubleSeen,
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
    WatchEnded,
)
from consensus.faults import DoppelgangerSeen
from node.clock import Clock
from node.flush import JournalWrite, PendingWrites, perform
from node.repetition import Repeated
from p2p import Network
from storage import Journal

log = structlog.get_logger(__name__)

INBOX_EVENTS_MAX = 8_192  # a full inbox makes the readers of frames wait
EVENTS_PER_FLUSH_MAX = 512  # more wait for the next flush
UNEXECUTED_BLOCKS_MAX = 512  # agreement waits for execution at this distance
IDLE_MS_MAX = 1_000  # the replica is asked again after this, whatever it says


@dataclass(frozen=True)
class DriverStatistics:
    """Work done since start.

    flushes           waits for the disk: group commits of the journal
    flush_ms_last     how long the newest of them took
    flush_ms_max      how long the longest of them took
    flush_ms_total    how long all of them took
    inbox             events that wait
    refused           messages of other validators that broke a rule
    """

    events: int
    flushes: int
    flush_ms_last: float
    flush_ms_max: float
    flush_ms_total: float
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
        self._pending = PendingWrites()
        self._thread = trio.CapacityLimiter(1)  # nobody else's work delays the journal
        self._durable = 0
        self._flushed = trio.Event()
        self._wake = trio.Event()
        self._room = trio.Event()
        self._clock = Clock()
        self._refusals = Repeated("refused", logger=log)
        self._counts = {"events": 0, "flushes": 0, "refused": 0}
        self._flush_ms_last = self._flush_ms_max = self._flush_ms_total = 0.0
        send, receive = trio.open_memory_channel[Commit](UNEXECUTED_BLOCKS_MAX)
        self._commit_sender = send
        self.commits: trio.MemoryReceiveChannel[Commit] = receive

    def now_ms(self) -> int:
        """Wall-clock milliseconds that never step back while this process lives."""
        return self._clock.now_ms()

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
            self._pending.arrived(arrived)
        self.post(EnvelopesSeen(tuple(name for name, _ in arrived)))

    def resume_envelopes(self, entries: Mapping[bytes, bytes]) -> list[bytes]:
        """The envelopes among the journal's entries, oldest first; before `run`.

        Errors: `Malformed`.
        """
        return self._pending.resume(entries)

    async def durable(self) -> None:
        """Wait until every envelope that arrived so far would survive a power cut."""
        target = self._pending.arrivals
        while self._durable < target:
            await self._flushed.wait()

    def envelopes_finished(self, names: list[bytes]) -> None:
        """Envelopes that nobody will ask this node's journal for any more."""
        if self._journal is not None:
            self._pending.finished(names)

    async def run(self, first: list[Effect]) -> None:
        """Work until cancelled. `first` are the effects of `Replica.resume`."""
        try:
            await self._flush(first)
            while True:
                await self._step()
        finally:
            self._refusals.tell_rest()

    async def _step(self) -> None:
        await self._wait()
        effects: list[Effect] = []
        now_ms = self.now_ms()
        for _ in range(min(len(self._inbox), EVENTS_PER_FLUSH_MAX)):
            effects += self._handle(self._inbox.popleft(), now_ms)
        effects += self._handle(Tick(), now_ms)
        self._room.set()
        self._refusals.tell_due()
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
                self._refusals.tell(
                    (who, fault.code), validator=who, code=fault.code, reason=fault.sentence
                )
                return []
            raise

    async def _flush(self, effects: list[Effect]) -> None:
        """Make durable what must be, then carry the effects out in order."""
        if self._journal is not None:
            durable = self._pending.arrivals
            for write in self._pending.take(effects):
                await self._write(self._journal, write)
            if self._durable < durable:
                self._durable = durable
                self._flushed.set()
                self._flushed = trio.Event()
        for effect in effects:
            await self._carry_out(effect)

    async def _write(self, journal: Journal, write: JournalWrite) -> None:
        started = trio.current_time()
        await trio.to_thread.run_sync(perform, journal, write, limiter=self._thread)
        self._counts["flushes"] += 1
        self._flush_ms_last = (trio.current_time() - started) * 1_000
        self._flush_ms_max = max(self._flush_ms_max, self._flush_ms_last)
        self._flush_ms_total += self._flush_ms_last

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
            case DoubleSeen(evidence):
                raise DoppelgangerSeen(
                    f"another process signed for slot {evidence.number} of epoch {evidence.epoch} "
                    "with this validator's key; stop the other one for good, then start this one"
                )
            case WatchEnded():
                log.info("journal_watch_ended", meaning="this validator signs again")
                if self._journal is not None:
                    await trio.to_thread.run_sync(self._journal.end_watch, limiter=self._thread)
            case Persist():
                pass  # durable already

    def statistics(self) -> DriverStatistics:
        return DriverStatistics(
            self._counts["events"],
            self._counts["flushes"],
            self._flush_ms_last,
            self._flush_ms_max,
            self._flush_ms_total,
            len(self._inbox),
            self._counts["refused"],
        )
