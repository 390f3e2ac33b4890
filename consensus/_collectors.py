"""Votes and timeouts of rounds that are not decided yet."""

from consensus.certificate import (
    QuorumCertificate,
    Timeout,
    TimeoutCertificate,
    TimeoutSignature,
    Vote,
    VoteSignature,
)
from consensus.committee import Committee
from consensus.evidence import Said, Slot, contradiction
from consensus.faults import Equivocation, RoundTooFar

ROUNDS_AHEAD_MAX = 256  # votes and timeouts further ahead are refused with E304
ROUNDS_BEHIND_MAX = 16  # older ones are of no use


class VoteCollector:
    """Verified votes by round; a validator has one vote a round."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._rounds: dict[int, dict[int, Vote]] = {}

    def knows(self, round_: int, block: bytes, voter: int, signature: bytes) -> bool:
        """Whether this very vote was verified before."""
        vote = self._rounds.get(round_, {}).get(voter)
        return vote is not None and vote.block == block and vote.signature == signature

    def of(self, round_: int, voter: int) -> Vote | None:
        """A validator's vote in a round, if it was seen and is not forgotten."""
        return self._rounds.get(round_, {}).get(voter)

    def add(self, vote: Vote) -> QuorumCertificate | None:
        """Count a verified vote; a certificate when its block has a quorum.

        Errors: `Equivocation` for a second block in one round.
        """
        votes = self._rounds.setdefault(vote.round, {})
        first = votes.setdefault(vote.voter, vote)
        if first.block != vote.block:
            raise contradiction(
                Slot.VOTE, vote.epoch, vote.round, vote.voter, first.said(), vote.said()
            )
        agreeing = [other for other in votes.values() if other.block == vote.block]
        if not self._committee.is_quorum(sum(self._committee.power(v.voter) for v in agreeing)):
            return None
        agreeing.sort(key=lambda other: other.voter)
        signatures = [VoteSignature(other.voter, other.signature) for other in agreeing]
        return QuorumCertificate(vote.epoch, vote.round, vote.block, signatures)

    def contradictions(self, qc: QuorumCertificate) -> list[Equivocation]:
        """Who signed in a checked certificate for another block than in the vote seen here."""
        votes = self._rounds.get(qc.round)
        if votes is None:
            return []
        found = []
        for item in qc.signatures:
            vote = votes.get(item.voter)
            if vote is not None and vote.block != qc.block:
                said = Said(qc.block, item.signature)
                found.append(
                    contradiction(Slot.VOTE, qc.epoch, qc.round, item.voter, vote.said(), said)
                )
        return found

    def forget_below(self, round_: int) -> None:
        for old in [r for r in self._rounds if r < round_ - ROUNDS_BEHIND_MAX]:
            del self._rounds[old]


class TimeoutCollector:
    """Verified timeouts by round."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._rounds: dict[int, dict[int, Timeout]] = {}

    def add(self, timeout: Timeout) -> int:
        """Count a verified timeout; the power that gave up its round so far.

        Errors: `Equivocation` for a second one that names another certificate's round.
        """
        timeouts = self._rounds.setdefault(timeout.round, {})
        first = timeouts.setdefault(timeout.voter, timeout)
        if first.high_qc.round != timeout.high_qc.round:
            raise contradiction(
                Slot.TIMEOUT,
                timeout.epoch,
                timeout.round,
                timeout.voter,
                first.said(),
                timeout.said(),
            )
        return sum(self._committee.power(voter) for voter in timeouts)

    def knows(self, timeout: Timeout) -> bool:
        return self._rounds.get(timeout.round, {}).get(timeout.voter) == timeout

    def certificate(self, round_: int) -> TimeoutCertificate:
        """The certificate over all timeouts of a round; the caller has seen the quorum."""
        timeouts = sorted(self._rounds[round_].values(), key=lambda timeout: timeout.voter)
        high = max((timeout.high_qc for timeout in timeouts), key=lambda qc: qc.round)
        signatures = [TimeoutSignature(t.voter, t.high_qc.round, t.signature) for t in timeouts]
        return TimeoutCertificate(timeouts[0].epoch, round_, signatures, high)

    def forget_below(self, round_: int) -> None:
        for old in [r for r in self._rounds if r < round_]:
            del self._rounds[old]


def check_distance(round_: int, current: int) -> None:
    """Errors: `RoundTooFar`."""
    if round_ > current + ROUNDS_AHEAD_MAX:
        raise RoundTooFar(f"round {round_} while at {current}")
