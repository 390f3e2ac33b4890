"""Checkpoints: more than two thirds of the power computed the same state (PROTOCOL 5).

State roots are no part of a block's validity, so that agreement never waits for execution.
Validators sign (height, root) after executing; a certificate travels in a later block.
"""

import itertools
from collections.abc import Callable
from typing import Annotated

import msgspec

from consensus.committee import VALIDATORS_ITEMS_MAX, Committee, Signer
from consensus.evidence import Index, Said, Slot, contradiction, statement
from consensus.faults import (
    BadCertificate,
    RootMismatch,
    RoundTooFar,
    WrongEpoch,
)
from primitives.codec import Bytes32, Bytes64, Record, Unsigned
from primitives.hashing import digest

CHECKPOINT_BYTES_MAX = 8_192  # larger: refused with E002
CHECKPOINT_DOMAIN = Slot.CHECKPOINT.domain
HEIGHTS_KEPT_ITEMS_MAX = 512  # heights around the committed tip; votes for others are refused


class CheckpointVote(Record):
    """A validator's signature on the state root after `height`."""

    epoch: Unsigned
    height: Unsigned
    root: Bytes32
    voter: Index
    signature: Bytes64


class CheckpointSignature(Record):
    voter: Index
    signature: Bytes64


class CheckpointCertificate(Record):
    """More than two thirds of the power signed `root` at `height`."""

    epoch: Unsigned
    height: Unsigned
    root: Bytes32
    signatures: Annotated[list[CheckpointSignature], msgspec.Meta(max_length=VALIDATORS_ITEMS_MAX)]


def sign_checkpoint(
    key: Signer, network: bytes, epoch: int, height: int, root: bytes, voter: int
) -> CheckpointVote:
    signed = digest(CHECKPOINT_DOMAIN, network, _body(epoch, height, root))
    return CheckpointVote(epoch, height, root, voter, key.sign(signed))


Committees = Callable[[int], Committee]
"""The committee of an epoch. Errors: `WrongEpoch` for one that is not known (any more)."""


def check_checkpoint_certificate(certificate: CheckpointCertificate, committee: Committee) -> None:
    """Errors: `WrongEpoch`, `BadCertificate`, `UnknownValidator`, `BadVoteSignature`."""
    if certificate.epoch != committee.epoch:
        raise WrongEpoch(f"a checkpoint of epoch {certificate.epoch}")
    voters = [item.voter for item in certificate.signatures]
    if any(a >= b for a, b in itertools.pairwise(voters)):
        raise BadCertificate("signers must be distinct and in ascending order")
    if not committee.is_quorum(sum(committee.power(voter) for voter in voters)):
        raise BadCertificate("the checkpoint has no quorum")
    body = _body(certificate.epoch, certificate.height, certificate.root)
    for item in certificate.signatures:
        committee.check(item.voter, CHECKPOINT_DOMAIN, body, item.signature)


class CheckpointCollector:
    """Votes for checkpoints, the newest certificate, and roots that were certified lately."""

    def __init__(self, committees: Committees) -> None:
        self._committees = committees
        self._votes: dict[int, dict[int, CheckpointVote]] = {}
        self._own: dict[int, bytes] = {}
        self._certified: dict[int, bytes] = {}
        self.newest: CheckpointCertificate | None = None

    def executed(self, height: int, root: bytes) -> None:
        """This validator computed `root` at `height`. Errors: `RootMismatch`."""
        self._own[height] = root
        while len(self._own) > HEIGHTS_KEPT_ITEMS_MAX:
            del self._own[min(self._own)]
        certified = self._certified.get(height)
        if certified is not None:
            self._compare(height, certified)

    def is_certified(self, height: int) -> bool:
        """Whether a certificate for `height` was seen lately."""
        return height in self._certified

    def add(self, vote: CheckpointVote, tip_height: int) -> CheckpointCertificate | None:
        """Count a vote; the certificate when it completes one.

        Votes for heights further than `HEIGHTS_KEPT_ITEMS_MAX` from the committed tip are of no
        use to anybody and are not kept.
        Errors: `WrongEpoch`, `BadVoteSignature`, `UnknownValidator`; `RoundTooFar` for a height
        out of reach; `Equivocation` for a second root at one height; `RootMismatch` when the
        quorum computed another root than we did.
        """
        committee = self._committees(vote.epoch)
        if vote.height > tip_height + HEIGHTS_KEPT_ITEMS_MAX // 2:
            raise RoundTooFar(f"a checkpoint of height {vote.height} while at {tip_height}")
        if vote.height in self._certified or self._is_late(vote.height, tip_height):
            return None
        body = _body(vote.epoch, vote.height, vote.root)
        committee.check(vote.voter, CHECKPOINT_DOMAIN, body, vote.signature)
        votes = self._votes.setdefault(vote.height, {})
        first = votes.setdefault(vote.voter, vote)
        if first.epoch != vote.epoch:
            return None  # one of the two names an epoch that does not hold the height
        if first.root != vote.root:
            raise contradiction(
                Slot.CHECKPOINT,
                vote.epoch,
                vote.height,
                vote.voter,
                Said(first.root, first.signature),
                Said(vote.root, vote.signature),
            )
        certificate = self._complete(committee, vote.height, vote.root)
        for height in [h for h in self._votes if self._is_late(h, tip_height)]:
            del self._votes[height]
        return certificate

    def adopt(self, certificate: CheckpointCertificate) -> None:
        """Take a certificate checked elsewhere. Errors: `RootMismatch`."""
        self._compare(certificate.height, certificate.root)
        self._certified[certificate.height] = certificate.root
        while len(self._certified) > HEIGHTS_KEPT_ITEMS_MAX:
            del self._certified[min(self._certified)]
        self._votes.pop(certificate.height, None)
        if self.newest is None or certificate.height > self.newest.height:
            self.newest = certificate

    def _is_late(self, height: int, tip_height: int) -> bool:
        """Too old to be kept, unless this validator itself signs it again."""
        return height < tip_height - HEIGHTS_KEPT_ITEMS_MAX and height not in self._own

    def _complete(
        self, committee: Committee, height: int, root: bytes
    ) -> CheckpointCertificate | None:
        agreeing = sorted(
            (
                vote
                for vote in self._votes[height].values()
                if vote.root == root and vote.epoch == committee.epoch
            ),
            key=lambda vote: vote.voter,
        )
        if not committee.is_quorum(sum(committee.power(vote.voter) for vote in agreeing)):
            return None
        signatures = [CheckpointSignature(vote.voter, vote.signature) for vote in agreeing]
        certificate = CheckpointCertificate(committee.epoch, height, root, signatures)
        self.adopt(certificate)
        return certificate

    def _compare(self, height: int, root: bytes) -> None:
        own = self._own.get(height)
        if own is not None and own != root:
            raise RootMismatch(
                f"at height {height} this validator computed {own.hex()[:16]}, a quorum "
                f"{root.hex()[:16]}; stop, keep the data directory, report it"
            )


def _body(epoch: int, height: int, root: bytes) -> bytes:
    return statement(epoch, height, root)
