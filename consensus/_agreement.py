"""Proposals, votes, timeouts and certificates (Jolteon; PROTOCOL 1)."""

from abc import abstractmethod

from consensus._collectors import check_distance
from consensus._duties import ReplicaDuties
from consensus._safety import slot_key
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
from consensus.effects import (
    Broadcast,
    Effect,
    Entry,
    FetchChain,
    FetchEnvelopes,
    Kind,
    Persist,
    Send,
)
from consensus.evidence import Slot, contradiction
from consensus.faults import BadBlock
from primitives import codec

ORPHANS_PER_AUTHOR_ITEMS_MAX = 8  # proposals whose parents are being fetched; more: oldest dropped
TIMEOUT_BYTES_MAX = 3 * CERTIFICATE_BYTES_MAX
VOTE_BYTES_MAX = 512


class Agreement(ReplicaDuties):
    """What the replica does with what others propose, vote and give up."""

    @abstractmethod
    def _end_epoch(self, child: Node, qc: QuorumCertificate, now_ms: int) -> None:
        """The certificate `qc` of `child` makes the end block of the epoch final."""

    @abstractmethod
    def _take_handover(self, wire: bytes, end: Node, now_ms: int) -> None:
        """Check a proof that the epoch is over with `end`, and begin the next one."""

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
        if block.epoch != self._state.committee.epoch:
            return self._on_other_epoch(block, sender, now_ms)
        if self._state.tree.get(block.cid) is not None:
            return self._vote_again(block, now_ms)
        if block.cid in self._orphans:
            return []
        self._check(block)
        effects = self._adopt(block.qc, now_ms) + self._adopt_timeout(block.tc, now_ms)
        if block.epoch != self._state.committee.epoch:
            return effects
        certified = block.cid == self._state.safety.high_qc.block
        if block.round < self._state.safety.round and not certified:
            return effects  # nobody votes for it any more
        if not certified:
            self._check_first(block)
        parent = self._state.tree.get(block.parent)
        if parent is None:
            self._keep_orphan(block)
            return [*effects, FetchChain(sender, self._state.tree.tip.height)]
        self._insert(block, parent)
        self._last_block_ms = now_ms
        self._meter.proposed(block.round, now_ms)
        effects += self._take_checkpoint(block)
        self._commit_by(self._state.safety.high_qc, now_ms)
        return effects + self._consider(block, now_ms)

    def _on_other_epoch(self, block: Block, sender: int, now_ms: int) -> list[Effect]:
        """A block of the next epoch may bring the proof that this one is over."""
        effects = self._meet_epoch(block.epoch, sender, now_ms)
        if block.epoch != self._state.committee.epoch + 1 or block.handover is None:
            return effects
        end = self._state.tree.get(block.parent)
        if end is None or not end.ends:
            return effects
        self._take_handover(block.handover, end, now_ms)
        return effects + self._on_proposal(block.wire, sender, now_ms)

    def _check_first(self, block: Block) -> None:
        """A validator signs one proposal a round. Of a second one only the certified is ever
        needed, and that comes with the chain. Errors: `Equivocation` (with evidence)."""
        first = self._first_proposals.setdefault((block.round, block.author), block)
        if first.content == block.content and first.cid != block.cid:
            raise BadBlock(f"validator {block.author} signed its proposal in two ways")
        if first.content != block.content:
            raise contradiction(
                Slot.PROPOSAL, block.epoch, block.round, block.author, first.said(), block.said()
            )

    def _insert(self, block: Block, parent: Node) -> None:
        """Take a block that passed `check_alone` into the tree.

        Errors: those of `ReplicaState.insert`; `DoppelgangerSeen`.
        """
        self._state.insert(block, parent)
        self._keep(block)
        if self._watch is not None:
            self._watch.look(block, parent.time_ms)

    def _keep_orphan(self, block: Block) -> None:
        own = [cid for cid, other in self._orphans.items() if other.author == block.author]
        for cid in own[: len(own) - ORPHANS_PER_AUTHOR_ITEMS_MAX + 1]:
            del self._orphans[cid]
        self._orphans[block.cid] = block

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
        self._say(self._vote_entries(vote), Broadcast(Kind.VOTE, codec.encode(vote)))
        return self._count_own(lambda: self._count_vote(vote, now_ms))

    def _vote_again(self, block: Block, now_ms: int) -> list[Effect]:
        """A proposal came a second time: the vote may have been lost, so it is repeated. If there
        was none, the block came back by a restart in which it waited for envelopes."""
        vote = self._state.safety.last_vote
        if vote is None or vote.block != block.cid:
            return self._consider(block, now_ms)
        if vote.round != self._state.safety.round:
            return []
        self._say(self._vote_entries(vote), Broadcast(Kind.VOTE, codec.encode(vote)))
        return []

    def _vote_entries(self, vote: Vote) -> tuple[Entry, ...]:
        """What is durable before a vote leaves; the block became so when it was taken."""
        slot = slot_key(vote.epoch, vote.round)
        return (Entry("vote", slot, vote.block), self._state.safety.entry())

    def _on_vote(self, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        """Count a validator's vote.

        From: any validator of the epoch, once per round.
        Checks: epoch, distance of the round, signature.
        Effects: at a quorum, forms the certificate, commits by it, enters the next round.
        Errors: `RoundTooFar`, `BadVoteSignature`, `Equivocation` (with evidence).
        Source: Jolteon, figure 2; PROTOCOL 1.
        """
        vote = codec.decode(Vote, payload, bytes_max=VOTE_BYTES_MAX)
        safety = self._state.safety
        if vote.epoch != self._state.committee.epoch:
            return self._meet_epoch(vote.epoch, sender, now_ms)
        check_distance(vote.round, safety.round)
        if vote.voter == sender:
            self._meter.heard(sender, vote.round)
        first = self._state.votes.of(vote.round, vote.voter)
        is_late = vote.round <= safety.high_qc.round
        if first == vote or (is_late and (first is None or first.block == vote.block)):
            return []
        self._state.committee.check(vote.voter, VOTE_DOMAIN, vote.body(), vote.signature)
        return self._count_vote(vote, now_ms)

    def _count_vote(self, vote: Vote, now_ms: int) -> list[Effect]:
        certificate = self._state.votes.add(vote)
        if certificate is None:
            return []
        return [*self._tell_leader(certificate), *self._adopt(certificate, now_ms)]

    def _tell_leader(self, qc: QuorumCertificate) -> list[Effect]:
        """Votes may have been shown to this validator only: the next leader needs them too."""
        node = self._state.tree.get(qc.block)
        if node is None or self._state.identity is None:
            return []
        leader = self._state.leader(qc.round + 1, node)
        if leader == self._state.own_index:
            return []
        return [Send(leader, Kind.CERTIFICATE, codec.encode(qc))]

    # Timeouts

    def _on_timeout(self, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        """Count a validator's wish to leave a round.

        From: any validator of the epoch, once per round.
        Checks: epoch, distance, signature, the certificates that it carries.
        Effects: adopts higher certificates; joins when an honest validator must be among those
            who gave up; at a quorum forms and broadcasts the timeout certificate.
        Errors: `RoundTooFar`, `BadVoteSignature`, `BadCertificate`, `Equivocation`.
        Source: Jolteon, section 4.2; PROTOCOL 1.
        """
        timeout = codec.decode(Timeout, payload, bytes_max=TIMEOUT_BYTES_MAX)
        state = self._state
        if timeout.epoch != state.committee.epoch:
            return self._meet_epoch(timeout.epoch, sender, now_ms)
        if timeout.round < state.safety.round:
            return self._lead_out(timeout, sender, now_ms)
        if state.timeouts.knows(timeout):
            return []
        check_distance(timeout.round, state.safety.round)
        state.committee.check(timeout.voter, TIMEOUT_DOMAIN, timeout.body(), timeout.signature)
        known = state.votes.knows
        start = state.beginning.cid
        check_quorum(timeout.high_qc, state.committee, start, known)
        self._look(timeout.high_qc)
        effects: list[Effect] = []
        if timeout.high_tc is not None and timeout.high_tc.round > state.safety.tc_round:
            check_timeout_certificate(timeout.high_tc, state.committee, start, known)
            effects += self._adopt_timeout(timeout.high_tc, now_ms)
        effects += self._adopt(timeout.high_qc, now_ms)
        if timeout.epoch != state.committee.epoch:
            return effects
        return effects + self._count_timeout(timeout, now_ms)

    def _lead_out(self, timeout: Timeout, sender: int, now_ms: int) -> list[Effect]:
        """Show who gives up a round that is over the certificate that ended it."""
        high_qc = self._state.safety.high_qc
        if timeout.high_qc.round >= high_qc.round or not self._may_answer(sender, now_ms):
            return []
        return [Send(sender, Kind.CERTIFICATE, codec.encode(high_qc))]

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
        effects = self._adopt_timeout(certificate, now_ms)
        return [*effects, Broadcast(Kind.TIMEOUT_CERTIFICATE, wire)]

    def _on_timeout_certificate(self, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        """Follow the others out of a round.

        From: any validator; it proves itself.
        Checks: epoch, quorum, signatures, its quorum certificate.
        Effects: adopts it and enters the next round.
        Errors: `BadCertificate`, `BadVoteSignature`.
        Source: Jolteon, section 4.2; PROTOCOL 1.
        """
        certificate = codec.decode(TimeoutCertificate, payload, bytes_max=2 * CERTIFICATE_BYTES_MAX)
        state = self._state
        if certificate.epoch != state.committee.epoch:
            return self._meet_epoch(certificate.epoch, sender, now_ms)
        if certificate.round <= state.safety.tc_round:
            return []
        check_timeout_certificate(
            certificate, state.committee, state.beginning.cid, state.votes.knows
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
        entries = (Entry("timeout", slot, wire), safety.entry())
        self._say(entries, Broadcast(Kind.TIMEOUT, wire))
        return self._count_own(lambda: self._count_timeout(timeout, now_ms))

    # Certificates

    def _on_certificate(self, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        """Learn a quorum certificate that votes alone did not bring here.

        From: a validator that completed it, or was told that this one gives up its round.
        Checks: epoch, quorum, signatures.
        Effects: adopts it.
        Errors: `BadCertificate`, `BadVoteSignature`, `UnknownValidator`.
        Source: a leader that shows its vote to one validator only must not stall the next.
        """
        qc = codec.decode(QuorumCertificate, payload, bytes_max=CERTIFICATE_BYTES_MAX)
        state = self._state
        if qc.epoch != state.committee.epoch:
            return self._meet_epoch(qc.epoch, sender, now_ms)
        if qc.round <= state.safety.high_qc.round:
            return []
        check_quorum(qc, state.committee, state.beginning.cid, state.votes.knows)
        self._look(qc)
        return self._adopt(qc, now_ms)

    def _adopt(self, qc: QuorumCertificate, now_ms: int) -> list[Effect]:
        """Take a checked quorum certificate: enter its next round, commit what it commits."""
        if qc.round <= self._state.safety.high_qc.round:
            return []
        before = self._state.safety.round
        self._state.safety.high_qc = qc
        self._meter.certified(qc, now_ms)
        if self._state.safety.round > before:
            self._given_up = 0
            self._enter(now_ms)
        self._commit_by(qc, now_ms)
        return []

    def _adopt_timeout(self, tc: TimeoutCertificate | None, now_ms: int) -> list[Effect]:
        """Take a checked timeout certificate; it is durable at once, so that a restart of
        everybody does not lose the round that they had agreed to leave."""
        if tc is None or tc.epoch != self._state.committee.epoch:
            return []
        if tc.round <= self._state.safety.tc_round:
            return []
        effects = self._adopt(tc.high_qc, now_ms)
        if tc.epoch != self._state.committee.epoch:
            return effects
        before = self._state.safety.round
        self._state.safety.high_tc = tc
        if self._state.safety.round > before:
            self._given_up += 1
            self._meter.timed_out()
            self._enter(now_ms)
        if not self._state.silent:
            self._pending.append(Persist((self._state.safety.entry(),)))
        return effects

    def _enter(self, now_ms: int) -> None:
        round_ = self._state.safety.round
        self._entered_ms = now_ms
        self._timeout_sent_ms = None
        self._held = None
        for old in [slot for slot in self._first_proposals if slot[0] < round_]:
            del self._first_proposals[old]
        self._state.votes.forget_below(round_)
        self._state.timeouts.forget_below(round_)

    def _commit_by(self, qc: QuorumCertificate, now_ms: int) -> None:
        """Commit what a certificate commits. The effects are handed out by `handle`, also when
        the message that brought the certificate turns out to be wrong in another respect."""
        node = self._state.tree.committable(qc)
        if node is None:
            return
        if not node.ended:
            self._pending += self._state.commit(node)
            return
        child = self._state.tree.get(qc.block)
        if child is not None:
            self._end_epoch(child, qc, now_ms)

    def _check(self, block: Block) -> None:
        """Check a block by itself, and note who contradicts himself in it.

        Errors: those of `Validity.check_alone`.
        """
        self._state.validity.check_alone(block)
        self._look(block.qc)
        for fault in self._state.links.contradictions(block):
            self._note_evidence(fault.evidence)

    def _look(self, qc: QuorumCertificate) -> None:
        """A certificate is valid whoever signed twice; who did is noted."""
        for fault in self._state.votes.contradictions(qc):
            self._note_evidence(fault.evidence)
