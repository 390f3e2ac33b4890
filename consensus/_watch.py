"""Silence after a vote journal was imported or lost: the doppelgaenger wait (PROTOCOL 1).

What this key has signed before is not known for sure, and another process may still be signing
with it. So nothing is signed until an epoch begins after this process did: in it every slot is
fresh and no lock is held. Meanwhile a signature of ours on something younger than this process
gives the other one away.

It is assumed that this machine's clock is not behind the validators' median by more than
`WATCH_MARGIN_MS`, and that no earlier process with this key runs on elsewhere for longer than
the silence lasts without a single vote of its own being certified.
"""

from consensus.block import Block
from consensus.faults import DoppelgangerSeen

WATCH_MARGIN_MS = 5_000  # what is younger than this process by more than this is not its past


class Watch:
    """Looks for the own index `own` in what others have made since `started_ms`."""

    def __init__(self, own: int, started_ms: int) -> None:
        self._own = own
        self._since_ms = started_ms + WATCH_MARGIN_MS

    def look(self, block: Block, certified_ms: int) -> None:
        """Look at a block on a parent of `certified_ms`: at its author, the voters for its parent,
        and its report links.

        Errors: `DoppelgangerSeen`.
        """
        since, own = self._since_ms, self._own
        proposed = block.author == own and block.time_ms > since
        voted = certified_ms > since and any(v.voter == own for v in block.qc.signatures)
        reported = any(link.author == own and link.time_ms > since for link in block.links)
        if proposed or voted or reported:
            raise DoppelgangerSeen(
                f"another process signs as validator {own} in round {block.round}; "
                "stop the other one for good, then start this one again"
            )

    def ends_with(self, epoch_began_ms: int) -> bool:
        """Whether an epoch that began then is one in which this key has not signed yet."""
        return epoch_began_ms > self._since_ms
