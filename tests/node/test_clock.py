"""The node's clock follows the machine's, and never stands still or steps back."""

from hypothesis import given
from hypothesis import strategies as st

from node.clock import Clock

MS = 1_000_000


class Machine:
    def __init__(self):
        self.wall = 1_000_000 * MS
        self.steady = 0

    def clock(self):
        return Clock(lambda: self.wall, lambda: self.steady)

    def passes(self, ms):
        self.wall += ms * MS
        self.steady += ms * MS


def test_it_shows_the_machines_time():
    machine = Machine()
    clock = machine.clock()
    machine.passes(70)
    assert clock.now_ms() == 1_000_070


def test_set_back_it_goes_on_and_comes_back_to_the_truth():
    machine = Machine()
    clock = machine.clock()
    machine.wall -= 3_600_000 * MS
    machine.passes(1_000)
    assert clock.now_ms() == 1_000_900
    for _ in range(10 * 3_600):
        machine.passes(1_000)
        clock.now_ms()
    machine.passes(1)
    assert clock.now_ms() == machine.wall // MS


def test_set_forward_it_follows_at_once():
    machine = Machine()
    clock = machine.clock()
    machine.wall += 5_000 * MS
    assert clock.now_ms() == 1_005_000


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(-10_000, 10_000)), max_size=30))
def test_it_never_steps_back_and_timers_never_stop(steps):
    machine = Machine()
    clock = machine.clock()
    last = clock.now_ms()
    for elapsed, jump in steps:
        machine.passes(elapsed)
        machine.wall += jump * MS
        now = clock.now_ms()
        assert now >= last + elapsed * 9 // 10 - 1
        last = now
