"""How far each validator's report has come in a chain of blocks, and the time that follows.

A frontier is one tip per validator. A block extends the frontier of its parent by its links;
its time is the power-weighted median of the tips' times, never before its parent's.
"""

from dataclasses import dataclass

from consensus.block import Block
from consensus.committee import Committee
from consensus.faults import BadBlock, BadReport
from consensus.report import FIRST_PREVIOUS, ReportLink, link_hash


@dataclass(frozen=True, slots=True)
class ReportTip:
    """The newest link of one validator's report: sequence 0 before its first."""

    sequence: int
    hash: bytes
    time_ms: int


Frontier = tuple[ReportTip, ...]


def first_frontier(committee: Committee, genesis_time_ms: int) -> Frontier:
    """The frontier of the genesis."""
    return (ReportTip(0, FIRST_PREVIOUS, genesis_time_ms),) * len(committee)


def follows(tip: ReportTip, link: ReportLink) -> bool:
    """Whether `link` is the next one after `tip`."""
    return link.sequence == tip.sequence + 1 and link.previous == tip.hash


def extend(frontier: Frontier, block: Block, network: bytes) -> Frontier:
    """The frontier after `block`.

    Errors: `BadReport` when a link does not follow its author's tip, `BadBlock` when links are
    not in ascending order of author and sequence.
    """
    tips = list(frontier)
    previous = (-1, 0)
    for link, wire in zip(block.links, block.link_wires, strict=True):
        place = (link.author, link.sequence)
        if place <= previous:
            raise BadBlock("report links must ascend by author and sequence")
        if link.author >= len(tips) or not follows(tips[link.author], link):
            raise BadReport(f"link {link.sequence} of validator {link.author} does not follow")
        tips[link.author] = ReportTip(link.sequence, link_hash(network, wire), link.time_ms)
        previous = place
    return tuple(tips)


def block_time(frontier: Frontier, parent_time_ms: int, committee: Committee) -> int:
    """The time of a block with this frontier on a parent of that time, in milliseconds."""
    median = committee.weighted_median((tip.time_ms, i) for i, tip in enumerate(frontier))
    return max(parent_time_ms, median)
