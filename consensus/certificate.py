"""Votes and timeouts, and the certificates that a quorum of them makes (PROTOCOL 1).

What is signed always contains the epoch and the round: a certificate whose round stood outside
the signature could be moved to another round.
"""

import itertools
from collections.abc import Callable
from typing import Annotated

import msgspec

from consensus.committee import VALIDATORS_ITEMS_MAX, Committee, Signer
from consensus.evidence import Index, Said, Slot, statement
from consensus.faults import BadCertificate, WrongEpoch
from primitives.cid import CID_BYTES
from primitives.codec import Bytes64, Record, Unsigned
from primitives.hashing import digest

CERTIFICATE_BYTES_MAX = 8_192  # 32 signatures and a nested certificate fit: refused with E002
VOTE_DOMAIN = Slot.VOTE.domain
TIMEOUT_DOMAIN = Slot.TIMEOUT.domain
_ROUND_BYTES = 8

BlockId = Annotated[bytes, msgspec.Meta(min_length=CID_BYTES, max_length=CID_BYTES)]


class Vote(Record):
    """A validator's vote for a block."""

    epoch: Unsigned
    round: Unsigned
    block: BlockId
    voter: Index
    signature: Bytes64

    def body(self) -> bytes:
        return _vote_body(self.epoch, self.round, self.block)

    def said(self) -> Said:
        return Said(self.block, self.signature)


class VoteSignature(Record):
    voter: Index
    signature: Bytes64


class QuorumCertificate(Record):
    """More than two thirds of the power voted for `block` in `round`.

    The certificate of a genesis has round 0 and no signatures.
    """

    epoch: Unsigned
    round: Unsigned
    block: BlockId
    signatures: Annotated[list[VoteSignature], msgspec.Meta(max_length=VALIDATORS_ITEMS_MAX)]


class TimeoutSignature(Record):
    voter: Index
    qc_round: Unsigned
    signature: Bytes64


class TimeoutCertificate(Record):
    """More than two thirds of the power gave up `round`; `high_qc` is the highest they reported."""

    epoch: Unsigned
    round: Unsigned
    signatures: Annotated[list[TimeoutSignature], msgspec.Meta(max_length=VALIDATORS_ITEMS_MAX)]
    high_qc: QuorumCertificate


class Timeout(Record):
    """A validator's wish to leave a round; it carries what brought its author there."""

    epoch: Unsigned
    round: Unsigned
    high_qc: QuorumCertificate
    high_tc: TimeoutCertificate | None
    voter: Index
    signature: Bytes64

    def body(self) -> bytes:
        return _timeout_body(self.epoch, self.round, self.high_qc.round)

    def said(self) -> Said:
        return Said(self.high_qc.round.to_bytes(_ROUND_BYTES, "big"), self.signature)


def sign_vote(
    key: Signer, network: bytes, epoch: int, round_: int, block: bytes, voter: int
) -> Vote:
    """A signed vote. The caller has journaled it before it leaves."""
    signed = digest(VOTE_DOMAIN, network, _vote_body(epoch, round_, block))
    return Vote(epoch, round_, block, voter, key.sign(signed))


def sign_timeout(
    key: Signer,
    network: bytes,
    round_: int,
    high_qc: QuorumCertificate,
    high_tc: TimeoutCertificate | None,
    voter: int,
) -> Timeout:
    """A signed timeout. The caller has journaled it before it leaves."""
    body = _timeout_body(high_qc.epoch, round_, high_qc.round)
    signature = key.sign(digest(TIMEOUT_DOMAIN, network, body))
    return Timeout(high_qc.epoch, round_, high_qc, high_tc, voter, signature)


def genesis_certificate(epoch: int, genesis: bytes) -> QuorumCertificate:
    """The certificate from which an epoch starts."""
    return QuorumCertificate(epoch, 0, genesis, [])


KnownVote = Callable[[int, bytes, int, bytes], bool]


def check_quorum(
    certificate: QuorumCertificate, committee: Committee, genesis: bytes, known: KnownVote
) -> None:
    """Check a quorum certificate.

    `known(round, block, voter, signature)` tells signatures that were verified before, so that
    the votes everybody has received are not verified a second time.
    Errors: `WrongEpoch`, `BadCertificate`, `UnknownValidator`, `BadVoteSignature`.
    """
    if certificate.epoch != committee.epoch:
        raise WrongEpoch(f"a certificate of epoch {certificate.epoch}")
    if certificate.round == 0:
        if certificate.block != genesis or certificate.signatures:
            raise BadCertificate("a certificate of round 0 that is not the genesis")
        return
    _check_distinct([item.voter for item in certificate.signatures])
    power = sum(committee.power(item.voter) for item in certificate.signatures)
    if not committee.is_quorum(power):
        raise BadCertificate(f"power {power} of {committee.total} is no quorum")
    body = _vote_body(certificate.epoch, certificate.round, certificate.block)
    for item in certificate.signatures:
        if not known(certificate.round, certificate.block, item.voter, item.signature):
            committee.check(item.voter, VOTE_DOMAIN, body, item.signature)


def check_timeout_certificate(
    certificate: TimeoutCertificate, committee: Committee, genesis: bytes, known: KnownVote
) -> None:
    """Check a timeout certificate and the quorum certificate inside it.

    Errors: as `check_quorum`; `BadCertificate` also when its `high_qc` is not the highest that
    its signers reported.
    """
    if certificate.epoch != committee.epoch:
        raise WrongEpoch(f"a timeout certificate of epoch {certificate.epoch}")
    _check_distinct([item.voter for item in certificate.signatures])
    power = sum(committee.power(item.voter) for item in certificate.signatures)
    if not committee.is_quorum(power):
        raise BadCertificate(f"power {power} of {committee.total} is no quorum")
    highest = max(item.qc_round for item in certificate.signatures)
    if certificate.high_qc.round != highest or highest >= certificate.round:
        raise BadCertificate("its quorum certificate is not the highest that was reported")
    for item in certificate.signatures:
        body = _timeout_body(certificate.epoch, certificate.round, item.qc_round)
        committee.check(item.voter, TIMEOUT_DOMAIN, body, item.signature)
    check_quorum(certificate.high_qc, committee, genesis, known)


def _check_distinct(voters: list[int]) -> None:
    if any(a >= b for a, b in itertools.pairwise(voters)):
        raise BadCertificate("signers must be distinct and in ascending order")


def _vote_body(epoch: int, round_: int, block: bytes) -> bytes:
    return statement(epoch, round_, block)


def _timeout_body(epoch: int, round_: int, qc_round: int) -> bytes:
    return statement(epoch, round_, qc_round.to_bytes(_ROUND_BYTES, "big"))
