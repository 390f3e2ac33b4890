"""A node's clock as a function of the world's time: set wrong, running fast or slow, jumping.

A process never sees its clock step back (`node.driver` sees to that), but a restarted one may.
"""

from dataclasses import dataclass

from node.clock import Clock

_NS_PER_MS = 1_000_000
PPM = 1_000_000


@dataclass(frozen=True, slots=True)
class Drift:
    """How a clock differs from the world's: by `offset_ms` at the start, and a rate."""

    offset_ms: int = 0
    rate_ppm: int = 0


class LocalClock:
    """One machine's clock, read by one process after the other."""

    def __init__(self, drift: Drift, start_ms: int) -> None:
        self._rate_ppm = drift.rate_ppm
        self._start_ms = start_ms
        self._offset_ms = drift.offset_ms
        self._world_ms = start_ms
        self._clock = self._new_clock()

    def _new_clock(self) -> Clock:
        return Clock(
            lambda: self._machine(self._world_ms) * _NS_PER_MS, lambda: self._world_ms * _NS_PER_MS
        )

    def read(self, world_ms: int) -> int:
        """The process' time: the machine's, except while that was set back (`node.clock`)."""
        self._world_ms = world_ms
        return self._clock.now_ms()

    def jump(self, by_ms: int) -> None:
        """The machine's time is set, forwards or backwards."""
        self._offset_ms += by_ms

    def restart(self) -> None:
        """Another process reads from now on; it does not know what the last one read."""
        self._clock = self._new_clock()

    def world_wait(self, local_ms: int, world_ms: int) -> int:
        """Milliseconds of the world until this clock shows `local_ms`, at least 0; a little
        early while the machine's clock was set back."""
        behind = local_ms - self.read(world_ms)
        return max(0, -(-behind * PPM // (PPM + self._rate_ppm)))

    def _machine(self, world_ms: int) -> int:
        elapsed = world_ms - self._start_ms
        return world_ms + self._offset_ms + elapsed * self._rate_ppm // PPM
