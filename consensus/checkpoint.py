"""Checkpoints: more than two thirds of the power computed the same state (PROTOCOL 5).

State roots are no part of a block's validity, so that agreement never waits for execution.
Validators sign (height, root) after executing; a certificate travels in a later block.
"""

import itertools
from typing import Annotated

import msgspec

from consensus.certificate import Index
from consensus.committee import VALIDATORS_ITEMS_MAX, Committee
from consensus.faults import BadCertificate, Equivocation, RootMismatch, WrongEpoch
from primitives import codec, ed25519
from primitives.codec import Bytes32, Bytes64, Record, Unsigned
from primitives.hashing import digest

CHECKPOINT_BYTES_MAX = 8_192  # larger: refused with E002
CHECKPOINT_DOMAIN = "outcry/checkpoint/1"
HEIGHTS_KEPT_ITEMS_MAX = 256  # heights with incomplete votes; the lowest is forgotten first


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
    key: ed25519.SigningKey, network: bytes, epoch: int, height: int, root: bytes, voter: int
) -> CheckpointVote:
    signed = digest(CHECKPOINT_DOMAIN, network, _body(epoch, height, root))
    return CheckpointVote(epoch, height, root, voter, key.sign(signed))


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
    """Votes for checkpoints, and the newest certificate."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._votes: dict[int, dict[int, CheckpointVote]] = {}
        self._own: dict[int, bytes] = {}
        self.newest: CheckpointCertificate | None = None

    def executed(self, height: int, root: bytes) -> None:
        """This validator computed `root` at `height`. Errors: `RootMismatch`."""
        self._own[height] = root
        self._forget(self._own)
        if self.newest is not None and self.newest.height == height:
            self._compare(self.newest)

    def add(self, vote: CheckpointVote) -> CheckpointCertificate | None:
        """Count a verified-on-entry vote; the certificate when it completes one.

        Errors: `WrongEpoch`, `BadVoteSignature`, `UnknownValidator`; `Equivocation` for a second
        root at one height; `RootMismatch` when the quorum computed another root than we did.
        """
        if vote.epoch != self._committee.epoch:
            raise WrongEpoch(f"a checkpoint vote of epoch {vote.epoch}")
        if self.newest is not None and vote.height <= self.newest.height:
            return None
        body = _body(vote.epoch, vote.height, vote.root)
        self._committee.check(vote.voter, CHECKPOINT_DOMAIN, body, vote.signature)
        votes = self._votes.setdefault(vote.height, {})
        first = votes.setdefault(vote.voter, vote)
        if first.root != vote.root:
            raise Equivocation(
                f"validator {vote.voter} signed two roots at height {vote.height}",
                (codec.encode(first), codec.encode(vote)),
            )
        self._forget(self._votes)
        return self._complete(vote.height, vote.root)

    def adopt(self, certificate: CheckpointCertificate) -> bool:
        """Take a certificate checked elsewhere; whether it is newer. Errors: `RootMismatch`."""
        if self.newest is not None and certificate.height <= self.newest.height:
            return False
        self._compare(certificate)
        self.newest = certificate
        for height in [height for height in self._votes if height <= certificate.height]:
            del self._votes[height]
        return True

    def _complete(self, height: int, root: bytes) -> CheckpointCertificate | None:
        agreeing = sorted(
            (vote for vote in self._votes[height].values() if vote.root == root),
            key=lambda vote: vote.voter,
        )
        if not self._committee.is_quorum(sum(self._committee.power(v.voter) for v in agreeing)):
            return None
        signatures = [CheckpointSignature(vote.voter, vote.signature) for vote in agreeing]
        certificate = CheckpointCertificate(self._committee.epoch, height, root, signatures)
        self.adopt(certificate)
        return certificate

    def _compare(self, certificate: CheckpointCertificate) -> None:
        own = self._own.get(certificate.height)
        if own is not None and own != certificate.root:
            raise RootMismatch(
                f"at height {certificate.height} this validator computed {own.hex()[:16]}, "
                f"a quorum {certificate.root.hex()[:16]}; stop, keep the data directory, report it"
            )

    @staticmethod
    def _forget(
        heights: dict[int, object] | dict[int, bytes] | dict[int, dict[int, CheckpointVote]],
    ) -> None:
        while len(heights) > HEIGHTS_KEPT_ITEMS_MAX:
            del heights[min(heights)]


def _body(epoch: int, height: int, root: bytes) -> bytes:
    return codec.encode([epoch, height, root])
