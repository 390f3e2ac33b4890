"""Log lines for what may happen thousands of times a second.

    refusals = Repeated("refused")
    refusals.tell("E304", validator=2, reason="...")

The first of a kind is told at once. Those that follow within `SUMMARY_S_MIN` are only counted; the
first one after that is told with `more`, how many were left out. Who calls `tell_due` now and then
has also told what was counted of a kind that has stopped; `tell_rest` is for the end.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import structlog

log = structlog.get_logger(__name__)

SUMMARY_S_MIN = 10.0  # between two lines of one kind
DUE_S_MIN = 1.0  # between two looks for what is due
KINDS_ITEMS_MAX = 256  # further kinds are counted together, as one


@dataclass(frozen=True)
class RepeatedStatistics:
    """What happened, how often it was told, and how many wait for the next line."""

    seen: int
    told: int
    waiting: int


@dataclass(slots=True)
class _Kind:
    told_s: float
    more: int = 0


class Repeated:
    """One event of the log, told as a warning; `kind` is what tells its lines apart."""

    def __init__(
        self,
        event: str,
        *,
        logger: Any = log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._event = event
        self._log = logger
        self._clock = clock
        self._kinds: dict[Hashable, _Kind] = {}
        self._seen = self._told = 0
        self._looked_s = clock()

    def tell(self, kind: Hashable, **details: Any) -> None:
        """Say it now, or count it; `details` are those of this time."""
        self._seen += 1
        now = self._clock()
        if kind not in self._kinds and len(self._kinds) >= KINDS_ITEMS_MAX:
            kind = None
        found = self._kinds.get(kind)
        if found is None:
            self._kinds[kind] = _Kind(now)
            self._say(details)
        elif now - found.told_s < SUMMARY_S_MIN:
            found.more += 1
        else:
            more, found.more, found.told_s = found.more, 0, now
            self._say({**details, "more": more} if more else details)

    def tell_due(self) -> None:
        """Say how many were counted of kinds whose last line is old enough; cheap to call often."""
        now = self._clock()
        if now - self._looked_s >= DUE_S_MIN:
            self._looked_s = now
            self._tell_counts(now - SUMMARY_S_MIN, now)

    def tell_rest(self) -> None:
        """Say how many were counted and not told yet."""
        now = self._clock()
        self._tell_counts(now, now)

    def _tell_counts(self, until_s: float, now: float) -> None:
        for kind, found in self._kinds.items():
            if found.more and found.told_s <= until_s:
                self._say({"kind": kind, "more": found.more})
                found.more, found.told_s = 0, now

    def _say(self, details: dict[str, Any]) -> None:
        self._told += 1
        self._log.warning(self._event, **details)

    def statistics(self) -> RepeatedStatistics:
        waiting = sum(found.more for found in self._kinds.values())
        return RepeatedStatistics(self._seen, self._told, waiting)
