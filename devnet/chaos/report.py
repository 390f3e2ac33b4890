"""What a run of chaos found out, as data: the JSON of `outcry devnet chaos --json FILE`."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import msgspec

from devnet.chaos.audit import BlockSeen, CheckpointSeen
from devnet.chaos.injection import Done
from devnet.chaos.orders import OrderStatistics
from devnet.chaos.schedule import Kind, Schedule
from devnet.chaos.watching import Evidence
from devnet.check import Finding

VOTING_MS_AIM = 5_000  # from the start of a killed validator's process to its next vote
ONE_DEAD_RATIO_AIM = 0.8  # throughput with one dead, of that without a fault


class Window(msgspec.Struct, frozen=True):
    """Throughput in a part of the run, by the times of the blocks."""

    name: str
    from_s: float
    to_s: float
    orders_per_second: float
    blocks_per_second: float
    longest_gap_ms: int


class ChaosReport(msgspec.Struct, frozen=True):
    """The whole report. `lost`: orders with a receipt that some node did not execute."""

    network: str
    directory: str
    seed: int
    minutes: float
    links: str
    rate: int
    schedule: Schedule
    done: list[Done]
    most_suffering: int
    orders: OrderStatistics
    executed: int
    lost: int
    windows: list[Window]
    one_dead_ratio: float | None
    voting_ms_after_kill: list[int | None]
    checkpoints: list[CheckpointSeen]
    evidence: list[Evidence]
    findings: list[Finding]
    whole: bool
    seconds: float


def windows(
    schedule: Schedule,
    done: Sequence[Done],
    blocks: Sequence[BlockSeen],
    executed: Mapping[int, int],
    began_ms: int,
    settling_s: float,
) -> list[Window]:
    """Throughput without a fault, with one dead after `settling_s`, and over the whole run."""
    spans = [("fault-free", 0.0, schedule.quiet_s)]
    dead = [item for item in done if item.kind is Kind.KILL and item.planned_s == schedule.quiet_s]
    spans += [("one dead", item.began_s + settling_s, item.healed_s) for item in dead]
    spans.append(("whole run", 0.0, schedule.seconds))
    return [_window(span, blocks, executed, began_ms) for span in spans]


def _window(
    span: tuple[str, float, float],
    blocks: Sequence[BlockSeen],
    executed: Mapping[int, int],
    began_ms: int,
) -> Window:
    name, from_s, to_s = span
    first, last = began_ms + from_s * 1_000, began_ms + to_s * 1_000
    inside = [block for block in blocks if first <= block.time_ms < last]
    times = [round(first), *(block.time_ms for block in inside), round(last)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    seconds = max(to_s - from_s, 0.001)
    return Window(
        name,
        round(from_s, 1),
        round(to_s, 1),
        round(sum(executed.get(block.height, 0) for block in inside) / seconds, 1),
        round(len(inside) / seconds, 1),
        max(gaps),
    )


def one_dead_ratio(found: Sequence[Window]) -> float | None:
    """Throughput with one dead over that without a fault, None where one was not measured."""
    rates = {window.name: window.orders_per_second for window in found}
    if not rates.get("fault-free") or "one dead" not in rates:
        return None
    return round(rates["one dead"] / rates["fault-free"], 3)


def voting_after_kill(done: Sequence[Done]) -> list[int | None]:
    """Milliseconds from process start to voting again, for every single kill -9."""
    killed = [item for item in done if item.kind is Kind.KILL]
    return [value for item in killed for value in item.voting_ms.values()]
