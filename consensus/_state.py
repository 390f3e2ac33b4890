"""All that a replica knows, and how it is brought back after a restart."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from consensus._collectors import TimeoutCollector, VoteCollector
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
from consensus.faults import BadBlock, BadReport, JournalContradiction, WrongEpoch
from consensus.frontier import Frontier, extend, first_frontier
from consensus.report import ReportLink, decode_link, link_hash
from consensus.sequencer import Sequencer
from primitives import codec

RECENT_BLOCKS_MAX = 1_024  # committed blocks kept for peers until storage has surely got them
BLOCK_KIND = "block"
PROPOSAL_KIND = "proposal"
Journal = Mapping[str, Mapping[bytes, bytes]]


@dataclass(frozen=True)
class Genesis:
    """What the agreement starts from: `cid` names the genesis document."""

    cid: bytes
    time_ms: int
    committee: Committee


@dataclass(frozen=True)
class Identity:
    """The key with which a validator signs, and its index. An observer has none."""

    key: Signer
    index: int


class ReplicaState:
    """The parts, and the operations that concern more than one of them."""

    def __init__(
        self, genesis: Genesis, identity: Identity | None, at_hand: Callable[[bytes], bool]
    ) -> None:
        committee = genesis.committee
        self.genesis = genesis
        self.committee = committee
        self.identity = identity
        self._at_hand = at_hand
        start = genesis_certificate(committee.epoch, genesis.cid)
        self.safety = Safety(SafetyState(committee.epoch, 0, 0, None, None, start, None))
        frontier = first_frontier(committee, genesis.time_ms)
        self.tree = BlockTree(Node(genesis.cid, 0, 0, genesis.time_ms, b"", frontier, 0, None))
        self.links = LinkPool(committee, frontier)
        self.sequencer = Sequencer(committee)
        self.votes = VoteCollector(committee)
        self.timeouts = TimeoutCollector(committee)
        self.checkpoints = CheckpointCollector(committee)
        self.validity = Validity(genesis.cid, committee, self.votes.knows, self.links)
        self.reporter: Reporter | None = None
        if identity is not None:
            self.reporter = Reporter(
                identity.key, committee.network, committee.epoch, identity.index
            )
        self.proposals: dict[int, bytes] = {}
        self.recent: deque[Block] = deque(maxlen=RECENT_BLOCKS_MAX)

    def insert(self, block: Block, parent: Node) -> Node:
        """Add a block that passed `check_alone`. Errors: `BadBlock`, `BadReport`."""
        node = _node(block, parent, self.validity.check_on(block, parent))
        if not self.tree.insert(node):
            raise BadBlock("there is no room for more uncommitted blocks")
        return node

    def raise_certificates(self, qc: QuorumCertificate, tc: TimeoutCertificate | None) -> None:
        """Remember checked certificates if they are higher than those known."""
        if qc.round > self.safety.high_qc.round:
            self.safety.high_qc = qc
        if tc is not None and tc.round > self.safety.tc_round:
            self.safety.high_tc = tc

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
                commits.append(Commit(step.block, self.sequencer.commit(step.block)))
                self.recent.append(step.block)
        self.tree.commit(node)
        self.links.committed(node.frontier)
        return commits

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
        node = self._trusted_node(block, tip)
        self.tree.insert(node)
        self.raise_certificates(block.qc, block.tc)
        if block.checkpoint is not None:
            self.checkpoints.adopt(block.checkpoint)
        (commit,) = self.commit(node)
        return commit

    def restore(self, journal: Journal) -> None:
        """Take the journal's entries, after all of storage was replayed.

        Errors: decoding faults and `ConsensusFault` when they are not this validator's.
        """
        raw = journal.get(SAFETY_KIND, {}).get(SAFETY_KEY)
        if raw is not None:
            state = codec.decode(SafetyState, raw, bytes_max=SAFETY_BYTES_MAX)
            if state.epoch != self.committee.epoch:
                raise WrongEpoch(f"a journal of epoch {state.epoch}")
            replayed = self.safety
            self.safety = Safety(state)
            self.raise_certificates(replayed.high_qc, replayed.high_tc)
        for _, wire in sorted(journal.get(BLOCK_KIND, {}).items()):
            block = decode_block(wire, self.committee.network)
            parent = self.tree.get(block.parent)
            if parent is not None and self.tree.get(block.cid) is None:
                self.tree.insert(self._trusted_node(block, parent))
                self.raise_certificates(block.qc, block.tc)
        for _, wire in sorted(journal.get(PROPOSAL_KIND, {}).items()):
            block = decode_block(wire, self.committee.network)
            self.proposals[block.round] = wire
        self._restore_report(journal)

    def _restore_report(self, journal: Journal) -> None:
        """Go on with the own report after the newest link that may have left."""
        if self.reporter is None or self.identity is None:
            return
        tip = self.tree.tip.frontier[self.identity.index]
        self.reporter.resume(tip.sequence, tip.hash)
        for _, wire in sorted(journal.get(REPORT_KIND, {}).items()):
            link = decode_link(wire)
            self.reporter.resume(link.sequence, link_hash(self.committee.network, wire))
            try:
                self.links.add(wire)
            except BadReport:
                continue  # far ahead of an index that was lost: peers have it in their blocks

    def _trusted_node(self, block: Block, parent: Node) -> Node:
        return _node(block, parent, extend(parent.frontier, block, self.committee.network))


def _node(block: Block, parent: Node, frontier: Frontier) -> Node:
    carried = parent.checkpoint_height
    if block.checkpoint is not None:
        carried = block.checkpoint.height
    return Node(
        cid=block.cid,
        round=block.round,
        height=block.height,
        time_ms=block.time_ms,
        parent=block.parent,
        frontier=frontier,
        checkpoint_height=carried,
        block=block,
    )
