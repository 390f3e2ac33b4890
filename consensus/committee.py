"""The validators of one epoch: their keys, their power, what a quorum is, who leads."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from consensus.faults import BadVoteSignature, UnknownValidator
from consensus.leaders import Leaders, Standing
from primitives import ed25519
from primitives.hashing import digest

POWERS_ITEMS_MAX = 4_096  # sums of power kept; more: computed again
VALIDATORS_ITEMS_MAX = 32  # votes are broadcast; more would not scale: ValueError


Verify = Callable[[bytes, bytes, bytes], bool]
"""(public key, message, signature): whether the signature is good."""
Schedule = Callable[[int], int]
"""round -> index of its leader."""


class Signer(Protocol):
    """What can sign for a validator: an Ed25519 key, or a stand-in where only logic is tested."""

    public: bytes

    def sign(self, message: bytes) -> bytes:
        """A signature of 64 bytes."""


@dataclass(frozen=True)
class Validator:
    """A member of the committee; `public` is its Ed25519 consensus key."""

    public: bytes
    power: int


class Committee:
    """Validators by index, with integer power (PROTOCOL, Terms and 1).

    `verify` is the signature scheme and `schedule` the order of leaders; only simulations choose
    others than Ed25519 and the rules of `consensus.leaders`.
    """

    def __init__(
        self,
        network: bytes,
        epoch: int,
        validators: Sequence[Validator],
        *,
        verify: Verify = ed25519.verify,
        schedule: Schedule | None = None,
    ) -> None:
        if not 1 <= len(validators) <= VALIDATORS_ITEMS_MAX:
            raise ValueError(f"a committee has 1 to {VALIDATORS_ITEMS_MAX} validators")
        if any(validator.power <= 0 for validator in validators):
            raise ValueError("every validator has positive power")
        self.network = network
        self.epoch = epoch
        self.validators = tuple(validators)
        self.verify = verify
        self._schedule = schedule
        self._weights = [validator.power for validator in validators]
        self._powers_of: dict[int, int] = {}
        self.leaders = Leaders(network, epoch, [item.power for item in self.validators])
        self.total = sum(validator.power for validator in validators)
        self.fairness_bound = (self.total - 1) // 4
        """F: the largest integer below a quarter of the power."""

    def __len__(self) -> int:
        return len(self.validators)

    def power(self, index: int) -> int:
        """The power of validator `index`. Errors: `UnknownValidator`."""
        if not 0 <= index < len(self.validators):
            raise UnknownValidator(f"no validator {index} among {len(self.validators)}")
        return self.validators[index].power

    def power_of(self, members: int) -> int:
        """The power of the validators whose bits are set in `members`."""
        power = self._powers_of.get(members)
        if power is None:
            if len(self._powers_of) >= POWERS_ITEMS_MAX:
                self._powers_of.clear()
            power = sum(v.power for i, v in enumerate(self.validators) if members >> i & 1)
            self._powers_of[members] = power
        return power

    def is_quorum(self, power: int) -> bool:
        """Whether `power` is more than two thirds of the total."""
        return 3 * power > 2 * self.total

    def has_honest(self, power: int) -> bool:
        """Whether `power` must contain an honest validator: more than a third of the total."""
        return 3 * power > self.total

    def leader(self, round_: int, standing: Standing) -> int:
        """The leader of a round on top of blocks that give `standing`."""
        if self._schedule is not None:
            return self._schedule(round_)
        return self.leaders.leader(round_, standing)

    def standing_after(
        self, standing: Standing, settled: Standing, parent_round: int, round_: int, author: int
    ) -> Standing:
        """The leaders' standing after a block (see `consensus.leaders`)."""
        if self._schedule is not None:
            return standing
        return self.leaders.after(standing, settled, parent_round, round_, author)

    def next(self) -> "Committee":
        """The committee of the next epoch: the same validators."""
        return Committee(
            self.network,
            self.epoch + 1,
            self.validators,
            verify=self.verify,
            schedule=self._schedule,
        )

    def check(self, index: int, domain: str, body: bytes, signature: bytes) -> None:
        """Check a validator's signature over `body` under `domain`.

        Errors: `UnknownValidator`, `BadVoteSignature`.
        """
        self.power(index)
        message = digest(domain, self.network, body)
        if not self.verify(self.validators[index].public, message, signature):
            raise BadVoteSignature(f"validator {index} did not sign this {domain}")

    def weighted_median(self, values: Iterable[tuple[int, int]]) -> int:
        """The lower power-weighted median of (value, validator index) pairs, at least one.

        The smallest value such that those up to it hold at least half of the power present.
        """
        ordered = sorted(values)
        weights = self._weights
        half = sum(weights[index] for _, index in ordered)
        seen = 0
        for value, index in ordered:
            seen += 2 * weights[index]
            if seen >= half:
                return value
        raise ValueError("the median of nothing")
