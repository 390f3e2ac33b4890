"""Who leads a round: the rotation over power, and who is passed over (PROTOCOL 1).

The rotation is CometBFT's proposer priority: in every round each validator gains its power in
priority, the one with the most leads and pays the total for it. So over any long span everybody
leads in proportion to power, and turns are spread evenly. Ties go to the order of a permutation
that network and epoch determine.

A leader that fails is passed over for a while, longer with each failure in a row. The rule reads
only skipped rounds in the proposal's own ancestors, up to the last one that they commit: all who
look at a block compute the same leader. Never are so many passed over that the rest is no quorum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from primitives.hashing import digest

PENALTY_ROUNDS = 64  # a leader is passed over this long after its first failure
PENALTY_GROWTH = 4  # and so many times longer after each further one in a row
PENALTY_ROUNDS_MAX = 4_096  # but not longer: then it gets another turn
FAILURES_MAX = 8  # counting stops here
SKIPPED_ROUNDS_MAX = 64  # of a longer gap only the last rounds are held against their leaders
CYCLE_ROUNDS_MAX = 8_192  # the rotation repeats after these, if not before by itself
ROTATIONS_ITEMS_MAX = 64  # rotations kept for different sets of those passed over
_PERMUTATION = "outcry/leaders/1"


@dataclass(frozen=True, slots=True)
class Failures:
    """A leader's failures in a row, and the first round in which it may lead again."""

    count: int
    until: int


NO_FAILURES = Failures(0, 0)
Standing = tuple[Failures, ...]
"""One entry per validator."""


class Leaders:
    """The leaders of one epoch, for validators with these powers."""

    def __init__(self, network: bytes, epoch: int, powers: Sequence[int]) -> None:
        self._powers = tuple(powers)
        self._total = sum(powers)
        ranks = [
            digest(_PERMUTATION, network, epoch.to_bytes(8, "big"), index.to_bytes(2, "big"))
            for index in range(len(powers))
        ]
        self._order = sorted(range(len(powers)), key=lambda index: ranks[index])
        self._rotations: dict[frozenset[int], _Rotation] = {}

    def first(self) -> Standing:
        """The standing before anybody failed."""
        return (NO_FAILURES,) * len(self._powers)

    def leader(self, round_: int, standing: Standing) -> int:
        """The index of the leader of `round_` for blocks whose ancestors gave `standing`."""
        passed = self.passed_over(round_, standing)
        rotation = self._rotations.get(passed)
        if rotation is None:
            while len(self._rotations) >= ROTATIONS_ITEMS_MAX:
                del self._rotations[next(iter(self._rotations))]
            members = [index for index in self._order if index not in passed]
            rotation = self._rotations[passed] = _Rotation(members, self._powers)
        return rotation.at(round_)

    def passed_over(self, round_: int, standing: Standing) -> frozenset[int]:
        """Who does not get a turn in `round_`: the worst ones, always less than a third."""
        failed = [
            (-item.count, -item.until, index)
            for index, item in enumerate(standing)
            if item.until > round_
        ]
        if not failed:
            return frozenset()
        out: set[int] = set()
        power = 0
        for _, _, index in sorted(failed):
            if 3 * (power + self._powers[index]) < self._total:
                power += self._powers[index]
                out.add(index)
        return frozenset(out)

    def after(
        self, standing: Standing, settled: Standing, parent_round: int, round_: int, author: int
    ) -> Standing:
        """The standing after a block of `round_` by `author` on a parent of `parent_round`.

        `settled` decided who led the rounds between the two.
        """
        changed: dict[int, Failures] = {}
        for skipped in range(max(parent_round + 1, round_ - SKIPPED_ROUNDS_MAX), round_):
            leader = self.leader(skipped, settled)
            count = min(changed.get(leader, standing[leader]).count + 1, FAILURES_MAX)
            penalty = min(PENALTY_ROUNDS * PENALTY_GROWTH ** (count - 1), PENALTY_ROUNDS_MAX)
            changed[leader] = Failures(count, skipped + penalty)
        if standing[author].count or author in changed:
            changed[author] = NO_FAILURES
        if not changed:
            return standing
        return tuple(changed.get(index, item) for index, item in enumerate(standing))


def carried_over(standing: Standing, last_round: int) -> Standing:
    """The standing with which an epoch begins, after one whose last block was of `last_round`."""
    return tuple(Failures(item.count, max(0, item.until - last_round)) for item in standing)


class _Rotation:
    """Proposer priority among `members` (in the order of ties), computed as far as asked."""

    def __init__(self, members: Sequence[int], powers: Sequence[int]) -> None:
        self._powers = {index: powers[index] for index in members}
        self._total = sum(self._powers.values())
        self._priorities = dict.fromkeys(members, 0)
        self._sequence: list[int] = []
        self._cycle = CYCLE_ROUNDS_MAX

    def at(self, round_: int) -> int:
        place = (round_ - 1) % self._cycle
        while len(self._sequence) <= place:
            self._turn()
            if not any(self._priorities.values()):
                self._cycle = len(self._sequence)
                place = (round_ - 1) % self._cycle
        return self._sequence[place]

    def _turn(self) -> None:
        priorities = self._priorities
        for index, power in self._powers.items():
            priorities[index] += power
        chosen = max(priorities, key=priorities.__getitem__)  # the first of equals
        priorities[chosen] -= self._total
        self._sequence.append(chosen)
