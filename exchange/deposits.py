"""Deposits that validators reported, and which of them two thirds agree on.

    tally = DepositTally(powers)
    tally.observe(validator, observation)
    for deposit in tally.agreed(): credit(deposit)

The running hash after deposit i binds all deposits before it, so validators that report the same
hash saw the same history. Deposits are credited in order, each once.
"""

from dataclasses import dataclass

from exchange.block import Deposit, Observation
from exchange.faults import DepositMismatch
from primitives.anchors import EMPTY_ACCUMULATOR, deposit_accumulator

DEPOSITS_AHEAD_MAX = 1_024  # a report further beyond the next deposit is not counted


@dataclass(frozen=True, slots=True)
class DepositStatistics:
    """Deposits credited, reported beyond that, and reports that contradict the chain's hash."""

    credited: int
    waiting: int
    refused: int


class DepositTally:
    """Reports above the last credited deposit, by deposit and validator."""

    def __init__(self, powers: list[int]) -> None:
        self._powers = powers
        self._total = sum(powers)
        self._reports: dict[int, dict[int, Deposit]] = {}
        self.next_index = 0
        self.accumulator = EMPTY_ACCUMULATOR
        self._refused = 0

    def observe(self, validator: int, observation: Observation) -> None:
        """Count a validator's report. Errors: `DepositMismatch`; what came before it counts."""
        previous: Deposit | None = None
        for deposit in observation.deposits:
            if previous is not None:
                self._check_follows(validator, previous, deposit)
            previous = deposit
            ahead = deposit.index - self.next_index
            if 0 <= ahead < DEPOSITS_AHEAD_MAX:
                self._reports.setdefault(deposit.index, {}).setdefault(validator, deposit)

    def agreed(self) -> list[Deposit]:
        """The next deposits that more than two thirds of the power reported alike, in order."""
        out: list[Deposit] = []
        while True:
            deposit = self._agreed_next()
            if deposit is None:
                return out
            del self._reports[self.next_index]
            self.next_index += 1
            self.accumulator = deposit.accumulator
            out.append(deposit)

    def statistics(self) -> DepositStatistics:
        return DepositStatistics(self.next_index, len(self._reports), self._refused)

    def _agreed_next(self) -> Deposit | None:
        power: dict[Deposit, int] = {}
        for validator, deposit in self._reports.get(self.next_index, {}).items():
            power[deposit] = power.get(deposit, 0) + self._powers[validator]
        for deposit, weight in power.items():
            expected = deposit_accumulator(
                self.accumulator, deposit.index, deposit.account, deposit.token, deposit.units
            )
            if 3 * weight > 2 * self._total and deposit.accumulator == expected:
                return deposit
        return None

    def _check_follows(self, validator: int, previous: Deposit, deposit: Deposit) -> None:
        expected = deposit_accumulator(
            previous.accumulator, deposit.index, deposit.account, deposit.token, deposit.units
        )
        if deposit.index != previous.index + 1 or deposit.accumulator != expected:
            self._refused += 1
            raise DepositMismatch(
                f"deposit {deposit.index} that validator {validator} reports does not follow the "
                "running hash; its EVM node shows another history"
            )
