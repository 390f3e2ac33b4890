"""What operators ask about rounds, counted since start."""

from collections.abc import Mapping
from dataclasses import dataclass

from consensus.certificate import QuorumCertificate
from consensus.committee import Committee

LATE_ROUNDS_MAX = 10  # a vote that comes later than this was missed (PROTOCOL 2)
ROUNDS_KEPT_MAX = 64  # rounds whose proposals are remembered for their delay


@dataclass(frozen=True)
class RoundStatistics:
    """Rounds since start, seen from here.

    certified         rounds that ended with a quorum certificate
    timed_out         rounds that ended with a timeout certificate
    quorum_delay_ms   from a proposal's arrival to its certificate: the last, the longest, and
                      the sum over `certified_timed` rounds
    missed_votes      by validator: certified rounds in which its vote did not come, even late
    rounds_behind     by validator: how far its newest vote is behind the newest certificate
    """

    certified: int
    timed_out: int
    certified_timed: int
    quorum_delay_ms_last: int
    quorum_delay_ms_max: int
    quorum_delay_ms_total: int
    missed_votes: Mapping[str, int]
    rounds_behind: Mapping[str, int]


class Meter:
    """Told of proposals, votes and certificates; knows nothing of rules."""

    def __init__(self, validators: int) -> None:
        self._proposed: dict[int, int] = {}
        self._heard: dict[int, int] = {}
        self._certified: dict[int, int] = {}
        self._newest = [0] * validators
        self._missed = [0] * validators
        self._round = 0
        self._counts = {"certified": 0, "timed_out": 0, "timed": 0}
        self._delay_last = self._delay_max = self._delay_total = 0

    def start_epoch(self, committee: Committee) -> None:
        """Rounds begin again at 1."""
        self._proposed.clear()
        self._heard.clear()
        self._certified.clear()
        self._newest = [0] * len(committee)
        self._missed += [0] * (len(committee) - len(self._missed))
        self._round = 0

    def proposed(self, round_: int, now_ms: int) -> None:
        """A proposal arrived."""
        self._proposed.setdefault(round_, now_ms)
        while len(self._proposed) > ROUNDS_KEPT_MAX:
            del self._proposed[min(self._proposed)]

    def heard(self, voter: int, round_: int) -> None:
        """A vote of `voter`, who sent it itself."""
        if round_ + LATE_ROUNDS_MAX < self._round or round_ > self._round + ROUNDS_KEPT_MAX:
            return
        self._heard[round_] = self._heard.get(round_, 0) | 1 << voter
        self._newest[voter] = max(self._newest[voter], round_)

    def certified(self, qc: QuorumCertificate, now_ms: int) -> None:
        """The highest certificate so far."""
        mask = self._heard.get(qc.round, 0)
        for item in qc.signatures:
            mask |= 1 << item.voter
            self._newest[item.voter] = max(self._newest[item.voter], qc.round)
        self._heard[qc.round] = mask
        self._certified[qc.round] = mask
        self._round = qc.round
        self._counts["certified"] += 1
        began_ms = self._proposed.pop(qc.round, None)
        if began_ms is not None:
            self._counts["timed"] += 1
            self._delay_last = max(0, now_ms - began_ms)
            self._delay_max = max(self._delay_max, self._delay_last)
            self._delay_total += self._delay_last
        self._judge()

    def timed_out(self) -> None:
        """A timeout certificate ended a round."""
        self._counts["timed_out"] += 1

    def _judge(self) -> None:
        """Count who missed the rounds for which it is too late now."""
        due = [r for r in self._certified if r + LATE_ROUNDS_MAX < self._round]
        for round_ in due:
            del self._certified[round_]
            mask = self._heard.get(round_, 0)
            for voter in range(len(self._newest)):
                self._missed[voter] += not mask >> voter & 1
        for round_ in [r for r in self._heard if r + LATE_ROUNDS_MAX < self._round]:
            del self._heard[round_]

    def statistics(self) -> RoundStatistics:
        return RoundStatistics(
            certified=self._counts["certified"],
            timed_out=self._counts["timed_out"],
            certified_timed=self._counts["timed"],
            quorum_delay_ms_last=self._delay_last,
            quorum_delay_ms_max=self._delay_max,
            quorum_delay_ms_total=self._delay_total,
            missed_votes={str(i): missed for i, missed in enumerate(self._missed)},
            rounds_behind={
                str(i): max(0, self._round - newest) for i, newest in enumerate(self._newest)
            },
        )
