"""This validator's own order report: which envelopes it saw, in order (PROTOCOL 3)."""

from collections import deque
from collections.abc import Callable

from consensus._safety import slot_key
from consensus.committee import Signer
from consensus.effects import Entry
from consensus.report import (
    FIRST_PREVIOUS,
    OBSERVATION_BYTES_MAX,
    REPORT_ITEMS_MAX,
    link_hash,
    sign_link,
)
from primitives import codec

REPORT_KIND = "report"
WAITING_ITEMS_MAX = 200_000  # envelopes seen but not sequenced yet; more are not reported by us


class Reporter:
    """Makes the next link of the own report; `tip` is the newest one made."""

    def __init__(self, key: Signer, network: bytes, epoch: int, author: int) -> None:
        self._key = key
        self._network = network
        self._epoch = epoch
        self._author = author
        self._waiting: deque[bytes] = deque()
        self._reported: dict[bytes, None] = {}
        self._observation = b""
        self.sequence = 0
        self._previous = FIRST_PREVIOUS
        self.dropped = 0

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def has_content(self) -> bool:
        return bool(self._waiting or self._observation)

    def resume(self, sequence: int, previous: bytes) -> None:
        """Go on after link `sequence`, whose hash is `previous`."""
        if sequence > self.sequence:
            self.sequence, self._previous = sequence, previous

    def see(self, ids: tuple[bytes, ...]) -> None:
        """Envelopes in the order in which this node first saw them."""
        room = max(0, WAITING_ITEMS_MAX - len(self._waiting) - len(self._reported))
        self.dropped += max(0, len(ids) - room)
        self._waiting.extend(ids[:room])

    def sequenced(self, ids: tuple[bytes, ...]) -> None:
        """These have their place; they need no report in a later epoch."""
        for item in ids:
            self._reported.pop(item, None)

    def start_epoch(self, epoch: int, at_hand: Callable[[bytes], bool]) -> None:
        """Begin a new report: what has no place yet is reported again, in the same order."""
        again = [item for item in self._reported if at_hand(item)]
        self._waiting.extendleft(reversed(again))
        self._reported.clear()
        self._epoch = epoch
        self.sequence, self._previous = 0, FIRST_PREVIOUS

    def observe(self, observation: bytes) -> None:
        """What the next link says of the EVM chain."""
        if len(observation) > OBSERVATION_BYTES_MAX:
            raise ValueError(f"an observation has at most {OBSERVATION_BYTES_MAX} bytes")
        self._observation = observation

    def make(self, now_ms: int) -> tuple[Entry, bytes]:
        """The next link's journal entry and its bytes."""
        count = min(len(self._waiting), REPORT_ITEMS_MAX)
        items = [self._waiting.popleft() for _ in range(count)]
        self._reported.update(dict.fromkeys(items))
        link = sign_link(
            self._key,
            self._network,
            self._epoch,
            self._author,
            self.sequence + 1,
            self._previous,
            items,
            now_ms,
            self._observation,
        )
        wire = codec.encode(link)
        self.sequence += 1
        self._previous = link_hash(self._network, wire)
        self._observation = b""
        return Entry(REPORT_KIND, slot_key(self._epoch, self.sequence), wire), wire
