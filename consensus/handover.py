"""From one epoch to the next (PROTOCOL 1).

An epoch ends with the first block whose time has reached its end: the *end block*. What follows
it in the epoch is empty, names the end block, and serves only to make it final by certificates of
the old set. A block that names the end block, carries the certificate of its parent in the round
before, and is certified itself makes the parent final, and with it the end block: whoever voted
for it has checked that it descends from what it names. That block and its certificate are the
proof, as long whatever happened between. The next epoch starts on the end block at round 1. Without
the proof a new set, which holds no lock, could certify a sibling of the end block.
"""

from consensus.block import HANDOVER_BYTES_MAX, Block, decode_block
from consensus.certificate import BlockId, KnownVote, QuorumCertificate, check_quorum
from consensus.committee import Committee
from consensus.faults import BadHandover
from primitives import codec
from primitives.codec import Record, Unsigned


class Handover(Record):
    """The proof that `epoch` is over with block `end`: a later block, and its certificate."""

    epoch: Unsigned
    end: BlockId
    block: bytes
    qc: QuorumCertificate


def make_handover(block: Block, qc: QuorumCertificate) -> bytes:
    """The proof's bytes; `qc` certifies `block`, which names the end block."""
    return codec.encode(Handover(qc.epoch, block.end or block.parent, block.wire, qc))


def decode_handover(wire: bytes) -> Handover:
    """Errors: `Malformed`, `Oversized`."""
    return codec.decode(Handover, wire, bytes_max=HANDOVER_BYTES_MAX)


def check_handover(handover: Handover, end: bytes, committee: Committee, known: KnownVote) -> None:
    """Check that the two-chain rule makes the block `end` final in the epoch of `committee`.

    Errors: `BadHandover`, those of `decode_block` and of a certificate.
    """
    if handover.epoch != committee.epoch:
        raise BadHandover(f"a handover of epoch {handover.epoch} in epoch {committee.epoch}")
    block = decode_block(handover.block, committee.network)
    if handover.end != end or block.end != end or block.epoch != committee.epoch:
        raise BadHandover("its block does not name the end block")
    if block.qc.block != block.parent or block.round != block.qc.round + 1:
        raise BadHandover("its two rounds are not consecutive")
    if handover.qc.block != block.cid or handover.qc.round != block.round:
        raise BadHandover("its certificate is not the block's")
    # Round 0 is an epoch's start and needs no signatures: an end block is never of round 0.
    check_quorum(block.qc, committee, b"", known)
    check_quorum(handover.qc, committee, b"", known)
