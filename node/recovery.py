"""Bringing the agreement back after a restart, before anything is executed again.

    recover_replica(replica, index, journal_entries)   # the blocks of the present epoch
    effects = replica.resume(journal_entries, now_ms)  # from here on it votes

A replica needs the blocks of the epoch only: the journal holds where it began, the index which
envelopes have their place. So a validator votes again after a time that does not grow with the
history, and executes what storage holds meanwhile.
"""

from collections.abc import Iterator, Mapping

from consensus import EPOCH_KIND, SEQUENCED_HEIGHTS_MAX, Replica, decode_epoch_start
from node.recording import stored_wires
from storage import Index

BLOCKS_PER_READ = 256
HEIGHTS_PER_READ = 500

Entries = Mapping[str, Mapping[bytes, bytes]]


def recover_replica(replica: Replica, index: Index, entries: Entries) -> int:
    """Replay the newest epoch that storage holds the start of; the number of blocks.

    Errors: `JournalContradiction` when journal and storage do not fit each other.
    """
    above = _begin(replica, index, entries)
    count = 0
    while True:
        wires = stored_wires(index, above + count + 1, BLOCKS_PER_READ, batches=False)
        for wire in wires:
            replica.replay(wire)
        count += len(wires)
        if len(wires) < BLOCKS_PER_READ:
            return count


def _begin(replica: Replica, index: Index, entries: Entries) -> int:
    """Start with the newest epoch whose first block's parent was executed here; its height."""
    for _, wire in sorted(entries.get(EPOCH_KIND, {}).items(), reverse=True):
        start = decode_epoch_start(wire)
        rows = index.heights(start.height, start.height, 1)
        if rows and rows[0].block == start.block:
            return replica.begin_at(wire, _sequenced(index, start.height))
    return 0


def _sequenced(index: Index, last: int) -> Iterator[tuple[int, bytes]]:
    """(height, id) of what was executed lately up to height `last`, ascending."""
    first = max(1, last - SEQUENCED_HEIGHTS_MAX)
    for page in range(first, last + 1, HEIGHTS_PER_READ):
        yield from index.sequenced(page, min(last, page + HEIGHTS_PER_READ - 1))
