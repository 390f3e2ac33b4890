"""Blocks: a leader's proposal, identified by its CID (PROTOCOL 1 and 6).

A block is one strict DAG-CBOR array:

    [domain, network, epoch, round, height, parent, author, time_ms, qc, tc, links, checkpoint,
     evidence, end, handover, signature]

`parent` is a link to the block below (or to the genesis document), so that any IPFS tool can
walk the chain; `qc`, `tc`, the report links, the checkpoint and evidence are their msgpack bytes,
which is what was signed. Blocks after the end block of
their epoch name it (`end`). The first blocks of an epoch carry the `handover`: the proof that the
epoch before has ended with their parent. The leader chooses which report links to include and
nothing else: time and order follow from them.
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
from consensus.evidence import EVIDENCE_BYTES_MAX, Evidence, Said, Slot, statement
from consensus.faults import BadBlock
from consensus.report import ReportLink, decode_link
from primitives import codec, dagcbor
from primitives.cid import cid_of
from primitives.dagcbor import Link
from primitives.hashing import digest

BLOCK_BYTES_MAX = 1 << 20  # larger blocks are refused with E002
BLOCK_LINKS_ITEMS_MAX = 512  # more report links wait for the next block
BLOCK_LINKS_BYTES_MAX = 900_000  # likewise
BLOCK_EVIDENCE_ITEMS_MAX = 8  # more proofs wait for the next block
HANDOVER_BYTES_MAX = 32_768  # larger: refused with E307
BLOCK_DOMAIN = "outcry/block/2"
_CONTENT_DOMAIN = "outcry/proposal-content/1"
_FIELDS = 16
_SIGNATURE_BYTES = 64
_INTEGER_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Block:
    """A decoded block. `cid` is its id, `wire` its bytes, `links` and `link_wires` go together.

    `content` is what its author signed for the round.
    """

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
    evidence: tuple[Evidence, ...]
    end: bytes | None
    handover: bytes | None
    signature: bytes
    content: bytes

    def body(self) -> bytes:
        return statement(self.epoch, self.round, self.content)

    def said(self) -> Said:
        return Said(self.content, self.signature)

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing but that its parent is certified."""
        return not (self.links or self.evidence or self.checkpoint)


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
    evidence: list[Evidence] | None = None,
    end: bytes | None = None,
    handover: bytes | None = None,
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
        [codec.encode(item) for item in evidence or ()],
        None if end is None else Link(end),
        handover,
    ]
    unsigned = dagcbor.encode([*fields, bytes(_SIGNATURE_BYTES)])
    body = statement(qc.epoch, round_, _content(network, unsigned))
    signature = key.sign(digest(Slot.PROPOSAL.domain, network, body))
    return decode_block(unsigned[:-_SIGNATURE_BYTES] + signature, network)


def decode_block(wire: bytes, network: bytes) -> Block:
    """The block that `wire` holds. Signatures and rules that need other blocks come later.

    Errors: `Oversized`, `NotDagCbor`, `Malformed`, `BadBlock`.
    """
    fields = dagcbor.decode(wire, bytes_max=BLOCK_BYTES_MAX)
    if not isinstance(fields, list) or len(fields) != _FIELDS:
        raise BadBlock(f"a block is an array of {_FIELDS} fields")
    domain, found, epoch, round_, height, parent, author, time_ms = fields[:8]
    qc, tc, links, checkpoint, evidence, end, handover, signature = fields[8:]
    if domain != BLOCK_DOMAIN or found != network:
        raise BadBlock("a block of another kind or network")
    if not all(_is_unsigned(value) for value in (epoch, round_, height, author, time_ms)):
        raise BadBlock("a number of the block is not an unsigned 63-bit integer")
    if (
        not isinstance(parent, Link)
        or not isinstance(signature, bytes)
        or len(signature) != _SIGNATURE_BYTES
    ):
        raise BadBlock("parent or signature have the wrong shape")
    if not (end is None or isinstance(end, Link)):
        raise BadBlock("the end block is named by a link")
    if not (handover is None or isinstance(handover, bytes)):
        raise BadBlock("a handover is a byte string")
    if handover is not None and len(handover) > HANDOVER_BYTES_MAX:
        raise BadBlock(f"a handover has at most {HANDOVER_BYTES_MAX} bytes")
    _check_list("report links", links, BLOCK_LINKS_ITEMS_MAX)
    _check_list("proofs", evidence, BLOCK_EVIDENCE_ITEMS_MAX)
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
        evidence=tuple(_record(Evidence, item, EVIDENCE_BYTES_MAX) for item in evidence),
        end=None if end is None else end.cid,
        handover=handover,
        signature=signature,
        content=_content(network, wire),
    )


def _check_list(what: str, values: Any, items_max: int) -> None:
    if not isinstance(values, list) or len(values) > items_max:
        raise BadBlock(f"a block has at most {items_max} {what}")
    if not all(isinstance(value, bytes) for value in values):
        raise BadBlock(f"{what} are byte strings")


def _record(shape: Any, data: Any, bytes_max: int) -> Any:
    if not isinstance(data, bytes):
        raise BadBlock("a certificate or proof is a byte string")
    return codec.decode(shape, data, bytes_max=bytes_max)


def _is_unsigned(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _INTEGER_MAX


def _content(network: bytes, wire: bytes) -> bytes:
    """A digest of all fields but the signature, whose encoding is the block's last bytes."""
    return digest(_CONTENT_DOMAIN, network, wire[:-_SIGNATURE_BYTES])
