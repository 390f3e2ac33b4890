"""Blocks: a leader's proposal, identified by its CID (PROTOCOL 1 and 6).

A block is one strict DAG-CBOR array:

    [domain, network, epoch, round, height, parent, author, time_ms, qc, tc, links, checkpoint,
     signature]

`parent` is a link to the block below (or to the genesis document), so that any IPFS tool can
walk the chain; `qc`, `tc`, the report links and the checkpoint are their msgpack bytes, which is
what was signed. The leader chooses which report links to include and nothing else: time and
order follow from them.
"""

from dataclasses import dataclass
from typing import Any

from consensus.certificate import (
    CERTIFICATE_BYTES_MAX,
    QuorumCertificate,
    TimeoutCertificate,
)
from consensus.checkpoint import CHECKPOINT_BYTES_MAX, CheckpointCertificate
from consensus.committee import Signer
from consensus.faults import BadBlock
from consensus.report import ReportLink, decode_link
from primitives import codec, dagcbor
from primitives.cid import cid_of
from primitives.dagcbor import Link
from primitives.hashing import digest

BLOCK_BYTES_MAX = 1 << 20  # larger blocks are refused with E002
BLOCK_LINKS_ITEMS_MAX = 512  # more report links wait for the next block
BLOCK_LINKS_BYTES_MAX = 900_000  # likewise
BLOCK_DOMAIN = "outcry/block/1"
PROPOSAL_DOMAIN = "outcry/proposal/1"
_FIELDS = 13
_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Block:
    """A decoded block. `cid` is its id, `wire` its bytes, `links` and `link_wires` go together."""

    cid: bytes
    wire: bytes
    epoch: int
    round: int
    height: int
    parent: bytes
    author: int
    time_ms: int
    qc: QuorumCertificate
    tc: TimeoutCertificate | None
    links: tuple[ReportLink, ...]
    link_wires: tuple[bytes, ...]
    checkpoint: CheckpointCertificate | None
    signature: bytes
    signed: bytes


def make_block(
    key: Signer,
    network: bytes,
    *,
    round_: int,
    height: int,
    author: int,
    time_ms: int,
    qc: QuorumCertificate,
    tc: TimeoutCertificate | None,
    link_wires: list[bytes],
    checkpoint: CheckpointCertificate | None,
) -> Block:
    """A signed block on top of the block that `qc` certifies."""
    fields: list[Any] = [
        BLOCK_DOMAIN,
        network,
        qc.epoch,
        round_,
        height,
        Link(qc.block),
        author,
        time_ms,
        codec.encode(qc),
        None if tc is None else codec.encode(tc),
        link_wires,
        None if checkpoint is None else codec.encode(checkpoint),
    ]
    signature = key.sign(_signed(network, fields))
    return decode_block(dagcbor.encode([*fields, signature]), network)


def decode_block(wire: bytes, network: bytes) -> Block:
    """The block that `wire` holds. Signatures and rules that need other blocks come later.

    Errors: `Oversized`, `NotDagCbor`, `Malformed`, `BadBlock`.
    """
    fields = dagcbor.decode(wire, bytes_max=BLOCK_BYTES_MAX)
    if not isinstance(fields, list) or len(fields) != _FIELDS:
        raise BadBlock(f"a block is an array of {_FIELDS} fields")
    domain, found, epoch, round_, height, parent, author, time_ms = fields[:8]
    qc, tc, links, checkpoint, signature = fields[8:]
    if domain != BLOCK_DOMAIN or found != network:
        raise BadBlock("a block of another kind or network")
    if not all(_is_unsigned(value) for value in (epoch, round_, height, author, time_ms)):
        raise BadBlock("a number of the block is not an unsigned 63-bit integer")
    if not isinstance(parent, Link) or not isinstance(signature, bytes) or len(signature) != 64:
        raise BadBlock("parent or signature have the wrong shape")
    if not isinstance(links, list) or len(links) > BLOCK_LINKS_ITEMS_MAX:
        raise BadBlock(f"a block has at most {BLOCK_LINKS_ITEMS_MAX} report links")
    if not all(isinstance(link, bytes) for link in links):
        raise BadBlock("report links are byte strings")
    return Block(
        cid=cid_of(wire),
        wire=wire,
        epoch=epoch,
        round=round_,
        height=height,
        parent=parent.cid,
        author=author,
        time_ms=time_ms,
        qc=_record(QuorumCertificate, qc, CERTIFICATE_BYTES_MAX),
        tc=None if tc is None else _record(TimeoutCertificate, tc, CERTIFICATE_BYTES_MAX),
        links=tuple(decode_link(link) for link in links),
        link_wires=tuple(links),
        checkpoint=None
        if checkpoint is None
        else _record(CheckpointCertificate, checkpoint, CHECKPOINT_BYTES_MAX),
        signature=signature,
        signed=_signed(network, fields[:-1]),
    )


def _record(shape: Any, data: Any, bytes_max: int) -> Any:
    if not isinstance(data, bytes):
        raise BadBlock("a certificate is a byte string")
    return codec.decode(shape, data, bytes_max=bytes_max)


def _is_unsigned(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _INTEGER_MAX


def _signed(network: bytes, fields: list[Any]) -> bytes:
    return digest(PROPOSAL_DOMAIN, network, dagcbor.encode(fields))
