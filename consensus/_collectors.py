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
from consensus.faults import Equivocation, RoundTooFar
from primitives import codec

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

    def add(self, vote: Vote) -> QuorumCertificate | None:
        """Count a verified vote; a certificate when its block has a quorum.

        Errors: `Equivocation` for a second block in one round.
        """
        votes = self._rounds.setdefault(vote.round, {})
        first = votes.setdefault(vote.voter, vote)
        if first.block != vote.block:
            raise Equivocation(
                f"validator {vote.voter} voted twice in round {vote.round}",
                (codec.encode(first), codec.encode(vote)),
            )
        agreeing = [other for other in votes.values() if other.block == vote.block]
        if not self._committee.is_quorum(sum(self._committee.power(v.voter) for v in agreeing)):
            return None
        agreeing.sort(key=lambda other: other.voter)
        signatures = [VoteSignature(other.voter, other.signature) for other in agreeing]
        return QuorumCertificate(vote.epoch, vote.round, vote.block, signatures)

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

        A validator that learnt of a higher certificate may repeat its timeout with it; the
        highest counts.
        """
        timeouts = self._rounds.setdefault(timeout.round, {})
        known = timeouts.get(timeout.voter)
        if known is None or known.high_qc.round < timeout.high_qc.round:
            timeouts[timeout.voter] = timeout
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
