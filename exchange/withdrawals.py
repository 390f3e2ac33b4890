"""Withdrawals that wait for a rollup block, and the cutting of one.

    queue.add(account, Withdrawal(recipient, token, units))
    rollup = queue.cut(height, time_ms, deposits, accumulator)      # or None

Units have left their account when they come here; they wait in the order of their requests.
"""

from collections import deque

from exchange.accounts import Account
from exchange.block import Rollup, Withdrawal
from exchange.faults import TooManyWithdrawals
from primitives import keccak_tree
from primitives.anchors import WITHDRAWAL_TREE_DEPTH_MAX, withdrawal_leaf

ROLLUP_WITHDRAWALS_MAX = 2**WITHDRAWAL_TREE_DEPTH_MAX  # the rest waits for the next rollup block
WITHDRAWALS_PER_ACCOUNT_MAX = 64  # one more, while these wait, is refused with E210


class WithdrawalQueue:
    """What waits, and the rollup blocks cut so far (`rollups`, the number of the last one)."""

    def __init__(self, interval_ms: int) -> None:
        self._interval_ms = interval_ms
        self._waiting: deque[tuple[Account, Withdrawal]] = deque()
        self._last_cut_ms = 0
        self.rollups = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def check_room(self, account: Account) -> None:
        """Errors: `TooManyWithdrawals`."""
        if account.withdrawals >= WITHDRAWALS_PER_ACCOUNT_MAX:
            raise TooManyWithdrawals(
                f"{account.withdrawals} withdrawals wait for a rollup block; repeat this after it"
            )

    def add(self, account: Account, withdrawal: Withdrawal) -> None:
        """Let a withdrawal wait for the next rollup block."""
        account.withdrawals += 1
        self._waiting.append((account, withdrawal))

    def cut(
        self, height: int, time_ms: int, deposits: int, accumulator: bytes
    ) -> tuple[Rollup, list[Account]] | None:
        """A rollup block and the accounts it serves; None when nothing waits or it is too soon.

        `deposits` were consumed so far, and `accumulator` is their running hash.
        """
        if not self._waiting or time_ms - self._last_cut_ms < self._interval_ms:
            return None
        self._last_cut_ms = time_ms
        self.rollups += 1
        count = min(len(self._waiting), ROLLUP_WITHDRAWALS_MAX)
        chosen = [self._waiting.popleft() for _ in range(count)]
        for account, _ in chosen:
            account.withdrawals -= 1
        withdrawals = [withdrawal for _, withdrawal in chosen]
        leaves = [
            withdrawal_leaf(self.rollups, index, item.account, item.token, item.units)
            for index, item in enumerate(withdrawals)
        ]
        rollup = Rollup(
            self.rollups, height, withdrawals, keccak_tree.root(leaves), deposits, accumulator
        )
        return rollup, [account for account, _ in chosen]
