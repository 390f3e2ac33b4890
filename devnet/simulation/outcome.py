"""How a simulation ended."""

from dataclasses import dataclass

from devnet.simulation.checks import Violation


@dataclass(frozen=True, slots=True)
class Outcome:
    """Figures of one simulation; it passed when `violation` is None.

    `height` and `executed` (envelopes) are the largest of any honest validator; `evidence` are
    contradictions of liars that honest validators hold proof of at the end.
    """

    seed: int
    nodes: str
    validators: int
    violation: Violation | None
    trace_hash: str
    trace_lines: int
    virtual_ms: int
    height: int
    executed: int
    crashes: int
    messages: int
    lost: int
    evidence: int
