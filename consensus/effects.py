"""What the replica asks its caller to do, and what the caller tells it.

The caller carries out effects in order. Everything in `Persist` must be durable before any
later effect of the same list is carried out; a caller may gather several lists into one flush.
"""

from dataclasses import dataclass
from enum import IntEnum

from consensus.block import Block
from consensus.certificate import QuorumCertificate
from consensus.checkpoint import CheckpointCertificate
from consensus.evidence import Evidence


class Kind(IntEnum):
    """The messages validators push to each other; numbers from 16 belong to other rooms."""

    PROPOSAL = 1
    VOTE = 2
    TIMEOUT = 3
    TIMEOUT_CERTIFICATE = 4
    LINK = 5
    CHECKPOINT = 6
    LINKS_WANTED = 7
    HANDOVER = 8
    CERTIFICATE = 9


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry. A kind in `ONCE_KINDS` never gets a second value for one key."""

    kind: str
    key: bytes
    value: bytes


ONCE_KINDS = frozenset({"vote", "timeout", "proposal", "report", "checkpoint"})
EPOCH_KIND = "epoch"
RESUME_KINDS = ("safety", "block", "proposal", "report", "handover", EPOCH_KIND)
"""Kinds of journal entries that `Replica.resume` wants to see."""


@dataclass(frozen=True, slots=True)
class Persist:
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Send to every other validator."""

    kind: Kind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Send:
    to: int
    kind: Kind
    payload: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """`block` is final; `batch` are the envelope ids that it makes executable, in sequence."""

    block: Block
    batch: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FetchEnvelopes:
    """These envelopes are needed before a vote; each of `reporters` says to have them."""

    ids: tuple[bytes, ...]
    reporters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FetchChain:
    """Blocks above `height` are missing; `peer` knows a certified chain beyond it."""

    peer: int
    height: int


@dataclass(frozen=True, slots=True)
class CheckpointReached:
    certificate: CheckpointCertificate


@dataclass(frozen=True, slots=True)
class WatchEnded:
    """Nobody else signs with this validator's key; from now on it signs again."""


@dataclass(frozen=True, slots=True)
class DoubleSeen:
    """Another process signs with this validator's key; this one must stop (E352)."""

    evidence: Evidence


Effect = (
    Persist
    | Broadcast
    | Send
    | Commit
    | FetchEnvelopes
    | FetchChain
    | CheckpointReached
    | WatchEnded
    | DoubleSeen
)


@dataclass(frozen=True, slots=True)
class Received:
    """A message from validator `sender`, whose identity the network layer has checked."""

    kind: int
    payload: bytes
    sender: int


@dataclass(frozen=True, slots=True)
class EnvelopesSeen:
    """Envelopes that came to hand, in the order in which this node first saw them."""

    ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Observed:
    """What this validator sees of the EVM chain, to go into its next report link."""

    observation: bytes


@dataclass(frozen=True, slots=True)
class ChainArrived:
    """The answer to `FetchChain`: blocks in ascending order, and a certificate for the last."""

    blocks: tuple[bytes, ...]
    high_qc: QuorumCertificate


@dataclass(frozen=True, slots=True)
class Executed:
    """The batch at `height` was executed; `checkpoint` says whether the root is to be signed."""

    height: int
    root: bytes
    checkpoint: bool


@dataclass(frozen=True, slots=True)
class LinkUp:
    """A connection to a validator came up; what was sent before may be lost."""

    validator: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; nothing else happened."""


Event = Received | EnvelopesSeen | Observed | ChainArrived | Executed | LinkUp | Tick
