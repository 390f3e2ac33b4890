"""The links between nodes: they lose, delay, duplicate and reorder, and can be cut one way.

Every ordered pair of nodes is a link of its own, so that A may hear B while B is deaf to A.
"""

import random
from dataclasses import dataclass

PPM = 1_000_000
COPIES_MAX = 2  # a duplicated message arrives this many times


@dataclass(frozen=True, slots=True)
class Weather:
    """How links behave.

    drop_ppm       messages that are lost
    duplicate_ppm  messages that arrive twice
    slow_ppm       messages that take up to `slow_ms` longer, so that later ones overtake them
    delay_ms       what a message takes: from, to
    ordered        whether a link keeps the order, as a stream does
    """

    drop_ppm: int = 0
    duplicate_ppm: int = 0
    slow_ppm: int = 0
    slow_ms: int = 0
    delay_ms: tuple[int, int] = (1, 8)
    ordered: bool = False


CALM = Weather()


class Links:
    """All links of a world; randomness comes from the world's seed."""

    def __init__(self, weather: Weather, randomness: random.Random) -> None:
        self.weather = weather
        self._random = randomness
        self._cuts: dict[tuple[int, int], int] = {}
        self._last_ms: dict[tuple[int, int], int] = {}
        self.sent = self.lost = self.duplicated = 0

    def cut(self, pairs: list[tuple[int, int]]) -> None:
        """Nothing passes from the first to the second of each pair; cuts may overlap."""
        for pair in pairs:
            self._cuts[pair] = self._cuts.get(pair, 0) + 1

    def mend(self, pairs: list[tuple[int, int]]) -> None:
        """Take back one `cut` of the same pairs."""
        for pair in pairs:
            self._cuts[pair] -= 1

    def is_cut(self, sender: int, to: int) -> bool:
        return self._cuts.get((sender, to), 0) > 0

    def arrivals(self, sender: int, to: int, now_ms: int) -> list[int]:
        """When a message sent now arrives: never, once or twice."""
        self.sent += 1
        weather, dice = self.weather, self._random
        if self.is_cut(sender, to) or (weather.drop_ppm and dice.randrange(PPM) < weather.drop_ppm):
            self.lost += 1
            return []
        copies = 1
        if weather.duplicate_ppm and dice.randrange(PPM) < weather.duplicate_ppm:
            self.duplicated += 1
            copies = COPIES_MAX
        return [self._arrival(sender, to, now_ms) for _ in range(copies)]

    def _arrival(self, sender: int, to: int, now_ms: int) -> int:
        weather, dice = self.weather, self._random
        at_ms = now_ms + dice.randint(*weather.delay_ms)
        if weather.slow_ppm and dice.randrange(PPM) < weather.slow_ppm:
            at_ms += dice.randint(1, max(1, weather.slow_ms))
        if weather.ordered:
            at_ms = max(at_ms, self._last_ms.get((sender, to), 0))
            self._last_ms[(sender, to)] = at_ms
        return at_ms


def between(side: tuple[int, ...], count: int) -> list[tuple[int, int]]:
    """The links, both ways, between the nodes of `side` and all other of `count` nodes."""
    others = [node for node in range(count) if node not in side]
    return [pair for a in side for b in others for pair in ((a, b), (b, a))]
