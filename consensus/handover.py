"""From one epoch to the next (PROTOCOL 1).

An epoch ends with the first block whose time has reached its end: the *end block*. What follows
it in the epoch is empty and serves only to make it final by certificates of the old set. The
blocks after the end block, the last two of them in consecutive rounds, and a certificate for the
last one are the proof; with it anybody who has the end block knows that the epoch is over. The
next epoch starts on the end block at round 1. Without the proof a new set, which holds no lock,
could certify a sibling of the end block.
"""

from typing import Annotated

import msgspec

from consensus.block import HANDOVER_BYTES_MAX, Block, decode_block
from consensus.certificate import KnownVote, QuorumCertificate, check_quorum
from consensus.committee import Committee
from consensus.faults import BadHandover
from primitives import codec
from primitives.codec import Record, Unsigned

HANDOVER_BLOCKS_MAX = 64  # a longer way from the end block to two consecutive rounds: E312


class Handover(Record):
    """The proof that `epoch` is over: what follows its end block, and the last certificate."""

    epoch: Unsigned
    blocks: Annotated[list[bytes], msgspec.Meta(min_length=1, max_length=HANDOVER_BLOCKS_MAX)]
    qc: QuorumCertificate


def make_handover(blocks: list[Block], qc: QuorumCertificate) -> bytes:
    """The proof's bytes; `blocks` follow the end block, oldest first, `qc` certifies the last."""
    return codec.encode(Handover(qc.epoch, [block.wire for block in blocks], qc))


def decode_handover(wire: bytes) -> Handover:
    """Errors: `Malformed`, `Oversized`."""
    return codec.decode(Handover, wire, bytes_max=HANDOVER_BYTES_MAX)


def end_of(handover: Handover, network: bytes) -> bytes:
    """The id of the end block that is meant. Errors: those of `decode_block`."""
    return decode_block(handover.blocks[0], network).parent


def check_handover(
    handover: Handover, end: bytes, end_round: int, committee: Committee, known: KnownVote
) -> None:
    """Check that the two-chain rule makes the block `end` final in the epoch of `committee`.

    Only the certificates that commit are checked: what lies between is named by hash, and a
    quorum of the old set voted for it.
    Errors: `BadHandover`, those of `decode_block` and of a certificate.
    """
    if handover.epoch != committee.epoch:
        raise BadHandover(f"a handover of epoch {handover.epoch} in epoch {committee.epoch}")
    parent, parent_round = end, end_round
    block = None
    for wire in handover.blocks:
        block = decode_block(wire, committee.network)
        if block.epoch != committee.epoch or block.parent != parent or block.round <= parent_round:
            raise BadHandover("its blocks do not follow each other from the end block")
        below, parent, parent_round = parent_round, block.cid, block.round
    if block is None or block.round != below + 1:
        raise BadHandover("its last two rounds are not consecutive")
    if block.qc.block != block.parent or block.qc.round != below:
        raise BadHandover("the last block does not carry its parent's certificate")
    if handover.qc.block != block.cid or handover.qc.round != block.round:
        raise BadHandover("its certificate is not the last block's")
    # Round 0 is an epoch's start and needs no signatures: an end block is never of round 0.
    check_quorum(block.qc, committee, b"", known)
    check_quorum(handover.qc, committee, b"", known)
