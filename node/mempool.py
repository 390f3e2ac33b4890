"""Envelopes at hand: admitted and waiting, or executed a moment ago.

An envelope stays until it is executed and its neighbours had time to fetch it, or until no
block can order it any more. What is here can be handed to any validator that needs it for a
vote; the driver journals it before this validator's report names it.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

from exchange import Admitted, Refused

ENVELOPES_ITEMS_MAX = 100_000  # more: refused with E494 until some are executed
ENVELOPES_BYTES_MAX = 128 << 20  # likewise
EXECUTED_HEIGHTS_MAX = 400  # an executed envelope is handed out this long, then its batch is
EXECUTED_ITEMS_MAX = 20_000  # more executed ones: the oldest go earlier, so that they fill no room
WAITING_HEIGHTS_MAX = 8_000  # an envelope that no block ordered is dropped after these


@dataclass(frozen=True, slots=True)
class Held:
    """An envelope: its bytes, the verdict on them, and the height when it came."""

    wire: bytes
    verdict: Admitted | Refused
    height: int


@dataclass(frozen=True)
class MempoolStatistics:
    """What the mempool holds at one instant, and what it ever dropped unexecuted."""

    envelopes: int
    bytes: int
    waiting: int
    expired: int


class Mempool:
    """All envelopes at hand, by id."""

    def __init__(self) -> None:
        self._held: dict[bytes, Held] = {}
        self._executed: deque[tuple[int, bytes]] = deque()
        self._arrived: deque[tuple[int, bytes]] = deque()
        self._done: set[bytes] = set()
        self._bytes = 0
        self._expired = 0

    def __contains__(self, envelope: bytes) -> bool:
        return envelope in self._held

    @property
    def is_full(self) -> bool:
        return len(self._held) >= ENVELOPES_ITEMS_MAX or self._bytes >= ENVELOPES_BYTES_MAX

    def get(self, envelope: bytes) -> Held | None:
        return self._held.get(envelope)

    def add(self, wire: bytes, verdict: Admitted | Refused, height: int) -> bool:
        """Keep an envelope; whether it is new here."""
        if verdict.id in self._held:
            return False
        self._held[verdict.id] = Held(wire, verdict, height)
        self._arrived.append((height, verdict.id))
        self._bytes += len(wire)
        return True

    def waiting(self, count_max: int) -> list[bytes]:
        """The bytes of up to `count_max` envelopes that were not executed, oldest first."""
        waiting = (held.wire for name, held in self._held.items() if name not in self._done)
        return list(islice(waiting, count_max))

    def is_executed(self, envelope: bytes) -> bool:
        """Whether it was executed within `EXECUTED_HEIGHTS_MAX`."""
        return envelope in self._done

    def executed(self, envelopes: Iterable[bytes], height: int) -> list[bytes]:
        """Note what the block at `height` executed; the ids of those dropped now."""
        for envelope in envelopes:
            if envelope in self._held and envelope not in self._done:
                self._done.add(envelope)
                self._executed.append((height, envelope))
        dropped = []
        while self._executed and (
            self._executed[0][0] < height - EXECUTED_HEIGHTS_MAX
            or len(self._executed) > EXECUTED_ITEMS_MAX
        ):
            envelope = self._executed.popleft()[1]
            self._done.discard(envelope)
            dropped += self._drop(envelope)
        while self._arrived and self._arrived[0][0] < height - WAITING_HEIGHTS_MAX:
            envelope = self._arrived.popleft()[1]
            if envelope in self._held and envelope not in self._done:
                self._expired += 1
                dropped += self._drop(envelope)
        return dropped

    def statistics(self) -> MempoolStatistics:
        waiting = len(self._held) - len(self._done)
        return MempoolStatistics(len(self._held), self._bytes, waiting, self._expired)

    def _drop(self, envelope: bytes) -> list[bytes]:
        held = self._held.pop(envelope, None)
        if held is None:
            return []
        self._bytes -= len(held.wire)
        return [envelope]
