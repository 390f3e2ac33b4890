"""The space of Twins scenarios, numbered: every index is one scenario, decoded at once.

    space = Space(validators=4, rounds=7)
    script = space.script(123_456)

Twins (Bano et al., "Twins: BFT systems made robust", OPODIS 2021): f = floor((n - 1) / 3)
validators run twice under one key, and per round a script says who hears whom and who leads.
A round's move is one choice of each of

    leader      an index; if it has a twin, both of them lead
    sets        a partition of all replicas, twins included, into at most `SETS_ITEMS_MAX` sets
    votes       whether votes reach the whole set; or in it only who leads the next round, at
                once, or late: after the others have given the round up

The third is not in the paper. Its protocols send votes to the next leader; ours broadcasts
them, so without it a certificate would be known to a whole set or to nobody.

Filters, after the paper's: partitions without a set that holds a quorum of different keys are
left out (nothing can be certified in such a round), and scenarios that differ only in the names
of replicas are counted once, as far as the first round can tell: it holds one representative of
every class under permutations of the honest, of the twinned, and of each pair of twins. Every
scenario can be renamed so that its first round is such a representative.

An index is a number in mixed radix whose lowest digit is the first round. Digit 0 of the other
rounds is the fault-free move (all connected, leaders in turn), so a prefix `range(k)` goes
through scenarios by the depth of their faults. `shuffled` gives the same indexes in a seeded
order without holding them.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from hashlib import blake2b

SETS_ITEMS_MAX = 3  # more sets leave no set with a quorum worth testing
VALIDATORS_COUNT_MAX = 10  # partitions grow like 3^n; beyond, ValueError
ROUNDS_COUNT_MAX = 16  # scripted rounds; the known attacks need at most a dozen
_FEISTEL_ROUNDS = 4

Partition = tuple[tuple[int, ...], ...]
"""Disjoint sets of replicas by slot, each ascending; replica slots are explained at `Shape`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Who there is: validator i < twinned runs as slot i and again as slot validators + i."""

    validators: int

    @property
    def twinned(self) -> int:
        return (self.validators - 1) // 3

    @property
    def slots(self) -> int:
        return self.validators + self.twinned

    def index_of(self, slot: int) -> int:
        """The validator whose key the replica in `slot` uses."""
        return slot if slot < self.validators else slot - self.validators

    def is_quorum(self, slots: tuple[int, ...]) -> bool:
        """Whether these replicas hold more than two thirds of the keys."""
        return 3 * len({self.index_of(slot) for slot in slots}) > 2 * self.validators


class Votes(IntEnum):
    """Whom the votes of a round reach, of the voter's set."""

    ALL = 0
    NEXT_LEADER = 1
    NEXT_LEADER_LATE = 2


@dataclass(frozen=True, slots=True)
class Move:
    """The script of one round; see the module's docstring."""

    leader: int
    sets: Partition
    votes: Votes


class Space:
    """All scenarios with `validators` validators and `rounds` scripted rounds."""

    def __init__(self, validators: int, rounds: int) -> None:
        if not 4 <= validators <= VALIDATORS_COUNT_MAX:
            raise ValueError(f"Twins takes 4 to {VALIDATORS_COUNT_MAX} validators")
        if not 1 <= rounds <= ROUNDS_COUNT_MAX:
            raise ValueError(f"a scenario has 1 to {ROUNDS_COUNT_MAX} scripted rounds")
        self.shape = Shape(validators)
        self.rounds = rounds
        self._partitions = _partitions(self.shape)
        self._first = _first_moves(self.shape)
        self._moves = validators * len(self._partitions) * len(Votes)

    def __len__(self) -> int:
        raise TypeError("a space may be larger than a length can be; use `size`")

    @property
    def size(self) -> int:
        """How many scenarios there are."""
        return int(len(self._first) * self._moves ** (self.rounds - 1))

    def script(self, index: int) -> tuple[Move, ...]:
        """The moves of scenario `index`, one per round. Errors: IndexError outside the space."""
        if not 0 <= index < self.size:
            raise IndexError(f"scenario {index} is not among {self.size}")
        rest, first = divmod(index, len(self._first))
        moves = [self._first[first]]
        for round_ in range(2, self.rounds + 1):
            rest, digit = divmod(rest, self._moves)
            moves.append(self._move(round_, digit))
        return tuple(moves)

    def _move(self, round_: int, digit: int) -> Move:
        rest, votes = divmod(digit, len(Votes))
        turn, partition = divmod(rest, len(self._partitions))
        leader = (round_ + turn) % self.shape.validators
        return Move(leader, self._partitions[partition], Votes(votes))

    def index_of(self, script: tuple[Move, ...]) -> int:
        """The index of a script that was written by hand.

        Errors: ValueError when it is not in the space; its first round must be the one of its
        class that the space holds.
        """
        if len(script) != self.rounds:
            raise ValueError(f"{len(script)} rounds in a space of {self.rounds}")
        index = 0
        for round_ in range(self.rounds, 1, -1):
            move = script[round_ - 1]
            turn = (move.leader - round_) % self.shape.validators
            digit = turn * len(self._partitions) + self._partitions.index(move.sets)
            index = index * self._moves + len(Votes) * digit + move.votes
        return index * len(self._first) + self._first.index(script[0])

    def shuffled(self, seed: int, start: int = 0) -> Iterator[int]:
        """Every index once, in an order that `seed` decides, from position `start` on."""
        return (self.shuffled_at(seed, place) for place in itertools.count(start))

    def shuffled_at(self, seed: int, place: int) -> int:
        """The index at `place` (modulo the size) of the order that `seed` decides.

        A Feistel network over the next even power of two; what falls outside the space is
        encrypted again until it falls inside, which keeps it a permutation.
        """
        half = max(1, ((self.size - 1).bit_length() + 1) // 2)
        key = blake2b(b"outcry-twins/1", key=seed.to_bytes(16, "big", signed=True)).digest()
        value = place % self.size
        while True:
            value = _feistel(value, half, key)
            if value < self.size:
                return value


def _feistel(value: int, half: int, key: bytes) -> int:
    mask = (1 << half) - 1
    left, right = value >> half, value & mask
    for number in range(_FEISTEL_ROUNDS):
        mixed = blake2b(number.to_bytes(1, "big") + right.to_bytes(40, "big"), key=key).digest()
        left, right = right, left ^ (int.from_bytes(mixed, "big") & mask)
    return left << half | right


@lru_cache(16)
def _partitions(shape: Shape) -> tuple[Partition, ...]:
    """Partitions into at most `SETS_ITEMS_MAX` sets, one of them with a quorum.

    By restricted growth strings: every slot joins a set that exists or opens the next one, which
    names each partition once (their number is a sum of Stirling numbers of the second kind).
    """
    found = []
    for labels in _growth_strings(shape.slots):
        sets = tuple(
            tuple(slot for slot, label in enumerate(labels) if label == number)
            for number in range(max(labels) + 1)
        )
        if any(shape.is_quorum(slots) for slots in sets):
            found.append(sets)
    return tuple(sorted(found, key=lambda sets: (len(sets), sets)))


def _growth_strings(length: int) -> Iterator[tuple[int, ...]]:
    def grow(labels: tuple[int, ...], used: int) -> Iterator[tuple[int, ...]]:
        if len(labels) == length:
            yield labels
            return
        for label in range(min(used + 1, SETS_ITEMS_MAX)):
            yield from grow((*labels, label), max(used, label + 1))

    return grow((), 0)


@lru_cache(16)
def _first_moves(shape: Shape) -> tuple[Move, ...]:
    """One move of every class under renaming of replicas."""
    kept: dict[tuple[object, ...], Move] = {}
    for sets in _partitions(shape):
        for leader in range(shape.validators):
            kept.setdefault(_class_of(shape, leader, sets), Move(leader, sets, Votes.ALL))
    return tuple(Move(move.leader, move.sets, votes) for move in kept.values() for votes in Votes)


def _class_of(shape: Shape, leader: int, sets: Partition) -> tuple[object, ...]:
    """The same for two first rounds exactly when renaming makes one of the other.

    An honest replica is anonymous but for leading. The names of the twinned and of each of a
    pair are tried in all ways, and the least description counts.
    """
    return min(_descriptions(shape, leader, sets))


def _descriptions(shape: Shape, leader: int, sets: Partition) -> Iterator[tuple[object, ...]]:
    twinned = shape.twinned
    for order in itertools.permutations(range(twinned)):
        for swaps in itertools.product((0, 1), repeat=twinned):
            described = []
            for slots in sets:
                twins = sorted(
                    2 * order[shape.index_of(slot)]
                    + ((slot >= shape.validators) ^ swaps[slot % shape.validators])
                    for slot in slots
                    if shape.index_of(slot) < twinned
                )
                honest = len(slots) - len(twins)
                leads = leader in slots and leader >= twinned
                described.append((honest, leads, tuple(twins)))
            yield (order[leader] if leader < twinned else twinned, tuple(sorted(described)))
