"""Deposits that validators reported, and which of them two thirds agree on.

    tally = DepositTally(powers)
    tally.observe(validator, observation)
    for deposit in tally.agreed(): credit(deposit)

Every validator reports from its own EVM node. A report is taken only when it continues the
running hash after the deposit credited last, or after what the same validator reported before:
so whoever reports the same hash saw the same history. Deposits are credited in order, each once.

A validator reports from `next_index` on, and again until that has moved: repeating costs nothing.
"""

from dataclasses import dataclass

from exchange.block import Deposit, Observation
from exchange.faults import DepositMismatch
from primitives.anchors import EMPTY_ACCUMULATOR, deposit_accumulator

DEPOSITS_AHEAD_MAX = 1_024  # a validator's reports further ahead are left for its next report


@dataclass(frozen=True, slots=True)
class DepositStatistics:
    """Deposits credited, and the most that one validator reported beyond them.

    `refused` counts observations that did not chain or contradicted an earlier one, `early`
    those cut off because they went too far ahead.
    """

    credited: int
    waiting: int
    refused: int
    early: int


class DepositTally:
    """What each validator reported beyond the deposits credited so far.

    `next_index` is the number of the deposit to be credited next, `accumulator` the running
    hash before it.
    """

    def __init__(self, powers: list[int]) -> None:
        self._powers = tuple(powers)
        self._quorum_above = 2 * sum(powers)
        # By validator: deposits next_index, next_index + 1, ... without a gap.
        self._reported: list[list[Deposit]] = [[] for _ in powers]
        self.next_index = 0
        self.accumulator = EMPTY_ACCUMULATOR
        self._refused = 0
        self._early = 0

    def observe(self, validator: int, observation: Observation) -> None:
        """Take over what a validator reports.

        From: a committed report link of validator number `validator`.
        Checks: each deposit continues the running hash; a repeated one says the same as before.
        Effects: none for deposits that are credited already; otherwise the report counts. What
            came before a faulty deposit stands.
        Errors: `DepositMismatch`, counted.
        """
        try:
            for deposit in observation.deposits:
                if not self._take(validator, deposit):
                    self._early += 1
                    return
        except DepositMismatch:
            self._refused += 1
            raise

    def agreed(self) -> list[Deposit]:
        """The next deposits that more than two thirds of the power reported alike, in order.

        They count as consumed from then on.
        """
        consumed: list[Deposit] = []
        while (deposit := self._agreed_next()) is not None:
            for reported in self._reported:
                if reported and reported[0] == deposit:
                    del reported[0]
                else:
                    reported.clear()  # what followed another deposit chains to nothing now
            self.next_index += 1
            self.accumulator = deposit.accumulator
            consumed.append(deposit)
        return consumed

    def statistics(self) -> DepositStatistics:
        """Counts since the start."""
        waiting = max(map(len, self._reported), default=0)
        return DepositStatistics(self.next_index, waiting, self._refused, self._early)

    def _take(self, validator: int, deposit: Deposit) -> bool:
        """Count one deposit; False when it is too far ahead to be kept."""
        if validator >= len(self._reported):
            raise DepositMismatch(f"there is no validator {validator} to report deposits")
        reported = self._reported[validator]
        position = deposit.index - self.next_index
        if position < 0:
            return True
        if position < len(reported):
            if reported[position] != deposit:
                raise DepositMismatch(
                    f"validator {validator} reported another deposit {deposit.index} before; "
                    "its first report stands"
                )
            return True
        if position >= DEPOSITS_AHEAD_MAX:
            return False
        if position > len(reported):
            raise DepositMismatch(
                f"validator {validator} reports deposit {deposit.index} without those before it; "
                f"report from {self.next_index} on"
            )
        previous = reported[-1].accumulator if reported else self.accumulator
        check_chained(previous, deposit)
        reported.append(deposit)
        return True

    def _agreed_next(self) -> Deposit | None:
        power: dict[Deposit, int] = {}
        for reported, weight in zip(self._reported, self._powers, strict=True):
            if reported:
                total = power[reported[0]] = power.get(reported[0], 0) + weight
                if 3 * total > self._quorum_above:
                    return reported[0]
        return None


def check_chained(previous: bytes, deposit: Deposit) -> None:
    """Errors: `DepositMismatch` when `deposit` does not continue the running hash `previous`."""
    expected = deposit_accumulator(
        previous, deposit.index, deposit.account, deposit.token, deposit.units
    )
    if deposit.accumulator != expected:
        raise DepositMismatch(
            f"deposit {deposit.index} does not continue the running hash of the deposits before "
            "it; the reporter's EVM node shows another history: check its endpoint"
        )
