"""From committed report links to one order of envelopes (PROTOCOL 3).

An envelope becomes executable with the committed block at which more than two thirds of the
power have reported it. Those that become executable together form a batch, ordered by the
power-weighted median of their positions in the validators' reports: each report is restricted
to the batch, an envelope that a report lacks stands behind all others, and a tie is broken by a
hash over the block, which no sender knows in advance.

The order is a function of committed links alone; the leader only chooses which links come.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from consensus.block import Block
from consensus.committee import Committee
from consensus.report import ReportLink
from primitives.hashing import digest

PENDING_HEIGHTS_MAX = 4_000  # an envelope without a quorum of reporters is forgotten after these
WAITING_PER_AUTHOR_ITEMS_MAX = 50_000  # ids that only wait; an author's further ones do not count
BATCH_ITEMS_MAX = 256  # more that are ready wait for the next block: a batch stays one IPLD block
SEQUENCED_HEIGHTS_MAX = 20_000  # a late report of an executed envelope is recognised this long
_TIE_DOMAIN = "outcry/sequence-tie/1"


@dataclass(frozen=True, slots=True)
class SequencerStatistics:
    pending: int
    remembered: int
    sequenced: int


class Sequencer:
    """The tally of committed reports. Equal on all validators after the same blocks."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._pending: dict[bytes, dict[int, int]] = {}
        self._ready: dict[bytes, None] = {}
        self._waiting = [0] * len(committee)
        self._first_seen: deque[tuple[int, bytes]] = deque()
        self._positions = [0] * len(committee)
        self._sequenced: set[bytes] = set()
        self._history: deque[tuple[int, tuple[bytes, ...]]] = deque()
        self._count = 0

    def is_sequenced(self, envelope: bytes) -> bool:
        """Whether a batch held this envelope (within `SEQUENCED_HEIGHTS_MAX`)."""
        return envelope in self._sequenced

    def reporters(self, envelopes: Iterable[bytes], ahead: Iterable[ReportLink]) -> set[int]:
        """Who reported any of these in committed links or in those of `ahead`."""
        wanted = set(envelopes)
        out = {author for item in wanted for author in self._pending.get(item, ())}
        return out | {link.author for link in ahead if not wanted.isdisjoint(link.items)}

    def non_blank(self, ahead: Iterable[ReportLink]) -> list[bytes]:
        """Envelopes in `ahead` (links not yet committed) that an honest validator must hold.

        Non-blank: reported by more than a third of the power, so that at least one honest
        validator has it and will hand it out, whatever the liars reported.
        """
        fresh: dict[bytes, set[int]] = {}
        for link in ahead:
            for item in link.items:
                if item not in self._sequenced:
                    fresh.setdefault(item, set()).add(link.author)
        out = []
        for item, authors in fresh.items():
            everyone = authors.union(self._pending.get(item, ()))
            if self._committee.has_honest(sum(map(self._committee.power, everyone))):
                out.append(item)
        return out

    def commit(self, block: Block) -> tuple[bytes, ...]:
        """Count the links of a committed block; the batch that it makes executable, in order."""
        for link in block.links:
            for item in link.items:
                self._note(item, link.author, block.height)
                if item not in self._ready and self._has_quorum(item):
                    self._ready[item] = None
        batch = self._order(list(self._ready), block.cid)[:BATCH_ITEMS_MAX]
        for item in batch:
            del self._ready[item]
            self._drop(item)
        self._remember(block.height, batch)
        self._forget_old(block.height)
        return batch

    def start_epoch(self, committee: Committee) -> None:
        """Begin a new tally: the validators of the epoch report anew what has no place yet."""
        self._committee = committee
        self._pending.clear()
        self._ready.clear()
        self._first_seen.clear()
        self._waiting = [0] * len(committee)
        self._positions = [0] * len(committee)

    def statistics(self) -> SequencerStatistics:
        return SequencerStatistics(len(self._pending), len(self._sequenced), self._count)

    def _note(self, item: bytes, author: int, height: int) -> None:
        position = self._positions[author]
        self._positions[author] = position + 1
        if item in self._sequenced or self._waiting[author] >= WAITING_PER_AUTHOR_ITEMS_MAX:
            return
        entry = self._pending.get(item)
        if entry is None:
            entry = self._pending[item] = {}
            self._first_seen.append((height, item))
        if author not in entry:
            entry[author] = position
            self._waiting[author] += 1

    def _drop(self, item: bytes) -> None:
        for author in self._pending.pop(item, {}):
            self._waiting[author] -= 1

    def _has_quorum(self, item: bytes) -> bool:
        entry = self._pending.get(item)
        return entry is not None and self._committee.is_quorum(
            sum(map(self._committee.power, entry))
        )

    def _order(self, items: list[bytes], block: bytes) -> tuple[bytes, ...]:
        """Sort by median rank (see the module's docstring)."""
        if len(items) < 2:
            return tuple(items)
        ranks: dict[bytes, list[tuple[int, int]]] = {item: [] for item in items}
        for author in range(len(self._committee)):
            listed = [item for item in items if author in self._pending[item]]
            listed.sort(key=lambda item: self._pending[item][author])
            rank_of = {item: rank for rank, item in enumerate(listed)}
            for item in items:
                ranks[item].append((rank_of.get(item, len(items)), author))
        network = self._committee.network
        return tuple(
            sorted(
                items,
                key=lambda item: (
                    self._committee.weighted_median(ranks[item]),
                    digest(_TIE_DOMAIN, network, block, item),
                ),
            )
        )

    def _remember(self, height: int, batch: tuple[bytes, ...]) -> None:
        if batch:
            self._sequenced.update(batch)
            self._history.append((height, batch))
            self._count += len(batch)

    def _forget_old(self, height: int) -> None:
        """Keep memory bounded by heights alone, so that all validators forget alike."""
        while self._history and self._history[0][0] < height - SEQUENCED_HEIGHTS_MAX:
            self._sequenced.difference_update(self._history.popleft()[1])
        while self._first_seen and self._first_seen[0][0] < height - PENDING_HEIGHTS_MAX:
            item = self._first_seen.popleft()[1]
            if item not in self._ready:
                self._drop(item)
