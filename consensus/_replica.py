"""The replica: one validator's part in the agreement, without I/O (Jolteon; PROTOCOL 1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consensus._agreement import Agreement
from consensus._meter import RoundStatistics
from consensus._state import HANDOVER_KIND
from consensus._tree import Node
from consensus.block import Block, decode_block
from consensus.certificate import QuorumCertificate, check_quorum
from consensus.checkpoint import CheckpointCertificate
from consensus.effects import (
    EPOCH_KIND,
    ChainArrived,
    Effect,
    Entry,
    EnvelopesSeen,
    Event,
    Executed,
    FetchChain,
    Kind,
    LinkUp,
    Observed,
    Persist,
    Received,
    Send,
    Tick,
    WatchEnded,
)
from consensus.faults import BadChain, BadHandover, ConsensusFault, Equivocation
from consensus.handover import check_handover, decode_handover, make_handover
from consensus.states import EpochBegan
from primitives import codec
from primitives.dagcbor import NotDagCbor

_EPOCH_BYTES = 8

SENDERS_FAULTS = (ConsensusFault, codec.Malformed, codec.Oversized, NotDagCbor)
"""What `handle` raises when a message is wrong; the replica is unharmed."""


@dataclass(frozen=True)
class ReplicaStatistics:
    """What the replica knows and did, at one instant.

    `silent` says that nothing is signed for now; `passed_over` who does not lead at present.
    """

    epoch: int
    round: int
    height: int
    high_qc_round: int
    high_tc_round: int
    last_voted_round: int
    one_chain_round: int
    leader: int | None
    passed_over: tuple[int, ...]
    silent: bool
    tree_blocks: int
    pending_envelopes: int
    sequenced: int
    waiting_for_report: int
    links_ahead: tuple[int, ...]
    votes: int
    proposals: int
    timeouts: int
    checkpoint_height: int
    evidence: int
    accused: int
    refused: Mapping[str, int]
    rounds: RoundStatistics


def _certified(wires: tuple[bytes, ...], high_qc: QuorumCertificate, network: bytes) -> list[Block]:
    """Blocks of which each is certified by the next one, and the last by `high_qc`.

    Errors: `BadChain`, those of `decode_block`.
    """
    chain = [decode_block(wire, network) for wire in wires]
    certificates = [*(block.qc for block in chain), high_qc][1:]
    if any(block.cid != qc.block for block, qc in zip(chain, certificates, strict=bool(chain))):
        raise BadChain("its blocks are not certified by each other")
    return chain


class Replica(Agreement):
    """One validator, or an observer when it has no identity.

    `at_hand(id)` tells whether an envelope's bytes are here. Call `replay` for every block that
    storage holds, `resume` with the journal, then `handle` for every event; between events call
    `handle(Tick(), now)` when `wake_ms()` has come.
    """

    # Events

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """What follows from `event` at local time `now_ms`.

        Errors: one of `SENDERS_FAULTS` is the sender's: count it and go on. A `LocalFault` is
        ours: stop.
        """
        match event:
            case Received(kind, payload, _):
                try:
                    effects = self._receive(kind, payload, event.sender, now_ms)
                except SENDERS_FAULTS as fault:
                    self._note_refusal(fault)
                    raise
            case EnvelopesSeen(ids):
                effects = self._on_envelopes(ids, now_ms)
            case Observed(observation):
                effects = self._on_observation(observation)
            case ChainArrived(blocks, high_qc):
                effects = self._on_chain(blocks, high_qc, now_ms)
            case Executed(height, root, checkpoint):
                effects = self._on_executed(height, root, checkpoint)
            case LinkUp(validator):
                effects = self._on_link_up(validator)
            case Tick():
                effects = []
        self._pending += effects
        self._pending += self._on_time(now_ms)
        return self._drain()

    def _receive(self, kind: int, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        handlers: Mapping[int, Callable[[bytes, int, int], list[Effect]]] = {
            Kind.PROPOSAL: self._on_proposal,
            Kind.VOTE: self._on_vote,
            Kind.TIMEOUT: self._on_timeout,
            Kind.TIMEOUT_CERTIFICATE: self._on_timeout_certificate,
            Kind.LINK: self._on_link,
            Kind.CHECKPOINT: self._on_checkpoint,
            Kind.LINKS_WANTED: self._on_links_wanted,
            Kind.HANDOVER: self._on_handover,
            Kind.CERTIFICATE: self._on_certificate,
        }
        handler = handlers.get(kind)
        if handler is None:
            raise ConsensusFault(f"no message of the agreement has kind {kind}")
        return handler(payload, sender, now_ms)

    def _note_refusal(self, fault: Exception) -> None:
        code = getattr(fault, "code", "E300")
        self._refused[code] = self._refused.get(code, 0) + 1
        if isinstance(fault, Equivocation):
            self._note_evidence(fault.evidence)

    # Catching up

    def _on_chain(
        self, blocks: tuple[bytes, ...], high_qc: QuorumCertificate, now_ms: int
    ) -> list[Effect]:
        """Take blocks that were missing.

        From: a peer asked by `FetchChain`, not trusted.
        Checks: each block as a proposal is checked, each on the one before, and certified by
            the next one or by `high_qc`.
        Effects: commits by the two-chain rule; votes for a block of the current round.
        Errors: `BadChain` and those of a proposal; blocks before the wrong one are kept.
        Source: PROTOCOL 1.
        """
        state = self._state
        effects: list[Effect] = []
        newest = None
        for block in _certified(blocks, high_qc, state.committee.network):
            if block.height <= state.tree.tip.height or state.tree.get(block.cid) is not None:
                continue
            if block.epoch == state.committee.epoch + 1 and block.handover is not None:
                end = state.tree.get(block.parent)
                if end is not None:
                    self._take_handover(block.handover, end, now_ms)
            if block.epoch < state.committee.epoch:
                continue  # what followed the end block of an epoch that is over
            self._check(block)
            parent = state.tree.get(block.parent)
            if parent is None:
                raise BadChain(f"block {block.height} does not follow any that is known")
            self._insert(block, parent)
            newest = block
            effects += self._take_checkpoint(block)
            effects += self._adopt(block.qc, now_ms)
            self._commit_by(block.qc, now_ms)
            effects += self._adopt_timeout(block.tc, now_ms)
        if high_qc.epoch == state.committee.epoch:
            check_quorum(high_qc, state.committee, state.beginning.cid, state.votes.knows)
            self._look(high_qc)
            effects += self._adopt(high_qc, now_ms)
            self._commit_by(state.safety.high_qc, now_ms)
        effects += self._retry_orphans(now_ms)
        return effects if newest is None else effects + self._consider(newest, now_ms)

    def _retry_orphans(self, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for block in sorted(self._orphans.values(), key=lambda block: block.height):
            parent: Node | None = self._state.tree.get(block.parent)
            current = block.epoch == self._state.committee.epoch
            stale = not current or block.height <= self._state.tree.tip.height
            if parent is None and not stale:
                continue
            self._orphans.pop(block.cid, None)
            if stale or parent is None or self._state.tree.get(block.cid) is not None:
                continue
            try:
                self._insert(block, parent)
            except SENDERS_FAULTS as fault:
                self._note_refusal(fault)  # its own author's fault, not of who sent the chain
                continue
            effects += self._take_checkpoint(block)
            self._commit_by(self._state.safety.high_qc, now_ms)
            effects += self._consider(block, now_ms)
        return effects

    def tail(self, above: int) -> tuple[list[bytes], QuorumCertificate]:
        """Certified blocks above height `above`, ascending, and a certificate for the last.

        What storage does not hold yet but a peer that catches up needs to commit: blocks that
        are final but not executed, and those above the committed tip. Right after an epoch's
        end these are the blocks that prove it.
        """
        state = self._state
        high, node = state.certified_tip()
        recent = [block for block in state.recent if block.height > above]
        if node.round == 0 or high.block != node.cid:
            return self._tail_without_certificate(recent)
        path = [step.block for step in state.tree.branch(node) if step.block is not None]
        blocks = recent + [block for block in reversed(path) if block.height > above]
        return [block.wire for block in blocks], high

    def _tail_without_certificate(
        self, recent: list[Block]
    ) -> tuple[list[bytes], QuorumCertificate]:
        """The certified blocks when no certificate of the tip is at hand: it is the start of an
        epoch, or the journal is empty."""
        state = self._state
        if state.after_end:
            following, qc = state.after_end
            return [block.wire for block in (*recent, *following)], qc
        if not recent:
            return [], state.safety.high_qc
        # What the tip certifies is what can be shown.
        return [block.wire for block in recent[:-1]], recent[-1].qc

    # Epochs

    def _on_handover(self, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        """Learn that the epoch is over.

        From: a validator that is in the next one.
        Checks: that its blocks and certificates make the end block final.
        Effects: commits up to the end block and begins the next epoch.
        Errors: `BadHandover`, those of a block and of a certificate.
        Source: PROTOCOL 1.
        """
        handover = decode_handover(payload)
        state = self._state
        if handover.epoch != state.committee.epoch:
            return self._meet_epoch(handover.epoch + 1, sender, now_ms)
        end = state.tree.get(handover.end)
        if end is None:
            return self._meet_epoch(handover.epoch + 1, sender, now_ms)
        self._take_handover(payload, end, now_ms)
        return self._retry_orphans(now_ms)

    def _take_handover(self, wire: bytes, end: Node, now_ms: int) -> None:
        state = self._state
        handover = decode_handover(wire)
        if not end.ends:
            raise BadHandover(f"block {end.height} does not end epoch {state.committee.epoch}")
        check_handover(handover, end.cid, state.committee, state.votes.knows)
        self._begin_epoch(wire, end, now_ms)

    def _end_epoch(self, child: Node, qc: QuorumCertificate, now_ms: int) -> None:
        tree = self._state.tree
        end = next((step for step in (*tree.branch(child), tree.tip) if step.ends), None)
        if end is not None and child.block is not None:
            self._begin_epoch(make_handover(child.block, qc), end, now_ms)

    def _begin_epoch(self, handover: bytes, end: Node, now_ms: int) -> None:
        """Commit up to the end block and start on it, at round 1, with nothing signed."""
        state = self._state
        over = state.committee.epoch
        self._pending += state.hand_over(handover, end)
        fresh = self._watch is not None and self._watch.ends_with(end.time_ms)
        if fresh and not state.is_behind:
            self._watch = None
            state.hear(EpochBegan.FRESH)
            self._pending.append(WatchEnded())
        self._pending.append(Persist(self._begun(over, handover)))
        self._orphans = {c: b for c, b in self._orphans.items() if b.epoch > over}
        self._first_proposals.clear()
        self._links_wanted_ms.clear()
        self._meter.start_epoch(state.committee)
        self._proposed_round = self._given_up = 0
        self._entered_ms = self._last_block_ms = now_ms
        self._timeout_sent_ms = self._held = None
        self._pending += self._repeat_timeout(now_ms)

    def _begun(self, over: int, handover: bytes) -> tuple[Entry, ...]:
        """What must be durable before anything is signed in the epoch that has begun."""
        state = self._state
        entries = [Entry(HANDOVER_KIND, over.to_bytes(_EPOCH_BYTES, "big"), handover)]
        start = state.epoch_start()
        if start is not None:
            key = start.epoch.to_bytes(_EPOCH_BYTES, "big")
            entries.append(Entry(EPOCH_KIND, key, codec.encode(start)))
        if not state.silent:  # otherwise the journal's own state stays
            entries.append(state.safety.entry())
        return tuple(entries)

    def _meet_epoch(self, epoch: int, sender: int, now_ms: int) -> list[Effect]:
        """A message of another epoch came. Who is behind gets the proof; if it is this
        validator, it asks for the chain."""
        if not self._may_answer(sender, now_ms):
            return []
        if epoch > self._state.committee.epoch:
            return [FetchChain(sender, self._state.tree.tip.height)]
        handover = self._state.beginning.handover
        return [] if handover is None else [Send(sender, Kind.HANDOVER, handover)]

    # Questions

    @property
    def height(self) -> int:
        """The newest committed height."""
        return self._state.tree.tip.height

    @property
    def newest_checkpoint(self) -> CheckpointCertificate | None:
        """The newest state root that two thirds of the power signed."""
        return self._state.checkpoints.newest

    @property
    def accused(self) -> tuple[int, ...]:
        """Validators that evidence in final blocks proved guilty, in this epoch or the last."""
        return tuple(sorted({signer for _, signer in self._state.tree.tip.accused}))

    def statistics(self) -> ReplicaStatistics:
        state = self._state
        newest = state.checkpoints.newest
        sequencer = state.sequencer.statistics()
        round_ = state.safety.round
        parent = state.tree.get(state.safety.high_qc.block)
        passed: frozenset[int] = frozenset()
        if parent is not None:
            passed = state.committee.leaders.passed_over(round_, parent.settled)
        return ReplicaStatistics(
            epoch=state.committee.epoch,
            round=round_,
            height=state.tree.tip.height,
            high_qc_round=state.safety.high_qc.round,
            high_tc_round=state.safety.tc_round,
            last_voted_round=state.safety.last_voted_round,
            one_chain_round=state.safety.one_chain_round,
            leader=None if parent is None else state.leader(round_, parent),
            passed_over=tuple(sorted(passed)),
            silent=state.silent,
            tree_blocks=len(state.tree),
            pending_envelopes=sequencer.pending,
            sequenced=sequencer.sequenced,
            waiting_for_report=0 if state.reporter is None else state.reporter.waiting,
            links_ahead=tuple(state.links.sizes()),
            votes=self._counts["votes"],
            proposals=self._counts["proposals"],
            timeouts=self._counts["timeouts"],
            checkpoint_height=0 if newest is None else newest.height,
            evidence=len(self._evidence),
            accused=len(state.tree.tip.accused),
            refused=dict(self._refused),
            rounds=self._meter.statistics(),
        )
