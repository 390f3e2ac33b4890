"""Whether a block is valid: by itself, and on its parent (PROTOCOL 1 and 3)."""

from consensus._links import LinkPool
from consensus._tree import Node
from consensus.block import Block
from consensus.certificate import KnownVote, check_quorum, check_timeout_certificate
from consensus.checkpoint import check_checkpoint_certificate
from consensus.committee import Committee
from consensus.faults import BadBlock, BadVoteSignature, NotTheLeader, WrongEpoch
from consensus.frontier import Frontier, block_time, extend
from consensus.report import check_link


class Validity:
    """The checks; nothing here changes any state."""

    def __init__(
        self, genesis: bytes, committee: Committee, known: KnownVote, links: LinkPool
    ) -> None:
        self._genesis = genesis
        self._committee = committee
        self._known = known
        self._links = links

    def check_alone(self, block: Block) -> None:
        """What can be checked without the parent: author, signature, certificates, links.

        Errors: `WrongEpoch`, `NotTheLeader`, `BadVoteSignature`, `BadBlock`, `BadCertificate`.
        """
        committee = self._committee
        if block.epoch != committee.epoch or block.qc.epoch != committee.epoch:
            raise WrongEpoch(f"a block of epoch {block.epoch}")
        if block.author != committee.leader(block.round):
            raise NotTheLeader(f"validator {block.author} does not lead round {block.round}")
        public = committee.validators[block.author].public
        if not committee.verify(public, block.signed, block.signature):
            raise BadVoteSignature(f"validator {block.author} did not sign this block")
        if block.parent != block.qc.block:
            raise BadBlock("the certificate is not the parent's")
        self._check_rounds(block)
        check_quorum(block.qc, committee, self._genesis, self._known)
        if block.tc is not None:
            check_timeout_certificate(block.tc, committee, self._genesis, self._known)
        for link, wire in zip(block.links, block.link_wires, strict=True):
            committee.power(link.author)
            if not self._links.knows(wire, link):
                check_link(link, committee)
        if block.checkpoint is not None:
            check_checkpoint_certificate(block.checkpoint, committee)

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

        Errors: `BadBlock`, `BadReport`.
        """
        if block.height != parent.height + 1 or block.round <= parent.round:
            raise BadBlock("height or round do not follow the parent's")
        if block.qc.round != parent.round:
            raise BadBlock("the certificate names another round than the parent's")
        checkpoint = block.checkpoint
        if checkpoint is not None and not (
            parent.checkpoint_height < checkpoint.height <= parent.height
        ):
            raise BadBlock("a checkpoint that is not below the block or not newer than known")
        frontier = extend(parent.frontier, block, self._committee.network)
        if block.time_ms != block_time(frontier, parent.time_ms, self._committee):
            raise BadBlock("the time is not the median of the reported ones")
        return frontier
