"""What can be wrong with what other validators send, and with ourselves.

RemoteFault
  ConsensusFault
    UnknownValidator    E301  the signer is not a validator of this epoch
    BadVoteSignature    E302  a vote, timeout, link or proposal is not signed by its author
    WrongEpoch          E303  signed for another epoch or network
    RoundTooFar         E304  too many rounds ahead to be kept
    NotTheLeader        E305  the author does not lead the block's round
    BadCertificate      E306  a certificate lacks a quorum, repeats a signer, or does not fit
    BadBlock            E307  the block breaks a rule of its own
    BadReport           E308  a report link does not follow the one before it
    Equivocation        E309  two different statements signed for one slot
    BadChain            E310  blocks sent for catching up do not form a certified chain
    BadEvidence         E311  a proof of a contradiction proves nothing
    BadHandover         E312  the end of an epoch is not final by what is said to prove it
LocalFault
  RootMismatch          E350  two thirds of the power computed another state root than we did
  JournalContradiction  E351  the journal does not fit this validator or this network
  DoppelgangerSeen      E352  another process signs with this validator's key
  ForbiddenStep         E353  this validator was about to sign against its own rules
"""

from typing import TYPE_CHECKING

from primitives.faults import LocalFault, RemoteFault

if TYPE_CHECKING:
    from consensus.evidence import Evidence


class ConsensusFault(RemoteFault):
    """Another validator broke a rule of the agreement."""

    code = "E300"


class UnknownValidator(ConsensusFault):
    """The signer is not a validator of this epoch."""

    code = "E301"


class BadVoteSignature(ConsensusFault):
    """A vote, timeout, link or proposal is not signed by its author."""

    code = "E302"


class WrongEpoch(ConsensusFault):
    """Signed for another epoch or network."""

    code = "E303"


class RoundTooFar(ConsensusFault):
    """Too many rounds ahead to be kept."""

    code = "E304"


class NotTheLeader(ConsensusFault):
    """The author does not lead the block's round."""

    code = "E305"


class BadCertificate(ConsensusFault):
    """A certificate lacks a quorum, repeats a signer, or does not fit its block."""

    code = "E306"


class BadBlock(ConsensusFault):
    """The block breaks a rule of its own."""

    code = "E307"


class BadReport(ConsensusFault):
    """A report link does not follow the one before it."""

    code = "E308"


class Equivocation(ConsensusFault):
    """Two different statements were signed for one slot; `evidence` proves it."""

    code = "E309"

    def __init__(self, sentence: str, evidence: "Evidence") -> None:
        super().__init__(sentence)
        self.evidence = evidence


class BadChain(ConsensusFault):
    """Blocks sent for catching up do not form a certified chain."""

    code = "E310"


class BadEvidence(ConsensusFault):
    """A proof of a contradiction proves nothing."""

    code = "E311"


class BadHandover(ConsensusFault):
    """The end of an epoch is not final by what is said to prove it."""

    code = "E312"


class RootMismatch(LocalFault):
    """Two thirds of the power computed another state root than this validator did."""

    code = "E350"


class JournalContradiction(LocalFault):
    """The journal does not fit this validator or this network."""

    code = "E351"


class DoppelgangerSeen(LocalFault):
    """Another process signs with this validator's key."""

    code = "E352"


class ForbiddenStep(LocalFault):
    """This validator was about to sign against its own rules."""

    code = "E353"
