"""All that a replica knows, and how it is brought back after a restart."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from consensus._collectors import TimeoutCollector, VoteCollector
from consensus._epochs import Beginning, Epochs
from consensus._links import LinkPool
from consensus._reporter import REPORT_KIND, Reporter
from consensus._safety import SAFETY_BYTES_MAX, SAFETY_KEY, SAFETY_KIND, Safety, SafetyState
from consensus._tree import BlockTree, Node
from consensus._validity import Validity
from consensus.block import Block, decode_block
from consensus.certificate import QuorumCertificate, TimeoutCertificate, genesis_certificate
from consensus.checkpoint import CheckpointCollector
from consensus.committee import Committee, Signer
from consensus.effects import Commit
from consensus.epoch_start import Accused, EpochStart, Turns
from consensus.faults import BadBlock, BadReport, JournalContradiction
from consensus.frontier import Frontier, extend, first_frontier
from consensus.handover import decode_handover
from consensus.leaders import Standing, carried_over
from consensus.report import ReportLink, decode_link, link_hash
from consensus.sequencer import Sequencer
from consensus.states import VOICES, EpochBegan, Voice
from primitives import codec

RECENT_BLOCKS_MAX = 1_024  # committed blocks kept for peers until storage has surely got them
BLOCK_KIND = "block"
PROPOSAL_KIND = "proposal"
HANDOVER_KIND = "handover"
Journal = Mapping[str, Mapping[bytes, bytes]]


@dataclass(frozen=True)
class Genesis:
    """What the agreement starts from: `cid` names the genesis document.

    An epoch ends with the first block whose time is `epoch_ms` after the epoch's beginning;
    0: the first one lasts for ever.
    """

    cid: bytes
    time_ms: int
    committee: Committee
    epoch_ms: int = 0


@dataclass(frozen=True)
class Identity:
    """The key with which a validator signs, and its index. An observer has none."""

    key: Signer
    index: int


class ReplicaState:
    """The parts, and the operations that concern more than one of them.

    `voice` says whether anything may be signed (see `consensus.states`).
    """

    def __init__(
        self, genesis: Genesis, identity: Identity | None, at_hand: Callable[[bytes], bool]
    ) -> None:
        committee = genesis.committee
        self.genesis = genesis
        self.epochs = Epochs(committee)
        self.voice = Voice.SPEAKING
        self._identity = identity
        self._ahead: SafetyState | None = None
        self._at_hand = at_hand
        self.sequencer = Sequencer(committee)
        self.checkpoints = CheckpointCollector(self.epochs.committee)
        self.reporter: Reporter | None = None
        if identity is not None:
            self.reporter = Reporter(
                identity.key, committee.network, committee.epoch, identity.index
            )
        self.proposals: dict[tuple[int, int], bytes] = {}
        self._reports: list[bytes] = []
        self.recent: deque[Block] = deque(maxlen=RECENT_BLOCKS_MAX)
        standing = committee.leaders.first()
        beginning = Beginning(genesis.cid, genesis.time_ms, None)
        self._begin(beginning, 0, 0, frozenset(), standing)

    @property
    def committee(self) -> Committee:
        """The validators of the current epoch."""
        return self.epochs.current

    @property
    def identity(self) -> Identity | None:
        """With what to sign now; None for an observer, and while silent."""
        return None if self.silent else self._identity

    @property
    def own_index(self) -> int | None:
        """This validator's index, also while it is silent."""
        return None if self._identity is None else self._identity.index

    @property
    def silent(self) -> bool:
        """Whether nothing may be signed for now."""
        return self.voice is not Voice.SPEAKING

    @property
    def is_behind(self) -> bool:
        """Whether the journal knows of a later epoch than the blocks at hand."""
        return self._ahead is not None

    def hear(self, began: EpochBegan) -> None:
        """An epoch has begun that may end the silence."""
        self.voice = VOICES[self.voice].get(began, self.voice)

    # Epochs

    def _begin(
        self,
        beginning: Beginning,
        height: int,
        checkpoint_height: int,
        accused: frozenset[tuple[int, int]],
        standing: Standing,
    ) -> None:
        """Start the current epoch with nothing but its first block."""
        committee = self.committee
        self.beginning = beginning
        self.after_end: tuple[tuple[Block, ...], QuorumCertificate] | None = None
        self.start = genesis_certificate(committee.epoch, beginning.cid)
        self.safety = Safety(SafetyState(committee.epoch, 0, 0, None, None, self.start, None))
        frontier = first_frontier(committee, beginning.time_ms)
        root = Node(
            cid=beginning.cid,
            round=0,
            height=height,
            time_ms=beginning.time_ms,
            parent=b"",
            frontier=frontier,
            checkpoint_height=checkpoint_height,
            accused=accused,
            standing=standing,
            settled=standing,
            ends=False,
            ended=False,
            end=None,
            block=None,
        )
        self._root = root
        self.tree = BlockTree(root)
        self.links = LinkPool(committee, frontier)
        self.votes = VoteCollector(committee)
        self.timeouts = TimeoutCollector(committee)
        self.validity = Validity(self.epochs, beginning, self.votes.knows, self.links)

    def certified_tip(self) -> tuple[QuorumCertificate, Node]:
        """The highest certificate whose block is here, and the block.

        That of the highest round may be known without its block.
        """
        high = self.safety.high_qc
        node = self.tree.get(high.block)
        if node is not None:
            return high, node
        certificates = [step.block.qc for step in self.tree if step.block is not None]
        known = [qc for qc in certificates if self.tree.get(qc.block) is not None]
        best = max(known, key=lambda qc: qc.round, default=self.start)
        return best, self.tree.get(best.block) or self.tree.tip

    def hand_over(self, handover: bytes, end: Node) -> list[Commit]:
        """End the epoch with the block `end`, by a proof that was checked; begin the next."""
        proof = decode_handover(handover)
        last = self.tree.get(decode_block(proof.block, self.committee.network).cid)
        path = [] if last is None else [step.block for step in self.tree.branch(last)]
        following = [block for block in reversed(path) if block is not None]
        following = [block for block in following if block.height > end.height]
        commits = [] if end.height <= self.tree.tip.height else self.commit(end)
        over = self.committee.epoch
        committee = self.epochs.begin(end.height)
        beginning = Beginning(end.cid, end.time_ms, handover)
        accused = frozenset(item for item in end.accused if item[0] == over)
        standing = carried_over(end.standing, end.round)
        self._begin(beginning, end.height, end.checkpoint_height, accused, standing)
        self.after_end = (tuple(following), proof.qc) if following else None
        self.sequencer.start_epoch(committee)
        if self.reporter is not None:
            self.reporter.start_epoch(committee.epoch, self._at_hand)
        if self._ahead is not None and self._ahead.epoch == committee.epoch:
            self.safety, self._ahead = Safety(self._ahead), None
            self.hear(EpochBegan.OF_JOURNAL)
        self._resume_report()
        return commits

    def epoch_start(self) -> EpochStart | None:
        """The current epoch's start, None for the first epoch, which has the genesis."""
        beginning, root = self.beginning, self._root
        if beginning.handover is None:
            return None
        return EpochStart(
            epoch=self.committee.epoch,
            block=beginning.cid,
            height=root.height,
            time_ms=beginning.time_ms,
            before=self.epochs.before,
            handover=beginning.handover,
            checkpoint_height=root.checkpoint_height,
            accused=[Accused(*item) for item in sorted(root.accused)],
            standing=[Turns(item.count, item.until) for item in root.standing],
        )

    def begin_at(self, start: EpochStart, sequenced: Iterable[tuple[int, bytes]]) -> None:
        """Begin with an epoch's start instead of the genesis."""
        self.epochs.resume(start.epoch, start.height, start.before)
        beginning = Beginning(start.block, start.time_ms, start.handover)
        accused = frozenset((item.epoch, item.signer) for item in start.accused)
        standing = start.leaders_standing()
        self._begin(beginning, start.height, start.checkpoint_height, accused, standing)
        self.sequencer.start_epoch(self.committee)
        self.sequencer.remember(sequenced)
        if self.reporter is not None:
            self.reporter.start_epoch(self.committee.epoch, self._at_hand)

    # Blocks

    def insert(self, block: Block, parent: Node) -> Node:
        """Add a block that passed `check_alone`.

        Errors: `BadBlock`, `NotTheLeader`, `BadReport`.
        """
        node = self._node(block, parent, self.validity.check_on(block, parent))
        if not self.tree.insert(node):
            raise BadBlock("there is no room for more uncommitted blocks")
        return node

    def raise_certificates(self, qc: QuorumCertificate, tc: TimeoutCertificate | None) -> None:
        """Remember checked certificates if they are higher than those known."""
        if qc.round > self.safety.high_qc.round:
            self.safety.high_qc = qc
        if tc is not None and tc.round > self.safety.tc_round:
            self.safety.high_tc = tc

    def leader(self, round_: int, parent: Node) -> int:
        """Who leads a round on top of `parent`."""
        return self.committee.leader(round_, parent.settled)

    def links_ahead(self, block: Block) -> list[ReportLink]:
        """The report links between the committed tip and `block`, its own included."""
        node = self.tree.get(block.cid)
        branch = () if node is None else self.tree.branch(node)
        return [link for other in branch if other.block is not None for link in other.block.links]

    def missing(self, ahead: list[ReportLink]) -> list[bytes]:
        """Envelopes in `ahead` that must be, and are not, at hand before a vote."""
        return [item for item in self.sequencer.non_blank(ahead) if not self._at_hand(item)]

    def commit(self, node: Node) -> list[Commit]:
        """Make `node` and its ancestors final, oldest first.

        Errors: `JournalContradiction` when it does not descend from the committed tip: then a
        third of the power signed two branches, and going on would make it worse.
        """
        path = list(self.tree.branch(node))
        if not path:
            raise JournalContradiction(
                f"block {node.height} is certified beside the committed one; more than a third "
                "of the power contradicted itself: stop all validators and compare their data"
            )
        commits = []
        for step in reversed(path):
            if step.block is not None:
                batch = self.sequencer.commit(step.block)
                commits.append(Commit(step.block, batch))
                self.recent.append(step.block)
                if self.reporter is not None:
                    self.reporter.sequenced(batch)
        self.tree.commit(node)
        self.links.committed(node.frontier)
        return commits

    # Starting

    def replay(self, wire: bytes) -> Commit:
        """Take a committed block from storage, in order of height.

        It was verified before it was stored, so signatures are not checked again.
        Errors: `JournalContradiction` when it does not follow the one before.
        """
        block = decode_block(wire, self.committee.network)
        tip = self.tree.tip
        if block.parent != tip.cid or block.height != tip.height + 1:
            raise JournalContradiction(
                f"stored block {block.height} does not follow block {tip.height}; "
                "remove index.db, but never journal.db or the keystore, and let it catch up"
            )
        if block.handover is not None and block.epoch == self.committee.epoch + 1:
            self.hand_over(block.handover, tip)
            tip = self.tree.tip
        node = self._trusted_node(block, tip)
        self.tree.insert(node)
        self.raise_certificates(block.qc, block.tc)
        if block.checkpoint is not None:
            self.checkpoints.adopt(block.checkpoint)
        (commit,) = self.commit(node)
        return commit

    def restore(self, journal: Journal) -> list[Commit]:
        """Take the journal's entries, after all of storage was replayed; what became final.

        Errors: decoding faults and `ConsensusFault` when they are not this validator's.
        """
        self._reports = [wire for _, wire in sorted(journal.get(REPORT_KIND, {}).items())]
        for _, wire in sorted(journal.get(PROPOSAL_KIND, {}).items()):
            block = decode_block(wire, self.committee.network)
            self.proposals[block.epoch, block.round] = wire
        raw = journal.get(SAFETY_KIND, {}).get(SAFETY_KEY)
        if raw is not None:
            self._restore_safety(codec.decode(SafetyState, raw, bytes_max=SAFETY_BYTES_MAX))
        commits = []
        wires = [wire for _, wire in sorted(journal.get(BLOCK_KIND, {}).items())]
        handovers = [wire for _, wire in sorted(journal.get(HANDOVER_KIND, {}).items())]
        epoch = 0
        while epoch != self.committee.epoch:
            epoch = self.committee.epoch
            self._restore_blocks(wires)
            commits += self._restore_handover(handovers)
        self._resume_report()
        return commits

    def _restore_safety(self, state: SafetyState) -> None:
        """What was signed in the current epoch counts at once, in a later one when it comes."""
        if state.epoch > self.committee.epoch:
            self._ahead = state
            if self.voice is Voice.SPEAKING:
                self.voice = Voice.BEHIND
        elif state.epoch == self.committee.epoch:
            replayed = self.safety
            self.safety = Safety(state)
            self.raise_certificates(replayed.high_qc, replayed.high_tc)

    def _restore_blocks(self, wires: list[bytes]) -> None:
        for wire in wires:
            block = decode_block(wire, self.committee.network)
            parent = self.tree.get(block.parent)
            if block.epoch != self.committee.epoch or parent is None:
                continue
            if self.tree.get(block.cid) is None:
                self.tree.insert(self._trusted_node(block, parent))
                self.raise_certificates(block.qc, block.tc)

    def _restore_handover(self, wires: list[bytes]) -> list[Commit]:
        """Begin the next epoch if the journal holds the proof, and the end block is at hand."""
        for wire in wires:
            handover = decode_handover(wire)
            if handover.epoch == self.committee.epoch:
                end = self.tree.get(handover.end)
                return [] if end is None else self.hand_over(wire, end)
        return []

    def _resume_report(self) -> None:
        """Go on with the own report after the newest link that may have left."""
        if self.reporter is None or self.own_index is None:
            return
        network, epoch = self.committee.network, self.committee.epoch
        tip = self.tree.tip.frontier[self.own_index]
        self.reporter.resume(tip.sequence, tip.hash)
        for wire in self._reports:
            link = decode_link(wire)
            if link.epoch != epoch:
                continue
            self.reporter.resume(link.sequence, link_hash(network, wire))
            try:
                self.links.add(wire, link)
            except BadReport:
                continue  # far ahead of an index that was lost: peers have it in their blocks

    def _trusted_node(self, block: Block, parent: Node) -> Node:
        return self._node(block, parent, extend(parent.frontier, block, self.committee.network))

    def _node(self, block: Block, parent: Node, frontier: Frontier) -> Node:
        carried = parent.checkpoint_height
        if block.checkpoint is not None:
            carried = block.checkpoint.height
        accused = parent.accused
        if block.evidence:
            accused |= {(item.epoch, item.signer) for item in block.evidence}
        over_ms = self.beginning.time_ms + self.genesis.epoch_ms
        ends = self.genesis.epoch_ms > 0 and block.time_ms >= over_ms and not parent.ended
        consecutive = block.round == parent.round + 1
        return Node(
            cid=block.cid,
            round=block.round,
            height=block.height,
            time_ms=block.time_ms,
            parent=block.parent,
            frontier=frontier,
            checkpoint_height=carried,
            accused=accused,
            standing=self.committee.standing_after(
                parent.standing, parent.settled, parent.round, block.round, block.author
            ),
            settled=parent.standing if consecutive else parent.settled,
            ends=ends,
            ended=ends or parent.ended,
            end=block.cid if ends else parent.end,
            block=block,
        )
