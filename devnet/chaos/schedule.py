"""What is done to whom and when: a pure function of the seed.

    plan = make_schedule(seed=1, seconds=180, validators=["v0", ..., "v4"])
    plan.steps

First nothing for a while, so that there is something to compare with; then, in runs that are long
enough, one validator is dead for long; then one fault after the other. Never more than f
validators suffer at a time, counting the time that they need to come back; at the end all is
healed.
"""

import random
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from devnet.faults import TooFewValidators

SECONDS_MIN: Final = 12.0
MEASURED_SECONDS_MIN: Final = 60.0  # a shorter run does not measure throughput with one dead
QUIET_S_MAX: Final = 30.0
QUIET_SHARE: Final = 0.2  # of the whole run, at most QUIET_S_MAX
DEAD_SETTLING_S: Final = 10.0  # throughput with one dead counts from here on
DEAD_MEASURED_S_MAX: Final = 20.0
DEAD_MEASURED_SHARE: Final = 0.2
RETURN_S: Final = 5.0  # a validator counts as suffering this much longer than its fault
HOLD_S: Final = (1.5, 12.0)  # how long a fault lasts
HOLD_SHARE: Final = 0.25  # of the whole run, at most the longer of HOLD_S
GAP_S: Final = (0.0, 3.0)  # from a validator's return to the next fault
BLACKOUT_S: Final = 3.0


class Kind(StrEnum):
    """What can happen to a validator."""

    KILL = "kill"  # kill -9, started again at the end
    RESTART = "restart"  # stopped cleanly, started again at the end
    PAUSE = "pause"  # SIGSTOP, SIGCONT at the end
    CUT = "cut"  # its links to all other validators are cut
    MUTE = "mute"  # what it sends does not reach them
    DEAFEN = "deafen"  # what they send does not reach it
    BLACKOUT = "blackout"  # kill -9 of everybody at once


RANDOM_KINDS: Final = (
    Kind.KILL,
    Kind.KILL,
    Kind.RESTART,
    Kind.PAUSE,
    Kind.CUT,
    Kind.MUTE,
    Kind.DEAFEN,
)


class Step(msgspec.Struct, frozen=True):
    """One fault: from `at_s` to `until_s`, in seconds after the start of the run."""

    kind: Kind
    who: tuple[str, ...]
    at_s: float
    until_s: float


class Schedule(msgspec.Struct, frozen=True):
    """All steps in order of time; `quiet_s` is the fault-free time at the start."""

    seed: int
    seconds: float
    faults_max: int
    quiet_s: float
    steps: tuple[Step, ...]


def faults_max(validators: int) -> int:
    """How many of `validators` equal ones may fail while the others still agree: n > 3f."""
    return (validators - 1) // 3


def make_schedule(
    seed: int, seconds: float, validators: Sequence[str], *, blackout: bool = False
) -> Schedule:
    """The schedule of a seed.

    Errors: `TooFewValidators`; ValueError below SECONDS_MIN.
    """
    bound = faults_max(len(validators))
    if bound == 0:
        raise TooFewValidators(
            f"{len(validators)} validators agree only while all are well; start 4 or more"
        )
    if seconds < SECONDS_MIN:
        raise ValueError(f"a run takes at least {SECONDS_MIN:.0f} s")
    rng = random.Random(seed)
    quiet_s = round(min(QUIET_S_MAX, seconds * QUIET_SHARE), 1)
    steps = []
    begin = quiet_s
    if seconds >= MEASURED_SECONDS_MIN:
        dead_s = DEAD_SETTLING_S + min(DEAD_MEASURED_S_MAX, seconds * DEAD_MEASURED_SHARE)
        victim = rng.choice(list(validators))
        first = Step(Kind.KILL, (victim,), quiet_s, round(quiet_s + dead_s, 1))
        steps.append(first)
        begin = first.until_s + RETURN_S
    if blackout:
        everybody = Step(Kind.BLACKOUT, tuple(validators), begin, begin + BLACKOUT_S)
        steps.append(everybody)
        begin = everybody.until_s + 2 * RETURN_S
    steps += _faults(rng, begin, seconds, validators, bound)
    kept = tuple(sorted(steps, key=lambda step: step.at_s))
    return Schedule(seed, seconds, bound, quiet_s, kept)


def _faults(
    rng: random.Random, begin: float, end: float, validators: Sequence[str], bound: int
) -> list[Step]:
    """Random faults in `bound` lanes; a validator is in one lane at a time."""
    steps: list[Step] = []
    free_at = [begin + rng.uniform(*GAP_S) for _ in range(bound)]
    hold_s = min(HOLD_S[1], end * HOLD_SHARE)
    busy_until = dict.fromkeys(validators, 0.0)
    while True:
        lane = min(range(bound), key=lambda number: free_at[number])
        at_s = round(free_at[lane], 1)
        until_s = round(at_s + rng.uniform(HOLD_S[0], hold_s), 1)
        free = [name for name in validators if busy_until[name] <= at_s]
        step = Step(rng.choice(RANDOM_KINDS), (rng.choice(free),), at_s, until_s)
        if until_s > end:
            return steps
        steps.append(step)
        back_s = until_s + RETURN_S
        busy_until[step.who[0]] = back_s
        free_at[lane] = back_s + rng.uniform(*GAP_S)


def suffering(schedule: Schedule, at_s: float) -> set[str]:
    """Who suffers at a moment, a blackout left out: it is meant to take everybody."""
    return {
        name
        for step in schedule.steps
        if step.kind is not Kind.BLACKOUT and step.at_s <= at_s < step.until_s + RETURN_S
        for name in step.who
    }
