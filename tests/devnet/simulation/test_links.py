"""Links and clocks do what their bounds say, and no more."""

import random

from devnet.simulation.clocks import Drift, LocalClock
from devnet.simulation.network import CALM, Links, Weather, between


def links(weather: Weather, seed: int = 1) -> Links:
    return Links(weather, random.Random(seed))


def test_calm_links_bring_everything_once_in_time() -> None:
    net = links(CALM)
    arrivals = [net.arrivals(0, 1, 100) for _ in range(200)]
    assert all(len(times) == 1 and 101 <= times[0] <= 108 for times in arrivals)
    assert net.lost == net.duplicated == 0


def test_messages_are_lost_and_duplicated_as_often_as_said() -> None:
    net = links(Weather(drop_ppm=300_000, duplicate_ppm=200_000))
    counts = [len(net.arrivals(0, 1, 0)) for _ in range(5_000)]
    assert 0.27 < counts.count(0) / 5_000 < 0.33
    assert 0.17 < counts.count(2) / (5_000 - counts.count(0)) < 0.23


def test_slow_messages_are_overtaken_unless_the_link_keeps_the_order() -> None:
    def times(*, ordered: bool) -> list[int]:
        net = links(Weather(slow_ppm=200_000, slow_ms=500, ordered=ordered))
        return [net.arrivals(0, 1, now)[0] for now in range(0, 2_000, 10)]

    assert times(ordered=True) == sorted(times(ordered=True))
    assert times(ordered=False) != sorted(times(ordered=False))


def test_a_cut_stops_one_direction_and_overlapping_cuts_are_mended_one_by_one() -> None:
    net = links(CALM)
    net.cut([(0, 1)])
    net.cut([(0, 1)])
    assert net.arrivals(0, 1, 0) == []
    assert net.arrivals(1, 0, 0)
    net.mend([(0, 1)])
    assert net.is_cut(0, 1)
    net.mend([(0, 1)])
    assert net.arrivals(0, 1, 0)


def test_a_partition_cuts_both_ways_between_the_sides_only() -> None:
    pairs = between((0, 2), 4)
    assert sorted(pairs) == [(0, 1), (0, 3), (1, 0), (1, 2), (2, 1), (2, 3), (3, 0), (3, 2)]


def test_a_clock_runs_at_its_own_rate() -> None:
    clock = LocalClock(Drift(50, 1_000), 1_000_000)
    assert clock.read(1_000_000) == 1_000_050
    assert clock.read(1_100_000) == 1_100_150


def test_a_process_never_sees_its_clock_step_back_but_the_next_one_may() -> None:
    clock = LocalClock(Drift(), 0)
    assert clock.read(5_000) == 5_000
    clock.jump(-3_000)
    assert clock.read(5_100) == 5_090
    assert clock.world_wait(5_200, 5_100) == 110
    clock.restart()
    assert clock.read(5_100) == 2_100


def test_waiting_takes_the_clocks_rate_into_account() -> None:
    clock = LocalClock(Drift(0, 200_000), 0)
    assert clock.world_wait(1_200, 0) == 1_000
    assert clock.world_wait(0, 10) == 0
