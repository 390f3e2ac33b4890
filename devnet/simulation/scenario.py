"""A scenario: everything that one seed decides before a simulation begins.

    scenario = generate(7)
    scenario == scenario_from(scenario_json(scenario))

Times are milliseconds of the world since its start; `epoch_ms` is 0 for a single epoch. All
faults end at `heal_ms`; liars lie on, and those who are dead stay so, together always below a
third of the power.
"""

import random
from dataclasses import dataclass

import msgspec

from consensus import Timing
from devnet.simulation.byzantine import HABITS, Liar
from devnet.simulation.clocks import Drift
from devnet.simulation.network import Weather

SIZES = (*(4,) * 8, *(5,) * 8, *(7,) * 3, 16)  # how many validators, as often as listed
DISTURBANCES_ITEMS_MAX = 6
ENVELOPES_ITEMS_MAX = 40
PARTITION_MS_MIN = 2_000  # unless all heals before: both sides shall try to go on alone
HEAL_MS_MIN = 1_500
HEAL_MS_MAX = 6_000
PATIENCE_MS = 90_000  # longer after healing: liveness-after-heal fails
POWER_MIN_UNITS, POWER_MAX_UNITS = 60, 108  # the largest ratio of two powers is 1.8
EPOCHS_MS = (0, 0, 700, 2_500)  # how long epochs last, as often as listed; 0: for ever
CRASH_POINTS = ("now", "effects", "lost", "torn", "behind")
CRASH_EFFECTS_MAX = 4  # effects carried out before a crash between two of them
HABITS_ITEMS_MAX = 3
TARGETS_ITEMS_MAX = 3  # nodes that a trader hands one envelope to
EAGER = Timing(
    idle_interval_ms=60, report_idle_ms=80, round_timeout_ms=500, resend_ms=300
)  # many more rounds in the same virtual time
DISTURBANCES = (
    "crash",
    "crash",
    "blackout",
    "partition",
    "partition",
    "partition",
    "one-way",
    "pause",
    "clock-jump",
    "slow-disk",
    "full-disk",
)


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What goes wrong from `at_ms` to `until_ms`.

    crash       `nodes` end (`detail`: where; `amount` effects or permille of a write) and restart
    blackout    all nodes end at once and restart
    partition   `nodes` cannot talk to the others
    one-way     nothing passes from nodes[0] to nodes[1]
    pause       `nodes` do nothing, as by SIGSTOP
    clock-jump  the clocks of `nodes` are set by `amount` ms
    slow-disk   every flush of `nodes` takes `amount` ms longer
    full-disk   nothing more fits on the disks of `nodes`: they end, and restart at the end
    """

    kind: str
    at_ms: int
    until_ms: int
    nodes: tuple[int, ...]
    amount: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Submission:
    """A trader hands envelope `number` to nodes; a forged one nobody may execute."""

    at_ms: int
    number: int
    to: tuple[int, ...]
    forged: bool = False


@dataclass(frozen=True, slots=True)
class Scenario:
    """See the module's docstring. `nodes` is the kind of node, `powers` by validator."""

    seed: int
    nodes: str
    signatures: str
    powers: tuple[int, ...]
    timing: Timing
    epoch_ms: int
    weather: Weather
    drifts: tuple[Drift, ...]
    liars: tuple[Liar, ...]
    dead: tuple[int, ...]
    disturbances: tuple[Disturbance, ...]
    load: tuple[Submission, ...]
    heal_ms: int
    patience_ms: int = PATIENCE_MS


def generate(seed: int, nodes: str = "agreement", count: int | None = None) -> Scenario:
    """The scenario of a seed, with `count` validators where that is given."""
    dice = random.Random(f"outcry/scenario/{seed}")
    count = count or dice.choice(SIZES)
    powers = _powers(dice, count)
    heal_ms = dice.randint(HEAL_MS_MIN, HEAL_MS_MAX)
    liars, dead = _faulty(dice, powers)
    disturbances = [
        _disturbance(dice, count, heal_ms) for _ in range(dice.randint(0, DISTURBANCES_ITEMS_MAX))
    ]
    return Scenario(
        seed=seed,
        nodes=nodes,
        signatures="stand-in",
        powers=powers,
        timing=Timing() if dice.random() < 0.4 else EAGER,
        epoch_ms=dice.choice(EPOCHS_MS),
        weather=_weather(dice),
        drifts=tuple(_drift(dice) for _ in range(count)),
        liars=liars,
        dead=dead,
        disturbances=tuple(sorted(disturbances, key=lambda item: (item.at_ms, item.until_ms))),
        load=_load(dice, count, heal_ms),
        heal_ms=heal_ms,
    )


def _powers(dice: random.Random, count: int) -> tuple[int, ...]:
    if dice.random() < 0.5:
        return (1,) * count
    return tuple(dice.randint(POWER_MIN_UNITS, POWER_MAX_UNITS) for _ in range(count))


def _faulty(
    dice: random.Random, powers: tuple[int, ...]
) -> tuple[tuple[Liar, ...], tuple[int, ...]]:
    """Liars and dead ones; together below a third of the power and of the validators."""
    if dice.random() < 0.3:
        return (), ()
    wanted = dice.randint(1, max(1, (len(powers) - 1) // 3))
    liars, dead, spent = [], [], 0
    for index in dice.sample(range(len(powers)), wanted):
        if 3 * (spent + powers[index]) >= sum(powers):
            break
        spent += powers[index]
        if dice.random() < 0.2:
            dead.append(index)
        else:
            habits = dice.sample(HABITS, dice.randint(1, HABITS_ITEMS_MAX))
            liars.append(Liar(index, tuple(sorted(habits))))
    return tuple(sorted(liars, key=lambda liar: liar.index)), tuple(sorted(dead))


def _weather(dice: random.Random) -> Weather:
    nearest = dice.choice((1, 1, 2, 10))
    return Weather(
        drop_ppm=dice.choice((0, 0, 1_000, 20_000, 100_000)),
        duplicate_ppm=dice.choice((0, 10_000, 200_000)),
        slow_ppm=dice.choice((0, 0, 20_000, 100_000)),
        slow_ms=dice.choice((50, 300, 2_000)),
        delay_ms=(nearest, nearest + dice.choice((2, 10, 80))),
        ordered=dice.random() < 0.5,
    )


def _drift(dice: random.Random) -> Drift:
    return Drift(dice.randint(-300, 300), dice.randint(-200, 200))


def _disturbance(dice: random.Random, count: int, heal_ms: int) -> Disturbance:
    kind = dice.choice(DISTURBANCES)
    at_ms = dice.randrange(0, heal_ms - 100)
    until_ms = dice.randint(at_ms + 50, heal_ms)
    some = tuple(sorted(dice.sample(range(count), dice.randint(1, max(1, count // 2)))))
    one = (dice.randrange(count),)
    match kind:
        case "crash":
            point = dice.choice(CRASH_POINTS)
            amount = dice.randint(0, CRASH_EFFECTS_MAX if point == "effects" else 1_000)
            return Disturbance(kind, at_ms, until_ms, one, amount, point)
        case "blackout":
            point = dice.choice(CRASH_POINTS)
            amount = dice.randint(0, CRASH_EFFECTS_MAX if point == "effects" else 1_000)
            return Disturbance(kind, at_ms, until_ms, tuple(range(count)), amount, point)
        case "partition":
            half = tuple(sorted(dice.sample(range(count), count // 2)))
            until_ms = max(until_ms, min(heal_ms, at_ms + PARTITION_MS_MIN))
            return Disturbance(kind, at_ms, until_ms, dice.choice((some, half)))
        case "one-way":
            return Disturbance(kind, at_ms, until_ms, tuple(dice.sample(range(count), 2)))
        case "clock-jump":
            return Disturbance(kind, at_ms, until_ms, one, dice.randint(-2_000, 2_000))
        case "slow-disk":
            return Disturbance(kind, at_ms, until_ms, some, dice.randint(5, 300))
        case _:
            return Disturbance(kind, at_ms, until_ms, one)


def _load(dice: random.Random, count: int, heal_ms: int) -> tuple[Submission, ...]:
    submissions = []
    for number in range(dice.randint(1, ENVELOPES_ITEMS_MAX)):
        to = dice.sample(range(count), dice.randint(1, min(count, TARGETS_ITEMS_MAX)))
        forged = dice.random() < 0.1
        submissions.append(Submission(dice.randrange(heal_ms), number, tuple(to), forged))
    return tuple(sorted(submissions, key=lambda item: item.at_ms))


def scenario_json(scenario: Scenario) -> bytes:
    """The scenario as indented JSON."""
    return msgspec.json.format(msgspec.json.encode(scenario), indent=2)


def scenario_from(data: bytes) -> Scenario:
    """What `scenario_json` wrote. Errors: `msgspec.DecodeError`."""
    return msgspec.json.decode(data, type=Scenario)


def in_words(scenario: Scenario) -> list[str]:
    """The scenario as sentences, one a line."""
    weather = scenario.weather
    lines = [
        f"seed {scenario.seed}: {len(scenario.powers)} {scenario.nodes} nodes "
        f"of power {', '.join(map(str, scenario.powers))}",
        f"messages take {weather.delay_ms[0]} to {weather.delay_ms[1]} ms, "
        f"{weather.drop_ppm / 10_000:g}% are lost, {weather.duplicate_ppm / 10_000:g}% arrive "
        f"twice, {weather.slow_ppm / 10_000:g}% take up to {weather.slow_ms} ms longer; links "
        + ("keep the order" if weather.ordered else "reorder"),
        f"leaders are waited for {scenario.timing.round_timeout_ms} ms; "
        + (f"epochs last {scenario.epoch_ms} ms" if scenario.epoch_ms else "one epoch"),
    ]
    lines += [f"v{liar.index} lies: {', '.join(liar.habits)}" for liar in scenario.liars]
    lines += [f"v{index} never starts" for index in scenario.dead]
    for item in scenario.disturbances:
        who = ", ".join(f"v{index}" for index in item.nodes)
        detail = f" {item.detail}" if item.detail else ""
        amount = f" ({item.amount})" if item.amount else ""
        lines.append(f"{item.at_ms} to {item.until_ms} ms: {item.kind}{detail}{amount} of {who}")
    forged = sum(item.forged for item in scenario.load)
    lines.append(f"traders hand in {len(scenario.load)} envelopes, {forged} of them forged")
    lines.append(
        f"all heals at {scenario.heal_ms} ms; then everything accepted is executed within "
        f"{scenario.patience_ms // 1_000} s"
    )
    return lines
