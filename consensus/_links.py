"""Report links that came in and are not committed yet, by author and sequence."""

from collections.abc import Iterator, Sequence

from consensus.block import BLOCK_LINKS_BYTES_MAX, BLOCK_LINKS_ITEMS_MAX
from consensus.committee import Committee
from consensus.faults import BadReport, Equivocation
from consensus.frontier import Frontier, ReportTip, follows
from consensus.report import ReportLink, check_link, decode_link, link_hash

LINKS_AHEAD_ITEMS_MAX = 1_024  # links this far beyond the committed tip are refused with E308


class LinkPool:
    """Verified links above the committed frontier."""

    def __init__(self, committee: Committee, frontier: Frontier) -> None:
        self._committee = committee
        self._links: list[dict[int, tuple[ReportLink, bytes]]] = [{} for _ in range(len(committee))]
        self._floor = [tip.sequence for tip in frontier]

    def add(self, wire: bytes) -> ReportLink | None:
        """Keep a link; None when it is old or known.

        Errors: `Malformed`, `WrongEpoch`, `UnknownValidator`, `BadVoteSignature`, `BadReport`
        (too far ahead), `Equivocation` (another link with this sequence).
        """
        link = decode_link(wire)
        self._committee.power(link.author)
        floor = self._floor[link.author]
        if link.sequence <= floor:
            return None
        if link.sequence > floor + LINKS_AHEAD_ITEMS_MAX:
            raise BadReport(f"link {link.sequence} is too far ahead of {floor}")
        known = self._links[link.author].get(link.sequence)
        if known is not None and known[1] == wire:
            return None
        check_link(link, self._committee)
        if known is not None:
            raise Equivocation(
                f"validator {link.author} signed two links {link.sequence}", (known[1], wire)
            )
        self._links[link.author][link.sequence] = (link, wire)
        return link

    def knows(self, wire: bytes, link: ReportLink) -> bool:
        """Whether exactly these bytes were verified before."""
        known = self._links[link.author].get(link.sequence)
        return known is not None and known[1] == wire

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
        out: list[bytes] = []
        tips = list(frontier)
        size = 0
        for author in range(len(tips)):
            for link, wire in self._next(author, tips[author]):
                size += len(wire)
                if len(out) == BLOCK_LINKS_ITEMS_MAX or size > BLOCK_LINKS_BYTES_MAX:
                    return out, tuple(tips)
                out.append(wire)
                hashed = link_hash(self._committee.network, wire)
                tips[author] = ReportTip(link.sequence, hashed, link.time_ms)
        return out, tuple(tips)

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
            sequence > frontier[author].sequence and (link.items or link.observation)
            for author, links in enumerate(self._links)
            for sequence, (link, _) in links.items()
        )

    def of(self, author: int, start: int, count_max: int) -> list[bytes]:
        """Up to `count_max` consecutive links of an author from sequence `start` on."""
        out: list[bytes] = []
        while len(out) < count_max and start in self._links[author]:
            out.append(self._links[author][start][1])
            start += 1
        return out

    def ahead(self, author: int) -> int:
        """How many links of an author are kept."""
        return len(self._links[author])

    def committed(self, frontier: Frontier) -> None:
        """Forget links up to the committed frontier."""
        for author, tip in enumerate(frontier):
            for sequence in range(self._floor[author] + 1, tip.sequence + 1):
                self._links[author].pop(sequence, None)
            self._floor[author] = max(self._floor[author], tip.sequence)

    def sizes(self) -> Sequence[int]:
        return [len(links) for links in self._links]
