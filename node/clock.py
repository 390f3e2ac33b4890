"""The node's clock: wall-clock milliseconds that never step back while the process lives.

When the machine's clock is set back, this one goes on, a tenth slower, until the other has caught
up: timers keep running, and the time in reports comes back to the truth by itself.
"""

import time
from collections.abc import Callable

_NS_PER_MS = 1_000_000
_SLOWER = 10  # while ahead of the machine's clock, one part in so many is left out


class Clock:
    """`wall_ns` is the machine's clock, `steady_ns` one that nobody sets."""

    def __init__(
        self,
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._wall_ns = wall_ns
        self._steady_ns = steady_ns
        self._read_ns = steady_ns()
        self._now_ns = wall_ns()

    def now_ms(self) -> int:
        """Milliseconds since 1970, as far as this machine knows."""
        steady, wall = self._steady_ns(), self._wall_ns()
        elapsed, self._read_ns = steady - self._read_ns, steady
        self._now_ns = max(wall, self._now_ns + elapsed - elapsed // _SLOWER)
        return self._now_ns // _NS_PER_MS
