"""The files of a full node on its simulated disk, opened as `node.opening` opens them."""

import random
from collections.abc import Callable
from pathlib import Path

from consensus import ONCE_KINDS
from devnet.simulation.disk import Disk
from node.flush import ROLLUP_KIND
from node.opening import JOURNAL_BYTES_MAX
from storage import Index, Journal

JOURNAL_PATH = Path("/journal.db")
INDEX_PATH = Path("/index.db")
_ONCE = (*sorted(ONCE_KINDS), ROLLUP_KIND)

OpenJournal = Callable[[Disk, bytes, bytes, bool], Journal]
"""(disk, owner's public key, network, whether a journal that must be begun watches)."""


def open_journal(disk: Disk, owner: bytes, network: bytes, watch: bool) -> Journal:
    """The vote journal. Errors: those of `Journal.open`."""
    return Journal.open(
        JOURNAL_PATH,
        owner,
        network,
        once=_ONCE,
        watch=watch,
        bytes_max=JOURNAL_BYTES_MAX,
        medium=disk,
    )


def empty_image(network: bytes, owner: bytes, block: tuple[bytes, bytes]) -> dict[str, bytes]:
    """The files of a validator that was opened once and closed: starts begin from a copy.

    `block` is the genesis as an IPLD block, (CID, bytes).
    """
    disk = Disk(random.Random(0))
    index = Index.open(INDEX_PATH, network, medium=disk)
    index.blocks.put(*block)
    open_journal(disk, owner, network, False).close()
    index.close()
    disk.sync_directory(INDEX_PATH.parent)
    return disk.image()
