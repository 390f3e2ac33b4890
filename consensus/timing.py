"""The replica's clockwork: how long it waits for what, in milliseconds."""

from dataclasses import dataclass

ROUND_TIMEOUT_MS_MAX = 30_000  # back-off stops growing here


@dataclass(frozen=True, slots=True)
class Timing:
    """Local choices; validators with different ones still agree.

    block_interval_ms   least time between two proposals seen
    idle_interval_ms    a leader without anything to order waits this long
    report_interval_ms  least time between two links of the own report
    report_idle_ms      a link is made at least this often, so that block time goes on
    round_timeout_ms    patience with a leader; grows by half with each round given up
    resend_ms           a timeout is repeated this often while its round lasts
    """

    block_interval_ms: int = 25
    idle_interval_ms: int = 500
    report_interval_ms: int = 20
    report_idle_ms: int = 400
    round_timeout_ms: int = 1_500
    resend_ms: int = 1_000

    def patience(self, rounds_given_up: int) -> int:
        """How long to wait in a round after this many consecutive rounds were given up."""
        growth = min(rounds_given_up, 16)
        grown: int = self.round_timeout_ms * 3**growth // 2**growth
        return min(grown, ROUND_TIMEOUT_MS_MAX)
