"""Report links that came in and are not committed yet, by author and sequence."""

from collections import deque
from collections.abc import Iterator, Sequence

from consensus.block import BLOCK_LINKS_BYTES_MAX, BLOCK_LINKS_ITEMS_MAX, Block
from consensus.committee import Committee
from consensus.evidence import Slot, contradiction
from consensus.faults import BadReport, Equivocation
from consensus.frontier import Frontier, ReportTip, follows
from consensus.report import LINK_BYTES_MAX, ReportLink, check_link, link_hash

LINKS_BYTES_MAX = 16 << 20  # an author's links beyond this wait with their author: E308
LINKS_AHEAD_ITEMS_MAX = 1_024  # links this far beyond the committed tip are refused with E308


class LinkPool:
    """Verified links above the committed frontier."""

    def __init__(self, committee: Committee, frontier: Frontier) -> None:
        self._committee = committee
        self._links: list[dict[int, tuple[ReportLink, bytes]]] = [{} for _ in range(len(committee))]
        self._floor = [tip.sequence for tip in frontier]
        self._bytes = [0] * len(committee)

    def add(self, wire: bytes, link: ReportLink) -> bool:
        """Keep a link, decoded from `wire`; whether it is new.

        Errors: `WrongEpoch`, `UnknownValidator`, `BadVoteSignature`, `BadReport` (too far
        ahead), `Equivocation` (another link with this sequence).
        """
        self._committee.power(link.author)
        floor = self._floor[link.author]
        if link.sequence <= floor:
            return False
        if link.sequence > floor + LINKS_AHEAD_ITEMS_MAX:
            raise BadReport(f"link {link.sequence} is too far ahead of {floor}")
        known = self._links[link.author].get(link.sequence)
        if known is not None and known[1] == wire:
            return False
        if self._bytes[link.author] + len(wire) > LINKS_BYTES_MAX:
            raise BadReport(f"{LINKS_BYTES_MAX} bytes of links wait to be committed already")
        check_link(link, self._committee)
        if known is not None:
            network = self._committee.network
            one, other = known[0].said(network), link.said(network)
            if one.content == other.content:
                return False  # signed twice, said once: Ed25519 allows several signatures
            raise contradiction(Slot.REPORT, link.epoch, link.sequence, link.author, one, other)
        self._links[link.author][link.sequence] = (link, wire)
        self._bytes[link.author] += len(wire)
        return True

    def knows(self, wire: bytes, link: ReportLink) -> bool:
        """Whether exactly these bytes were verified before."""
        known = self._links[link.author].get(link.sequence)
        return known is not None and known[1] == wire

    def contradictions(self, block: Block) -> list[Equivocation]:
        """Who signed in a checked block another link than the one seen here."""
        network = self._committee.network
        found = []
        for link, wire in zip(block.links, block.link_wires, strict=True):
            known = self._links[link.author].get(link.sequence)
            if known is not None and known[1] != wire:
                one, other = known[0].said(network), link.said(network)
                if one.content != other.content:
                    found.append(
                        contradiction(
                            Slot.REPORT, link.epoch, link.sequence, link.author, one, other
                        )
                    )
        return found

    def gap(self, author: int) -> int | None:
        """The lowest missing sequence below the author's highest known link, if any."""
        links = self._links[author]
        if not links:
            return None
        expected = self._floor[author] + 1
        highest = max(links)
        if highest - expected + 1 == len(links):
            return None
        while expected in links:
            expected += 1
        return expected if expected < highest else None

    def beyond(self, frontier: Frontier) -> tuple[list[bytes], Frontier]:
        """Links that extend `frontier`, in a block's order and within a block's bounds, and the
        frontier after them."""
        chosen: list[list[bytes]] = [[] for _ in frontier]
        tips = list(frontier)
        waiting = [self._next(author, tip) for author, tip in enumerate(frontier)]
        size = count = 0
        turns = deque(range(len(tips)))  # one link of each in turn: nobody's crowds others out
        while turns and count < BLOCK_LINKS_ITEMS_MAX:
            author = turns.popleft()
            found = next(waiting[author], None)
            if found is None or size + len(found[1]) > BLOCK_LINKS_BYTES_MAX:
                continue
            link, wire = found
            size, count = size + len(wire), count + 1
            chosen[author].append(wire)
            hashed = link_hash(self._committee.network, wire)
            tips[author] = ReportTip(link.sequence, hashed, link.time_ms)
            turns.append(author)
        return [wire for wires in chosen for wire in wires], tuple(tips)

    def _next(self, author: int, tip: ReportTip) -> Iterator[tuple[ReportLink, bytes]]:
        """An author's links from `tip` on, each following the one before."""
        found = self._links[author].get(tip.sequence + 1)
        while found is not None and follows(tip, found[0]):
            yield found
            link, wire = found
            tip = ReportTip(link.sequence, link_hash(self._committee.network, wire), link.time_ms)
            found = self._links[author].get(tip.sequence + 1)

    def has_content(self, frontier: Frontier) -> bool:
        """Whether a link beyond `frontier` holds an envelope or an observation."""
        return any(
            link.items or link.observation
            for author, tip in enumerate(frontier)
            for link, _ in self._next(author, tip)
        )

    def of(self, author: int, start: int, count_max: int) -> list[bytes]:
        """Up to `count_max` consecutive links of an author from sequence `start` on."""
        out: list[bytes] = []
        while len(out) < count_max and start in self._links[author]:
            out.append(self._links[author][start][1])
            start += 1
        return out

    def has_room(self, author: int) -> bool:
        """Whether there are bytes left for a further link of an author."""
        return self._bytes[author] + LINK_BYTES_MAX <= LINKS_BYTES_MAX

    def reaches(self, author: int, sequence: int) -> bool:
        """Whether a link of this sequence is near enough to the committed ones to be kept."""
        return sequence <= self._floor[author] + LINKS_AHEAD_ITEMS_MAX

    def committed(self, frontier: Frontier) -> None:
        """Forget links up to the committed frontier."""
        for author, tip in enumerate(frontier):
            for sequence in range(self._floor[author] + 1, tip.sequence + 1):
                dropped = self._links[author].pop(sequence, None)
                if dropped is not None:
                    self._bytes[author] -= len(dropped[1])
            self._floor[author] = max(self._floor[author], tip.sequence)

    def sizes(self) -> Sequence[int]:
        return [len(links) for links in self._links]
