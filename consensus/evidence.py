"""What may be signed once per slot, and the proof that somebody signed twice (PROTOCOL 1).

Everything of that kind has one form. Under the domain of its kind a validator signs

    [epoch, number, content]

where `number` is the slot (a round, a sequence, a height) and `content` names what was said: a
block's CID, a digest, a state root. So a contradiction is small whatever it is about: two
contents, two signatures.
"""

from enum import IntEnum
from typing import Annotated

import msgspec

from consensus.committee import VALIDATORS_ITEMS_MAX, Committee
from consensus.faults import BadEvidence, Equivocation
from primitives import codec
from primitives.codec import Bytes64, Record, Unsigned

EVIDENCE_BYTES_MAX = 512  # one proof; larger: refused with E002
CONTENT_BYTES_MAX = 64  # larger: E001

Index = Annotated[int, msgspec.Meta(ge=0, lt=VALIDATORS_ITEMS_MAX)]


class Slot(IntEnum):
    """The kinds of statement, and what their numbers count."""

    PROPOSAL = 1  # round
    VOTE = 2  # round
    TIMEOUT = 3  # round
    REPORT = 4  # sequence
    CHECKPOINT = 5  # height

    @property
    def domain(self) -> str:
        """Under which statements of this kind are signed."""
        return _DOMAINS[self]


_DOMAINS = {
    Slot.PROPOSAL: "outcry/proposal/1",
    Slot.VOTE: "outcry/vote/1",
    Slot.TIMEOUT: "outcry/timeout/1",
    Slot.REPORT: "outcry/report/1",
    Slot.CHECKPOINT: "outcry/checkpoint/1",
}


class Said(Record):
    """One side of a contradiction."""

    content: Annotated[bytes, msgspec.Meta(max_length=CONTENT_BYTES_MAX)]
    signature: Bytes64


class Evidence(Record):
    """`signer` said two things in one slot; `first` has the smaller content."""

    slot: Annotated[int, msgspec.Meta(ge=1, le=len(Slot))]
    epoch: Unsigned
    number: Unsigned
    signer: Index
    first: Said
    second: Said


def statement(epoch: int, number: int, content: bytes) -> bytes:
    """What is signed for a slot."""
    return codec.encode([epoch, number, content])


def contradiction(
    slot: Slot, epoch: int, number: int, signer: int, one: Said, other: Said
) -> Equivocation:
    """The fault that carries the proof; both signatures have been checked."""
    first, second = sorted((one, other), key=lambda said: said.content)
    evidence = Evidence(int(slot), epoch, number, signer, first, second)
    what = slot.name.lower()
    return Equivocation(f"validator {signer} signed two {what}s for {number}", evidence)


def check_evidence(evidence: Evidence, committee: Committee) -> None:
    """Check a proof that somebody else brings; `committee` is that of its epoch.

    Errors: `BadEvidence`, `UnknownValidator`, `BadVoteSignature`.
    """
    if evidence.epoch != committee.epoch:
        raise BadEvidence(f"evidence of epoch {evidence.epoch} judged in {committee.epoch}")
    if evidence.first.content >= evidence.second.content:
        raise BadEvidence("the two statements are the same or in the wrong order")
    domain = Slot(evidence.slot).domain
    for said in (evidence.first, evidence.second):
        body = statement(evidence.epoch, evidence.number, said.content)
        committee.check(evidence.signer, domain, body, said.signature)
