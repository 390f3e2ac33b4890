"""The replica: one validator's part in the agreement, without I/O (Jolteon; PROTOCOL 1)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consensus._collectors import check_distance
from consensus._duties import ReplicaDuties
from consensus._safety import slot_key
from consensus._state import BLOCK_KIND
from consensus._tree import Node
from consensus.block import Block, decode_block
from consensus.certificate import (
    CERTIFICATE_BYTES_MAX,
    TIMEOUT_DOMAIN,
    VOTE_DOMAIN,
    QuorumCertificate,
    Timeout,
    TimeoutCertificate,
    Vote,
    check_quorum,
    check_timeout_certificate,
    sign_timeout,
    sign_vote,
)
from consensus.checkpoint import CheckpointCertificate
from consensus.effects import (
    Broadcast,
    ChainArrived,
    Effect,
    Entry,
    EnvelopesSeen,
    Event,
    Executed,
    FetchChain,
    FetchEnvelopes,
    Kind,
    LinkUp,
    Observed,
    Persist,
    Received,
    Tick,
)
from consensus.faults import BadChain, ConsensusFault, Equivocation, WrongEpoch
from primitives import codec
from primitives.dagcbor import NotDagCbor

ORPHANS_ITEMS_MAX = 64  # proposals whose parents are being fetched; the oldest is dropped
EVIDENCE_ITEMS_MAX = 64  # contradictions kept for the operator; later ones are only counted
TIMEOUT_BYTES_MAX = 3 * CERTIFICATE_BYTES_MAX
VOTE_BYTES_MAX = 512

SENDERS_FAULTS = (ConsensusFault, codec.Malformed, codec.Oversized, NotDagCbor)
"""What `handle` raises when a message is wrong; the replica is unharmed."""


@dataclass(frozen=True)
class ReplicaStatistics:
    """What the replica knows and did, at one instant."""

    round: int
    height: int
    high_qc_round: int
    last_voted_round: int
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
    refused: Mapping[str, int]


class Replica(ReplicaDuties):
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
        due = self._on_time(now_ms)
        return [*effects, *self._drain_commits(), *due]

    def _receive(self, kind: int, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        handlers: Mapping[int, Callable[[bytes, int, int], list[Effect]]] = {
            Kind.PROPOSAL: self._on_proposal,
            Kind.VOTE: self._on_vote,
            Kind.TIMEOUT: self._on_timeout,
            Kind.TIMEOUT_CERTIFICATE: self._on_timeout_certificate,
            Kind.LINK: self._on_link,
            Kind.CHECKPOINT: self._on_checkpoint,
            Kind.LINKS_WANTED: self._on_links_wanted,
        }
        handler = handlers.get(kind)
        if handler is None:
            raise ConsensusFault(f"no message of the agreement has kind {kind}")
        return handler(payload, sender, now_ms)

    def _note_refusal(self, fault: Exception) -> None:
        code = getattr(fault, "code", "E300")
        self._refused[code] = self._refused.get(code, 0) + 1
        if isinstance(fault, Equivocation) and len(self.evidence) < EVIDENCE_ITEMS_MAX:
            self.evidence.append(fault.evidence)

    # Proposals and votes

    def _on_proposal(self, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        """Consider a leader's block.

        From: any validator; a block is signed by its author, whoever passes it on.
        Checks: shape, author, signature, certificates, report links, time (`Validity`).
        Effects: adopts its certificates; votes, or fetches what is missing first.
        Errors: `BadBlock`, `NotTheLeader`, `BadCertificate`, `BadReport`, `BadVoteSignature`.
        Source: Jolteon, figure 2; PROTOCOL 1.
        """
        block = decode_block(payload, self._state.committee.network)
        if block.height <= self._state.tree.tip.height:
            return []
        if self._state.tree.get(block.cid) is not None:
            return self._vote_again(block)
        if block.cid in self._orphans:
            return []
        self._state.validity.check_alone(block)
        effects = self._adopt(block.qc, now_ms) + self._adopt_timeout(block.tc, now_ms)
        if block.round < self._state.safety.round:
            return effects  # nobody votes for it any more; if certified, it comes with the chain
        self._check_first(block)
        parent = self._state.tree.get(block.parent)
        if parent is None:
            self._orphans[block.cid] = block
            while len(self._orphans) > ORPHANS_ITEMS_MAX:
                del self._orphans[next(iter(self._orphans))]
            return [*effects, FetchChain(sender, self._state.tree.tip.height)]
        self._state.insert(block, parent)
        self._last_block_ms = now_ms
        effects += self._take_checkpoint(block)
        self._commit_by(self._state.safety.high_qc)
        return effects + self._consider(block, now_ms)

    def _check_first(self, block: Block) -> None:
        """A leader has one proposal a round; of a second one only the certified is ever needed,
        and that comes with the chain. Errors: `Equivocation`."""
        first = self._first_proposals.setdefault(block.round, block.wire)
        if first != block.wire:
            raise Equivocation(
                f"validator {block.author} proposed twice in round {block.round}",
                (first, block.wire),
            )

    def _consider(self, block: Block, now_ms: int) -> list[Effect]:
        """Vote for a valid block of the current round if the rules and the envelopes allow."""
        state, identity = self._state, self._state.identity
        if identity is None or block.round != state.safety.round:
            return []
        if state.tree.get(block.cid) is None or not state.safety.may_vote(block):
            return []
        ahead = state.links_ahead(block)
        missing = state.missing(ahead)
        if missing:
            self._held, self._held_missing = block, set(missing)
            reporters = state.sequencer.reporters(missing, ahead)
            return [FetchEnvelopes(tuple(missing), tuple(sorted(reporters - {identity.index})))]
        self._held = None
        committee = state.committee
        vote = sign_vote(
            identity.key, committee.network, committee.epoch, block.round, block.cid, identity.index
        )
        state.safety.voted(vote, block.qc.round)
        self._counts["votes"] += 1
        slot = slot_key(committee.epoch, block.round)
        journal = (
            Entry("vote", slot, block.cid),
            Entry(BLOCK_KIND, slot, block.wire),
            state.safety.entry(),
        )
        wire = codec.encode(vote)
        return [Persist(journal), Broadcast(Kind.VOTE, wire), *self._count_vote(vote, now_ms)]

    def _vote_again(self, block: Block) -> list[Effect]:
        """A proposal came a second time: the vote may have been lost, so it is repeated."""
        vote = self._state.safety.last_vote
        if vote is None or vote.block != block.cid or vote.round != self._state.safety.round:
            return []
        return [Broadcast(Kind.VOTE, codec.encode(vote))]

    def _on_vote(self, payload: bytes, _sender: int, now_ms: int) -> list[Effect]:
        """Count a validator's vote.

        From: any validator of the epoch, once per round.
        Checks: epoch, distance of the round, signature.
        Effects: at a quorum, forms the certificate, commits by it, enters the next round.
        Errors: `WrongEpoch`, `RoundTooFar`, `BadVoteSignature`, `Equivocation` (with evidence).
        Source: Jolteon, figure 2; PROTOCOL 1.
        """
        vote = codec.decode(Vote, payload, bytes_max=VOTE_BYTES_MAX)
        safety = self._state.safety
        if vote.epoch != self._state.committee.epoch:
            raise WrongEpoch(f"a vote of epoch {vote.epoch}")
        check_distance(vote.round, safety.round)
        if vote.round <= safety.high_qc.round:
            return []
        if self._state.votes.knows(vote.round, vote.block, vote.voter, vote.signature):
            return []
        self._state.committee.check(vote.voter, VOTE_DOMAIN, vote.body(), vote.signature)
        return self._count_vote(vote, now_ms)

    def _count_vote(self, vote: Vote, now_ms: int) -> list[Effect]:
        certificate = self._state.votes.add(vote)
        return [] if certificate is None else self._adopt(certificate, now_ms)

    # Timeouts

    def _on_timeout(self, payload: bytes, _sender: int, now_ms: int) -> list[Effect]:
        """Count a validator's wish to leave a round.

        From: any validator of the epoch, once per round.
        Checks: epoch, distance, signature, the certificates that it carries.
        Effects: adopts higher certificates; joins when an honest validator must be among those
            who gave up; at a quorum forms and broadcasts the timeout certificate.
        Errors: `WrongEpoch`, `RoundTooFar`, `BadVoteSignature`, `BadCertificate`.
        Source: Jolteon, section 4.2; PROTOCOL 1.
        """
        timeout = codec.decode(Timeout, payload, bytes_max=TIMEOUT_BYTES_MAX)
        state = self._state
        if timeout.epoch != state.committee.epoch:
            raise WrongEpoch(f"a timeout of epoch {timeout.epoch}")
        if timeout.round < state.safety.round or state.timeouts.knows(timeout):
            return []
        check_distance(timeout.round, state.safety.round)
        state.committee.check(timeout.voter, TIMEOUT_DOMAIN, timeout.body(), timeout.signature)
        known = state.votes.knows
        check_quorum(timeout.high_qc, state.committee, state.genesis.cid, known)
        effects = []
        if timeout.high_tc is not None and timeout.high_tc.round > state.safety.tc_round:
            check_timeout_certificate(timeout.high_tc, state.committee, state.genesis.cid, known)
            effects += self._adopt_timeout(timeout.high_tc, now_ms)
        effects += self._adopt(timeout.high_qc, now_ms)
        return effects + self._count_timeout(timeout, now_ms)

    def _count_timeout(self, timeout: Timeout, now_ms: int) -> list[Effect]:
        state = self._state
        power = state.timeouts.add(timeout)
        if timeout.round != state.safety.round:
            return []
        if not state.committee.is_quorum(power):
            joins = state.committee.has_honest(power) and self._timeout_sent_ms is None
            return self._give_up(now_ms) if joins else []
        certificate = state.timeouts.certificate(timeout.round)
        wire = codec.encode(certificate)
        return [
            *self._adopt_timeout(certificate, now_ms),
            Broadcast(Kind.TIMEOUT_CERTIFICATE, wire),
        ]

    def _on_timeout_certificate(self, payload: bytes, _sender: int, now_ms: int) -> list[Effect]:
        """Follow the others out of a round.

        From: any validator; it proves itself.
        Checks: epoch, quorum, signatures, its quorum certificate.
        Effects: adopts it and enters the next round.
        Errors: `WrongEpoch`, `BadCertificate`, `BadVoteSignature`.
        Source: Jolteon, section 4.2; PROTOCOL 1.
        """
        certificate = codec.decode(TimeoutCertificate, payload, bytes_max=2 * CERTIFICATE_BYTES_MAX)
        state = self._state
        if certificate.round <= state.safety.tc_round:
            return []
        check_timeout_certificate(
            certificate, state.committee, state.genesis.cid, state.votes.knows
        )
        return self._adopt_timeout(certificate, now_ms)

    def _give_up(self, now_ms: int) -> list[Effect]:
        """Sign and broadcast a timeout for the current round, if the rule allows one."""
        state, identity = self._state, self._state.identity
        if identity is None or not state.safety.may_time_out(state.safety.round):
            return []
        safety = state.safety
        timeout = sign_timeout(
            identity.key,
            state.committee.network,
            safety.round,
            safety.high_qc,
            safety.high_tc,
            identity.index,
        )
        safety.timed_out(timeout)
        self._timeout_sent_ms = now_ms
        self._counts["timeouts"] += 1
        wire = codec.encode(timeout)
        slot = slot_key(state.committee.epoch, timeout.round)
        return [
            Persist((Entry("timeout", slot, wire), safety.entry())),
            Broadcast(Kind.TIMEOUT, wire),
            *self._count_timeout(timeout, now_ms),
        ]

    # Certificates

    def _adopt(self, qc: QuorumCertificate, now_ms: int) -> list[Effect]:
        """Take a checked quorum certificate: enter its next round, commit what it commits."""
        if qc.round <= self._state.safety.high_qc.round:
            return []
        before = self._state.safety.round
        self._state.safety.high_qc = qc
        if self._state.safety.round > before:
            self._given_up = 0
            self._enter(now_ms)
        self._commit_by(qc)
        return []

    def _adopt_timeout(self, tc: TimeoutCertificate | None, now_ms: int) -> list[Effect]:
        """Take a checked timeout certificate; it is durable at once, so that a restart of
        everybody does not lose the round that they had agreed to leave."""
        if tc is None or tc.round <= self._state.safety.tc_round:
            return []
        effects = self._adopt(tc.high_qc, now_ms)
        before = self._state.safety.round
        self._state.safety.high_tc = tc
        if self._state.safety.round > before:
            self._given_up += 1
            self._enter(now_ms)
        return [*effects, Persist((self._state.safety.entry(),))]

    def _enter(self, now_ms: int) -> None:
        round_ = self._state.safety.round
        self._entered_ms = now_ms
        self._timeout_sent_ms = None
        self._held = None
        for old in [r for r in self._first_proposals if r < round_]:
            del self._first_proposals[old]
        self._state.votes.forget_below(round_)
        self._state.timeouts.forget_below(round_)

    def _commit_by(self, qc: QuorumCertificate) -> None:
        """Commit what a certificate commits. The effects are handed out by `handle`, also when
        the message that brought the certificate turns out to be wrong in another respect."""
        node = self._state.tree.committable(qc)
        if node is not None:
            self._commits += self._state.commit(node)

    def _drain_commits(self) -> list[Effect]:
        commits: list[Effect] = list(self._commits)
        self._commits.clear()
        return commits

    # Catching up

    def _on_chain(
        self, blocks: tuple[bytes, ...], high_qc: QuorumCertificate, now_ms: int
    ) -> list[Effect]:
        """Take blocks that were missing.

        From: a peer asked by `FetchChain`, not trusted.
        Checks: each block as a proposal is checked, each on the one before, and certified by
            the next one or by `high_qc`.
        Effects: commits by the two-chain rule; considers proposals that waited for them.
        Errors: `BadChain` and those of a proposal; blocks before the wrong one are kept.
        Source: PROTOCOL 1.
        """
        state = self._state
        effects: list[Effect] = []
        for wire in blocks:
            block = decode_block(wire, state.committee.network)
            if block.height <= state.tree.tip.height or state.tree.get(block.cid) is not None:
                continue
            state.validity.check_alone(block)
            parent = state.tree.get(block.parent)
            if parent is None:
                raise BadChain(f"block {block.height} does not follow any that is known")
            state.insert(block, parent)
            effects += self._take_checkpoint(block)
            effects += self._adopt(block.qc, now_ms)
            self._commit_by(block.qc)
            effects += self._adopt_timeout(block.tc, now_ms)
        check_quorum(high_qc, state.committee, state.genesis.cid, state.votes.knows)
        effects += self._adopt(high_qc, now_ms)
        self._commit_by(state.safety.high_qc)
        return effects + self._retry_orphans(now_ms)

    def _retry_orphans(self, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        for block in sorted(self._orphans.values(), key=lambda block: block.height):
            parent: Node | None = self._state.tree.get(block.parent)
            stale = block.height <= self._state.tree.tip.height
            if parent is None and not stale:
                continue
            del self._orphans[block.cid]
            if stale or parent is None or self._state.tree.get(block.cid) is not None:
                continue
            self._state.insert(block, parent)
            effects += self._take_checkpoint(block)
            self._commit_by(self._state.safety.high_qc)
            effects += self._consider(block, now_ms)
        return effects

    def tail(self, above: int) -> tuple[list[bytes], QuorumCertificate]:
        """Certified blocks above height `above`, ascending, and the highest certificate.

        What storage does not hold yet but a peer that catches up needs to commit: blocks that
        are final but not executed, and those above the committed tip.
        """
        high = self._state.safety.high_qc
        recent = [block.wire for block in self._state.recent if block.height > above]
        node = self._state.tree.get(high.block)
        if node is None:
            return recent, high
        path = [step.block for step in self._state.tree.branch(node) if step.block is not None]
        return recent + [block.wire for block in reversed(path) if block.height > above], high

    @property
    def newest_checkpoint(self) -> CheckpointCertificate | None:
        """The newest state root that two thirds of the power signed."""
        return self._state.checkpoints.newest

    def statistics(self) -> ReplicaStatistics:
        state = self._state
        newest = state.checkpoints.newest
        sequencer = state.sequencer.statistics()
        return ReplicaStatistics(
            round=state.safety.round,
            height=state.tree.tip.height,
            high_qc_round=state.safety.high_qc.round,
            last_voted_round=state.safety.last_voted_round,
            tree_blocks=len(state.tree),
            pending_envelopes=sequencer.pending,
            sequenced=sequencer.sequenced,
            waiting_for_report=0 if state.reporter is None else state.reporter.waiting,
            links_ahead=tuple(state.links.sizes()),
            votes=self._counts["votes"],
            proposals=self._counts["proposals"],
            timeouts=self._counts["timeouts"],
            checkpoint_height=0 if newest is None else newest.height,
            evidence=len(self.evidence),
            refused=dict(self._refused),
        )
