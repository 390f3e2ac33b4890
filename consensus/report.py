"""Order reports: each validator's signed, chained list of what it saw first (PROTOCOL 3).

A report is a chain of links. A link names the link before it, so two different links for one
sequence number are a contradiction that anybody can prove.
"""

from typing import Annotated

import msgspec

from consensus.committee import Committee, Signer
from consensus.evidence import Index, Said, Slot, statement
from consensus.faults import WrongEpoch
from primitives import codec
from primitives.codec import Bytes32, Bytes64, Record, Unsigned
from primitives.hashing import digest

REPORT_ITEMS_MAX = 2_000  # more: the rest waits for the next link
OBSERVATION_BYTES_MAX = 16_384  # what a validator reports of the EVM chain; larger: E001
LINK_BYTES_MAX = 96_000  # a link with all its items; larger: E002
LINK_DOMAIN = Slot.REPORT.domain
_LINK_CONTENT = "outcry/report-content/1"
_LINK_HASH = "outcry/report-link/1"
FIRST_PREVIOUS = bytes(32)


class ReportLink(Record):
    """Link number `sequence` (from 1) of validator `author`'s report.

    `items` are envelope ids in the order in which the author first saw them; `time_ms` is its
    clock; `observation` is opaque here (the exchange knows it).
    """

    epoch: Unsigned
    author: Index
    sequence: Annotated[int, msgspec.Meta(ge=1, le=codec.AMOUNT_MAX)]
    previous: Bytes32
    items: Annotated[list[Bytes32], msgspec.Meta(max_length=REPORT_ITEMS_MAX)]
    time_ms: Unsigned
    observation: Annotated[bytes, msgspec.Meta(max_length=OBSERVATION_BYTES_MAX)]
    signature: Bytes64

    def content(self, network: bytes) -> bytes:
        """32 bytes that name all that the link says."""
        said = [self.author, self.previous, self.items, self.time_ms, self.observation]
        return digest(_LINK_CONTENT, network, codec.encode(said))

    def body(self, network: bytes) -> bytes:
        return statement(self.epoch, self.sequence, self.content(network))

    def said(self, network: bytes) -> Said:
        return Said(self.content(network), self.signature)


def link_hash(network: bytes, wire: bytes) -> bytes:
    """The 32 bytes by which the next link names this one."""
    return digest(_LINK_HASH, network, wire)


def sign_link(
    key: Signer,
    network: bytes,
    epoch: int,
    author: int,
    sequence: int,
    previous: bytes,
    items: list[bytes],
    time_ms: int,
    observation: bytes,
) -> ReportLink:
    """A signed link. The caller has journaled it before it leaves."""
    unsigned = ReportLink(epoch, author, sequence, previous, items, time_ms, observation, bytes(64))
    signature = key.sign(digest(LINK_DOMAIN, network, unsigned.body(network)))
    return ReportLink(epoch, author, sequence, previous, items, time_ms, observation, signature)


def decode_link(wire: bytes) -> ReportLink:
    """Errors: `Malformed`, `Oversized`."""
    return codec.decode(ReportLink, wire, bytes_max=LINK_BYTES_MAX)


def check_link(link: ReportLink, committee: Committee) -> None:
    """Check what a link says by itself. Errors: `WrongEpoch`, `BadVoteSignature`."""
    if link.epoch != committee.epoch:
        raise WrongEpoch(f"a report link of epoch {link.epoch}")
    committee.check(link.author, LINK_DOMAIN, link.body(committee.network), link.signature)
