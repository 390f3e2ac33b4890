"""From committed report links to one order of envelopes (PROTOCOL 3).

An envelope becomes executable with the committed block at which more than two thirds of the
power have reported it. Those that become executable together are ordered by the
power-weighted median of their positions in the validators' reports: each report is restricted
to the batch, an envelope that a report lacks stands behind all others, and a tie is broken by a
hash over the block, which no sender knows in advance. They queue behind those of earlier blocks;
the first `BATCH_ITEMS_MAX` of the queue are the block's batch.

The order is a function of committed links alone; the leader only chooses which links come.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, islice

from consensus.block import Block
from consensus.committee import Committee
from consensus.report import ReportLink
from primitives.hashing import digest

PENDING_HEIGHTS_MAX = 4_000  # an envelope without a quorum of reporters is forgotten after these
WAITING_PER_AUTHOR_ITEMS_MAX = 50_000  # ids that only wait; an author's further ones do not count
BATCH_ITEMS_MAX = 500  # more that are ready wait for the next block: a batch stays one IPLD block
SEQUENCED_HEIGHTS_MAX = 20_000  # a late report of an executed envelope is recognised this long
_TIE_DOMAIN = "outcry/sequence-tie/1"


@dataclass(frozen=True, slots=True)
class SequencerStatistics:
    pending: int
    remembered: int
    sequenced: int


@dataclass(slots=True)
class _Reports:
    """Where each validator's report has an envelope; `authors` are its keys as a bit mask."""

    places: dict[int, int]
    authors: int


class Sequencer:
    """The tally of committed reports. Equal on all validators after the same blocks."""

    def __init__(self, committee: Committee) -> None:
        self._committee = committee
        self._pending: dict[bytes, _Reports] = {}
        self._fresh: dict[bytes, None] = {}
        self._queue: dict[bytes, None] = {}
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
        known = (self._pending.get(item) for item in wanted)
        out = {author for reports in known if reports is not None for author in reports.places}
        return out | {link.author for link in ahead if not wanted.isdisjoint(link.items)}

    def non_blank(self, ahead: Iterable[ReportLink]) -> list[bytes]:
        """Envelopes in `ahead` (links not yet committed) that an honest validator must hold.

        Non-blank: reported by more than a third of the power, so that at least one honest
        validator has it and will hand it out, whatever the liars reported.
        """
        fresh: dict[bytes, int] = {}
        for link in ahead:
            mark = 1 << link.author
            for item in link.items:
                fresh[item] = fresh.get(item, 0) | mark
        out = []
        for item, authors in fresh.items():
            reports = self._pending.get(item)
            if reports is not None:
                authors |= reports.authors
            honest = self._committee.has_honest(self._committee.power_of(authors))
            if honest and item not in self._sequenced:
                out.append(item)
        return out

    def commit(self, block: Block) -> tuple[bytes, ...]:
        """Count the links of a committed block; the batch that it makes executable, in order."""
        for link in block.links:
            self._count_link(link, block.height)
        self._queue.update(dict.fromkeys(self._order(list(self._fresh), block.cid)))
        self._fresh.clear()
        batch = tuple(islice(self._queue, BATCH_ITEMS_MAX))
        for item in batch:
            del self._queue[item]
            self._drop(item)
        self._remember(block.height, batch)
        self._forget_old(block.height)
        return batch

    def start_epoch(self, committee: Committee) -> None:
        """Begin a new tally: the validators of the epoch report anew what has no place yet."""
        self._committee = committee
        self._pending.clear()
        self._queue.clear()
        self._first_seen.clear()
        self._waiting = [0] * len(committee)
        self._positions = [0] * len(committee)

    def remember(self, sequenced: Iterable[tuple[int, bytes]]) -> None:
        """Know (height, id) of envelopes that have their place from before, in ascending order;
        of the last `SEQUENCED_HEIGHTS_MAX` heights, all."""
        for height, group in groupby(sequenced, key=lambda item: item[0]):
            self._remember(height, tuple(name for _, name in group))

    @property
    def has_backlog(self) -> bool:
        """Whether envelopes have their place and wait for room in a batch."""
        return bool(self._queue)

    def statistics(self) -> SequencerStatistics:
        return SequencerStatistics(len(self._pending), len(self._sequenced), self._count)

    def _count_link(self, link: ReportLink, height: int) -> None:
        """Note the places of a link's items; those that now have a quorum are ready."""
        author, mark = link.author, 1 << link.author
        first = self._positions[author]
        self._positions[author] = first + len(link.items)
        for place, item in enumerate(link.items, first):
            if item in self._sequenced or self._waiting[author] >= WAITING_PER_AUTHOR_ITEMS_MAX:
                continue
            reports = self._pending.get(item)
            if reports is None:
                reports = self._pending[item] = _Reports({}, 0)
                self._first_seen.append((height, item))
            if reports.authors & mark:
                continue
            reports.places[author] = place
            reports.authors |= mark
            self._waiting[author] += 1
            ready = self._committee.is_quorum(self._committee.power_of(reports.authors))
            if ready and item not in self._queue:
                self._fresh[item] = None

    def _drop(self, item: bytes) -> None:
        reports = self._pending.pop(item, None)
        for author in () if reports is None else reports.places:
            self._waiting[author] -= 1

    def _order(self, items: list[bytes], block: bytes) -> tuple[bytes, ...]:
        """Sort by median rank (see the module's docstring)."""
        if len(items) < 2:
            return tuple(items)
        ranks: dict[bytes, list[tuple[int, int]]] = {item: [] for item in items}
        for author in range(len(self._committee)):
            listed = [item for item in items if author in self._pending[item].places]
            listed.sort(key=lambda item: self._pending[item].places[author])
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
            if item not in self._queue:
                self._drop(item)
