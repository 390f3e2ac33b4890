"""What a replica does of its own accord: reporting, proposing, leaving rounds, checkpoints."""

from consensus._base import ReplicaBase
from consensus._safety import slot_key
from consensus._state import PROPOSAL_KIND, Identity
from consensus._tree import Node
from consensus.block import BLOCK_EVIDENCE_ITEMS_MAX, Block, decode_block, make_block
from consensus.checkpoint import (
    CHECKPOINT_BYTES_MAX,
    CheckpointCertificate,
    CheckpointVote,
    sign_checkpoint,
)
from consensus.effects import (
    Broadcast,
    CheckpointReached,
    Effect,
    Entry,
    FetchChain,
    Kind,
    Send,
)
from consensus.evidence import Evidence
from consensus.frontier import block_time
from consensus.report import decode_link
from primitives import codec
from primitives.codec import Record, Unsigned

LINKS_RESENT_ITEMS_MAX = 128  # own links in one answer to a validator that lacks some
LINKS_WANTED_PAUSE_MS = 100  # an author is not asked again for missing links before this
OWN_CHECKPOINTS_ITEMS_MAX = 64  # own signatures repeated to a validator that comes back
BLOCK_PAUSE_MS = 60  # a certified block that is missing is asked for after this, and again
NEVER_MS = 2**62  # an observer has nothing of its own to do
LINKS_WANTED_BYTES_MAX = 64
CHECKPOINT_KIND = "checkpoint"


class LinksWanted(Record):
    """Ask a validator for its own report links from `sequence` on."""

    sequence: Unsigned


class ReplicaDuties(ReplicaBase):
    """The part of the replica that acts by the clock and on what its own node tells it."""

    # The clock

    def wake_ms(self) -> int:
        """When `handle(Tick(), now)` has something to do at the latest (local milliseconds)."""
        state = self._state
        if state.identity is None:
            return NEVER_MS
        times = [self._link_due_ms(), self._timeout_due_ms()]
        if self._lacks_certified():
            times.append(self._asked_ms + BLOCK_PAUSE_MS)
        if self._leads_unproposed():
            times.append(self._proposal_due_ms())
        return min(times)

    def _on_time(self, now_ms: int) -> list[Effect]:
        """Everything that is due at `now_ms`: a link, a proposal, leaving the round."""
        if self._state.identity is None:
            return []
        effects: list[Effect] = []
        if now_ms >= self._link_due_ms():
            effects += self._make_link(now_ms)
        if self._leads_unproposed() and now_ms >= self._proposal_due_ms():
            effects += self._propose(now_ms)
        if now_ms >= self._timeout_due_ms():
            effects += self._leave_round(now_ms)
        if self._lacks_certified() and now_ms >= self._asked_ms + BLOCK_PAUSE_MS:
            effects += self._ask_certified(now_ms)
        return effects

    def _lacks_certified(self) -> bool:
        """Whether the block of the highest certificate is not here."""
        state = self._state
        return state.safety.high_qc.round > 0 and state.tree.get(state.safety.high_qc.block) is None

    def _ask_certified(self, now_ms: int) -> list[Effect]:
        """Ask one after the other of those who voted for the missing block."""
        self._asked_ms = now_ms
        self._asked += 1
        voters = [item.voter for item in self._state.safety.high_qc.signatures]
        others = [voter for voter in voters if voter != self._state.own_index]
        if not others:
            return []
        return [FetchChain(others[self._asked % len(others)], self._state.tree.tip.height)]

    def _link_due_ms(self) -> int:
        reporter = self._state.reporter
        if reporter is not None and reporter.has_content:
            return self._last_link_ms + self._timing.report_interval_ms
        return self._last_link_ms + self._timing.report_idle_ms

    def _timeout_due_ms(self) -> int:
        if self._timeout_sent_ms is not None:
            return self._timeout_sent_ms + self._timing.resend_ms
        return self._entered_ms + self._timing.patience(self._given_up)

    def _leave_round(self, now_ms: int) -> list[Effect]:
        """Give the round up, or repeat having given it up: the message may have been lost."""
        last = self._state.safety.last_timeout
        if self._timeout_sent_ms is not None and last is not None:
            self._timeout_sent_ms = now_ms
            return [Broadcast(Kind.TIMEOUT, codec.encode(last))]
        effects = self._give_up(now_ms)
        if self._timeout_sent_ms is None:
            self._entered_ms = now_ms  # not allowed to: look again after the same patience
        return effects

    # Proposing

    def _leads_unproposed(self) -> bool:
        state, identity = self._state, self._state.identity
        round_ = state.safety.round
        if identity is None or self._proposed_round >= round_:
            return False
        parent = state.tree.get(state.safety.high_qc.block)
        if parent is None:
            return False
        if self._leading_at != (round_, parent.cid):
            self._leading_at = round_, parent.cid
            self._leads = state.leader(round_, parent) == identity.index
        return self._leads

    def _proposal_due_ms(self) -> int:
        """At once when there is something to order or to finish, else after an idle interval."""
        soonest = self._last_block_ms + self._timing.block_interval_ms
        parent = self._state.tree.get(self._state.safety.high_qc.block)
        if parent is None:
            return soonest + self._timing.idle_interval_ms
        unfinished = any(step.has_content for step in self._state.tree.branch(parent))
        unfinished = unfinished or self._state.sequencer.has_backlog
        if unfinished or parent.ended or self._state.links.has_content(parent.frontier):
            return soonest
        return max(soonest, self._entered_ms + self._timing.idle_interval_ms)

    def _propose(self, now_ms: int) -> list[Effect]:
        """Make the block of this round, or repeat the one made before a restart."""
        state, identity = self._state, self._state.identity
        safety = state.safety
        parent = state.tree.get(safety.high_qc.block)
        if parent is None or identity is None:
            return []
        self._proposed_round = safety.round
        made_before = state.proposals.get((state.committee.epoch, safety.round))
        if made_before is not None:
            block = decode_block(made_before, state.committee.network)
            return [Broadcast(Kind.PROPOSAL, block.wire), *self._take_own(block, now_ms)]
        block = self._build(identity, parent)
        self._counts["proposals"] += 1
        slot = slot_key(state.committee.epoch, block.round)
        entries = (Entry(PROPOSAL_KIND, slot, block.wire),)
        self._say(entries, Broadcast(Kind.PROPOSAL, block.wire))
        return self._take_own(block, now_ms)

    def _build(self, identity: Identity, parent: Node) -> Block:
        """The block that follows from the links at hand; the leader chooses nothing else."""
        state = self._state
        safety = state.safety
        wires: list[bytes] = []
        frontier, checkpoint = parent.frontier, None
        evidence: list[Evidence] = []
        if not parent.ended:
            wires, frontier = state.links.beyond(parent.frontier)
            checkpoint = self._checkpoint_for(parent)
            evidence = self._evidence_for(parent)
        return make_block(
            identity.key,
            state.committee.network,
            round_=safety.round,
            height=parent.height + 1,
            author=identity.index,
            time_ms=block_time(frontier, parent.time_ms, state.committee),
            qc=safety.high_qc,
            tc=safety.high_tc if safety.round != safety.high_qc.round + 1 else None,
            link_wires=wires,
            checkpoint=checkpoint,
            evidence=evidence,
            end=parent.end,
            handover=state.beginning.handover if safety.high_qc.round == 0 else None,
        )

    def _checkpoint_for(self, parent: Node) -> CheckpointCertificate | None:
        """The newest checkpoint, if a block on `parent` may carry it and none below it does."""
        state = self._state
        newest = state.checkpoints.newest
        if newest is None or not parent.checkpoint_height < newest.height <= parent.height:
            return None
        return newest if newest.epoch >= state.committee.epoch - 1 else None

    def _evidence_for(self, parent: Node) -> list[Evidence]:
        """Proofs against those whom no ancestor of the block accuses yet."""
        oldest = self._state.committee.epoch - 1
        return [
            evidence
            for accused, evidence in self._evidence.items()
            if accused[0] >= oldest and accused not in parent.accused
        ][:BLOCK_EVIDENCE_ITEMS_MAX]

    def _take_own(self, block: Block, now_ms: int) -> list[Effect]:
        """Treat the own proposal as everybody else will."""
        self._last_block_ms = now_ms
        parent = self._state.tree.get(block.parent)
        if parent is None:
            return []
        if self._state.tree.get(block.cid) is None:
            self._state.insert(block, parent)
            self._keep(block)
        self._first_proposals.setdefault((block.round, block.author), block)
        self._meter.proposed(block.round, now_ms)
        return self._consider(block, now_ms)

    # Reports

    def _make_link(self, now_ms: int) -> list[Effect]:
        """Sign the next link of the own report, unless too many wait to be committed."""
        state = self._state
        self._last_link_ms = now_ms
        if state.reporter is None or state.identity is None:
            return []
        index, following = state.identity.index, state.reporter.sequence + 1
        if not (state.links.has_room(index) and state.links.reaches(index, following)):
            return []
        entry, wire = state.reporter.make(now_ms)
        self._say((entry,), Broadcast(Kind.LINK, wire))
        return self._count_own(lambda: self._keep_own(wire))

    def _keep_own(self, wire: bytes) -> list[Effect]:
        self._state.links.add(wire, decode_link(wire))
        return []

    def _on_link(self, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        """Keep a report link for the blocks to come.

        From: its author, or a validator that passes it on.
        Checks: epoch, signature, distance.
        Effects: asks the author for links that are missing below it.
        Errors: `BadVoteSignature`, `BadReport`, `Equivocation` (with evidence).
        Source: PROTOCOL 3.
        """
        link = decode_link(payload)
        if link.epoch != self._state.committee.epoch:
            return self._meet_epoch(link.epoch, sender, now_ms)
        if not self._state.links.add(payload, link) or link.author != sender:
            return []
        gap = self._state.links.gap(sender)
        asked_ms = self._links_wanted_ms.get(sender, 0)
        if gap is None or now_ms < asked_ms + LINKS_WANTED_PAUSE_MS:
            return []
        self._links_wanted_ms[sender] = now_ms
        return [Send(sender, Kind.LINKS_WANTED, codec.encode(LinksWanted(gap)))]

    def _on_links_wanted(self, payload: bytes, sender: int, _now_ms: int) -> list[Effect]:
        """Repeat own links that a validator lacks.

        From: any validator.
        Checks: shape.
        Effects: sends up to `LINKS_RESENT_ITEMS_MAX` of them.
        Errors: `Malformed`.
        Source: PROTOCOL 3.
        """
        wanted = codec.decode(LinksWanted, payload, bytes_max=LINKS_WANTED_BYTES_MAX)
        return self._resend(sender, wanted.sequence)

    def _on_link_up(self, validator: int) -> list[Effect]:
        """Repeat what a reconnected validator may have missed: own links, the last timeout."""
        state = self._state
        if state.identity is None:
            return []
        effects = self._resend(
            validator, state.tree.tip.frontier[state.identity.index].sequence + 1
        )
        effects += [
            Send(validator, Kind.CHECKPOINT, wire) for wire in self._own_checkpoints.values()
        ]
        last = state.safety.last_timeout
        if last is not None and last.round == state.safety.round:
            effects.append(Send(validator, Kind.TIMEOUT, codec.encode(last)))
        if self._lacks_certified():
            effects.append(FetchChain(validator, state.tree.tip.height))
        return effects

    def _resend(self, validator: int, start: int) -> list[Effect]:
        state = self._state
        if state.identity is None:
            return []
        wires = state.links.of(state.identity.index, start, LINKS_RESENT_ITEMS_MAX)
        return [Send(validator, Kind.LINK, wire) for wire in wires]

    def _on_observation(self, observation: bytes) -> list[Effect]:
        if self._state.reporter is not None:
            self._state.reporter.observe(observation)
        return []

    def _on_envelopes(self, ids: tuple[bytes, ...], now_ms: int) -> list[Effect]:
        """Report what was not sequenced before; a vote may have waited for one of them."""
        state = self._state
        if state.reporter is not None:
            state.reporter.see(tuple(i for i in ids if not state.sequencer.is_sequenced(i)))
        if self._held is None:
            return []
        self._held_missing.difference_update(ids)
        return [] if self._held_missing else self._consider(self._held, now_ms)

    # Checkpoints

    def _on_executed(self, height: int, root: bytes, checkpoint: bool) -> list[Effect]:
        """Sign the root of an executed height. Errors: `RootMismatch`."""
        state, identity = self._state, self._state.identity
        state.checkpoints.executed(height, root)
        if identity is None or not checkpoint:
            return []
        network, epoch = state.committee.network, state.epochs.of_height(height)
        if epoch is None:
            return []
        vote = sign_checkpoint(identity.key, network, epoch, height, root, identity.index)
        wire = codec.encode(vote)
        self._own_checkpoints[height] = wire
        while len(self._own_checkpoints) > OWN_CHECKPOINTS_ITEMS_MAX:
            del self._own_checkpoints[min(self._own_checkpoints)]
        entries = (Entry(CHECKPOINT_KIND, slot_key(epoch, height), root),)
        self._say(entries, Broadcast(Kind.CHECKPOINT, wire))
        return self._count_own(lambda: self._count_checkpoint(vote))

    def _on_checkpoint(self, payload: bytes, sender: int, now_ms: int) -> list[Effect]:
        """Count a validator's signature on a state root.

        From: any validator of the epoch, once per height.
        Checks: epoch, signature.
        Effects: at a quorum, the certificate, which a later block carries.
        Errors: `WrongEpoch`, `BadVoteSignature`, `Equivocation`; `RootMismatch` is ours.
        Source: PROTOCOL 5.
        """
        vote = codec.decode(CheckpointVote, payload, bytes_max=CHECKPOINT_BYTES_MAX)
        if vote.epoch > self._state.committee.epoch:
            return self._meet_epoch(vote.epoch, sender, now_ms)
        return self._count_checkpoint(vote)

    def _count_checkpoint(self, vote: CheckpointVote) -> list[Effect]:
        certificate = self._state.checkpoints.add(vote, self._state.tree.tip.height)
        if certificate is not None:
            self._pending.append(CheckpointReached(certificate))
        return []

    def _take_checkpoint(self, block: Block) -> list[Effect]:
        """Learn of a certificate that a valid block carries. Errors: `RootMismatch`."""
        certificate = block.checkpoint
        if certificate is None or self._state.checkpoints.is_certified(certificate.height):
            return []
        self._state.checkpoints.adopt(certificate)
        self._pending.append(CheckpointReached(certificate))
        return []
