"""Whether a block is valid: by itself, and on its parent (PROTOCOL 1 and 3)."""

from consensus._epochs import Beginning, Epochs
from consensus._links import LinkPool
from consensus._tree import Node
from consensus.block import Block
from consensus.certificate import KnownVote, check_quorum, check_timeout_certificate
from consensus.checkpoint import check_checkpoint_certificate
from consensus.evidence import Slot, check_evidence
from consensus.faults import BadBlock, NotTheLeader, WrongEpoch
from consensus.frontier import Frontier, block_time, extend
from consensus.handover import check_handover, decode_handover
from consensus.report import check_link


class Validity:
    """The checks of one epoch; nothing here changes any state."""

    def __init__(
        self, epochs: Epochs, beginning: Beginning, known: KnownVote, links: LinkPool
    ) -> None:
        self._epochs = epochs
        self._committee = epochs.current
        self._beginning = beginning
        self._known = known
        self._links = links

    def check_alone(self, block: Block) -> None:
        """What can be checked without the parent: signature, certificates, links, proofs.

        Errors: `WrongEpoch`, `UnknownValidator`, `BadVoteSignature`, `BadBlock`,
        `BadCertificate`, `BadEvidence`, `BadHandover`.
        """
        committee = self._committee
        if block.epoch != committee.epoch or block.qc.epoch != committee.epoch:
            raise WrongEpoch(f"a block of epoch {block.epoch}")
        committee.check(block.author, Slot.PROPOSAL.domain, block.body(), block.signature)
        if block.parent != block.qc.block:
            raise BadBlock("the certificate is not the parent's")
        self._check_rounds(block)
        check_quorum(block.qc, committee, self._beginning.cid, self._known)
        if block.tc is not None:
            check_timeout_certificate(block.tc, committee, self._beginning.cid, self._known)
        for link, wire in zip(block.links, block.link_wires, strict=True):
            committee.power(link.author)
            if not self._links.knows(wire, link):
                check_link(link, committee)
        if block.checkpoint is not None:
            signers = self._epochs.committee(block.checkpoint.epoch)
            check_checkpoint_certificate(block.checkpoint, signers)
        for item in block.evidence:
            if item.epoch < committee.epoch - 1:
                raise WrongEpoch(f"evidence of epoch {item.epoch}")
            check_evidence(item, self._epochs.committee(item.epoch))
        self._check_handover(block)

    def _check_handover(self, block: Block) -> None:
        """Blocks on an epoch's start, and no others, prove that the epoch before is over."""
        beginning = self._beginning
        if block.qc.round > 0 or beginning.handover is None:
            if block.handover is not None:
                raise BadBlock("a handover belongs only on the start of a later epoch")
            return
        if block.handover is None:
            raise BadBlock("the proof that the epoch before is over is missing")
        if block.handover != beginning.handover:
            before = self._epochs.committee(block.epoch - 1)
            handover = decode_handover(block.handover)
            check_handover(handover, beginning.cid, before, _unknown)

    @staticmethod
    def _check_rounds(block: Block) -> None:
        """A timeout certificate is there exactly when a round was skipped, and fits."""
        if block.round <= block.qc.round:
            raise BadBlock(f"round {block.round} does not follow round {block.qc.round}")
        if (block.tc is None) != (block.round == block.qc.round + 1):
            raise BadBlock("a timeout certificate belongs exactly where a round was skipped")
        if block.tc is not None and block.round != block.tc.round + 1:
            raise BadBlock("the timeout certificate is not of the round before")
        if block.tc is not None and block.qc.round < block.tc.high_qc.round:
            raise BadBlock("the timeout certificate's signers reported a higher certificate")

    def check_on(self, block: Block, parent: Node) -> Frontier:
        """What depends on the parent; the report frontier after the block.

        Errors: `BadBlock`, `NotTheLeader`, `BadReport`.
        """
        if block.height != parent.height + 1 or block.round <= parent.round:
            raise BadBlock("height or round do not follow the parent's")
        if block.qc.round != parent.round:
            raise BadBlock("the certificate names another round than the parent's")
        if block.author != self._committee.leader(block.round, parent.settled):
            raise NotTheLeader(f"validator {block.author} does not lead round {block.round}")
        if parent.ended and not block.is_empty:
            raise BadBlock("after the end block of an epoch its blocks are empty")
        if block.end != parent.end:
            raise BadBlock("it does not name the end block that it descends from")
        checkpoint = block.checkpoint
        if checkpoint is not None and not (
            parent.checkpoint_height < checkpoint.height <= parent.height
        ):
            raise BadBlock("a checkpoint that is not below the block or not newer than known")
        accused = [(item.epoch, item.signer) for item in block.evidence]
        if len(set(accused)) < len(accused) or not parent.accused.isdisjoint(accused):
            raise BadBlock("evidence against a validator whose guilt was shown before")
        frontier = extend(parent.frontier, block, self._committee.network)
        if block.time_ms != block_time(frontier, parent.time_ms, self._committee):
            raise BadBlock("the time is not the median of the reported ones")
        return frontier


def _unknown(_round: int, _block: bytes, _voter: int, _signature: bytes) -> bool:
    return False
