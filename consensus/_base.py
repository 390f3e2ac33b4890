"""What all parts of the replica stand on: its state, its start, and what is waiting to leave."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

from consensus._meter import Meter
from consensus._safety import slot_key
from consensus._state import BLOCK_KIND, Genesis, Identity, Journal, ReplicaState
from consensus._watch import Watch
from consensus.block import Block
from consensus.effects import (
    Broadcast,
    Commit,
    DoubleSeen,
    Effect,
    Entry,
    Kind,
    Persist,
)
from consensus.epoch_start import decode_epoch_start
from consensus.evidence import Evidence
from consensus.faults import ConsensusFault, Equivocation, JournalContradiction
from consensus.states import Voice
from consensus.timing import Timing
from primitives import codec

MEETING_PAUSE_MS = 500  # a validator that is behind or ahead is answered at most this often
EVIDENCE_ITEMS_MAX = 256  # proofs kept; beyond that the oldest is forgotten
DEFAULT_TIMING = Timing()


class ReplicaBase(ABC):
    """State, start, and the effects that must not be lost."""

    def __init__(
        self,
        genesis: Genesis,
        identity: Identity | None,
        at_hand: Callable[[bytes], bool],
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        self._state = ReplicaState(genesis, identity, at_hand)
        self._timing = timing
        self._meter = Meter(len(genesis.committee))
        self._watch: Watch | None = None
        self._orphans: dict[bytes, Block] = {}
        self._pending: list[Effect] = []
        self._own_checkpoints: dict[int, bytes] = {}
        self._links_wanted_ms: dict[int, int] = {}
        self._held_missing: set[bytes] = set()
        self._held: Block | None = None
        self._first_proposals: dict[tuple[int, int], Block] = {}
        self._proposed_round = 0
        self._leading_at = (0, b"")
        self._leads = False
        self._asked_ms = self._asked = 0
        self._entered_ms = 0
        self._given_up = 0
        self._last_block_ms = 0
        self._last_link_ms = 0
        self._timeout_sent_ms: int | None = None
        self._counts = {"votes": 0, "proposals": 0, "timeouts": 0}
        self._refused: dict[str, int] = {}
        self._evidence: dict[tuple[int, int], Evidence] = {}
        self._met_ms: dict[int, int] = {}

    @abstractmethod
    def _consider(self, block: Block, now_ms: int) -> list[Effect]:
        """Vote for a valid block of the current round if the rules allow it."""

    @abstractmethod
    def _on_time(self, now_ms: int) -> list[Effect]:
        """Everything that is due at `now_ms`."""

    @abstractmethod
    def _meet_epoch(self, epoch: int, sender: int, now_ms: int) -> list[Effect]:
        """A message of another epoch came: one of us is behind."""

    @abstractmethod
    def _give_up(self, now_ms: int) -> list[Effect]:
        """Sign a timeout for the current round if the rules allow it."""

    # Starting

    def replay(self, wire: bytes) -> Commit:
        """Take a committed block from storage, in order of height.

        Errors: `JournalContradiction` when it does not follow the one before.
        """
        return self._state.replay(wire)

    def begin_at(self, start: bytes, sequenced: Iterable[tuple[int, bytes]]) -> int:
        """Begin with an epoch's start from the journal instead of the genesis, before `replay`.

        `sequenced` are (height, id) of the envelopes executed up to it, ascending, at least those
        of the last `SEQUENCED_HEIGHTS_MAX` heights. Returns the height of the start block.
        Errors: `JournalContradiction`.
        """
        try:
            record = decode_epoch_start(start)
        except (codec.Malformed, codec.Oversized) as fault:
            raise JournalContradiction(f"no start of an epoch: {fault.sentence}") from fault
        self._state.begin_at(record, sequenced)
        return record.height

    def resume(self, journal: Journal, now_ms: int, *, watch: bool = False) -> list[Effect]:
        """Take the journal's entries by kind, and begin.

        With `watch` nothing is signed until an epoch has begun after `now_ms`: for a journal
        that was imported, or begun anew by a key that has signed before. Then `WatchEnded`.
        Errors: `JournalContradiction` when they are not this validator's or do not decode.
        """
        if watch and self._state.own_index is not None:
            self._watch = Watch(self._state.own_index, now_ms)
            self._state.voice = Voice.WATCHING
        try:
            self._pending += self._state.restore(journal)
        except (ConsensusFault, codec.Malformed, codec.Oversized) as fault:
            raise JournalContradiction(
                f"the journal does not belong to this validator: {fault.sentence}"
            ) from fault
        self._entered_ms = self._last_block_ms = now_ms
        self._pending += self._repeat_timeout(now_ms)
        self._pending += self._on_time(now_ms)
        return self._drain()

    def _repeat_timeout(self, now_ms: int) -> list[Effect]:
        """If the journal says that the present round was given up, say so again."""
        last = self._state.safety.last_timeout
        if self._state.silent or last is None or last.round != self._state.safety.round:
            return []
        self._state.timeouts.add(last)
        self._timeout_sent_ms = now_ms
        return [Broadcast(Kind.TIMEOUT, codec.encode(last))]

    def _drain(self) -> list[Effect]:
        """What became final or must be durable, whatever else became of the message."""
        pending, self._pending = self._pending, []
        return pending

    def _say(self, entries: tuple[Entry, ...], message: Broadcast) -> None:
        """What was signed becomes durable and leaves, whatever follows from the same event."""
        self._pending += [Persist(entries), message]

    def _count_own(self, count: Callable[[], list[Effect]]) -> list[Effect]:
        """Count what this validator has just signed beside what others sent."""
        try:
            return count()
        except Equivocation as fault:
            self._note_evidence(fault.evidence)
            return []

    def _keep(self, block: Block) -> None:
        """Every block of the tree is durable: after a blackout of everybody each certified one
        must be with those who voted for it, and nobody may have a gap below what it votes for."""
        key = slot_key(block.epoch, block.round) + block.cid
        self._pending.append(Persist((Entry(BLOCK_KIND, key, block.wire),)))

    def _may_answer(self, validator: int, now_ms: int) -> bool:
        """Whether a validator that is behind or ahead is answered now, or was a moment ago."""
        if now_ms < self._met_ms.get(validator, 0) + MEETING_PAUSE_MS:
            return False
        self._met_ms[validator] = now_ms
        return True

    # Evidence

    def _note_evidence(self, evidence: Evidence) -> None:
        """Keep the first proof against each validator and epoch, for the blocks to come.

        A proof against ourselves means that another process uses the key: the caller must stop.
        """
        if evidence.first.content == evidence.second.content:
            return
        if evidence.signer == self._state.own_index:
            self._pending.append(DoubleSeen(evidence))
        kept = self._evidence
        if kept.setdefault((evidence.epoch, evidence.signer), evidence) is evidence:
            while len(kept) > EVIDENCE_ITEMS_MAX:
                del kept[next(iter(kept))]

    @property
    def evidence(self) -> list[Evidence]:
        """The first proof that was seen against each validator and epoch."""
        return list(self._evidence.values())
