"""Opening what a node stands on: genesis, index, journal, network.

async with open_node(load_config(path), keys) as (node, journal):
    await node.run(journal)
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import structlog

from consensus import ONCE_KINDS
from node.config import Config, split_listen
from node.flush import ROLLUP_KIND
from node.genesis import agreement, load_genesis
from node.keys import NodeKeys, take_unused_note
from node.node import Node
from p2p import NetworkConfig, open_network
from storage import Index, Journal

log = structlog.get_logger(__name__)

JOURNAL_NAME = "journal.db"  # in the data directory
JOURNAL_BYTES_MAX = 2 << 30  # envelopes, links and blocks that wait to be executed, at the worst


@asynccontextmanager
async def open_node(config: Config, keys: NodeKeys) -> AsyncIterator[tuple[Node, Journal | None]]:
    """Open storage and network for a node; closing waits for the last write.

    The journal's `watch` says whether this validator has to wait before it signs.
    Errors: `GenesisInvalid`, `KeysMismatch`, and those of storage and p2p.
    """
    genesis = load_genesis(config.path(config.node.genesis))
    data = config.path(config.node.data)
    data.mkdir(parents=True, exist_ok=True)
    network_id = genesis.network_id()
    with ExitStack() as stack:
        journal = None
        index = Index.open(data / "index.db", network_id)
        stack.callback(index.close)
        if config.node.role == "validator":
            # A key that may have signed is silent at first where its journal is missing.
            unused = take_unused_note(config.path(config.node.keystore))
            signed = not unused or index.newest() is not None
            journal = _open_journal(data, keys, network_id, watch=signed)
            stack.callback(journal.close)
        host, port = split_listen(config.p2p.listen)
        network_config = NetworkConfig(
            network=network_id,
            seed=keys.network,
            listen_host=host,
            listen_port=port,
            validators={item.peer_id: i for i, item in enumerate(genesis.validators)},
            bootstrap=config.p2p.bootstrap,
        )
        async with open_network(network_config) as network:
            index.blocks.put(agreement(genesis).cid, genesis.block())
            yield Node(config, genesis, keys, index, network), journal


def _open_journal(data: Path, keys: NodeKeys, network_id: bytes, *, watch: bool) -> Journal:
    """The vote journal; where there is none it is begun, and says `watch` as it is told here.

    Errors: `JournalExported`, `JournalMismatch`, and others of storage.
    """
    once = [*sorted(ONCE_KINDS), ROLLUP_KIND]
    journal = Journal.open(
        data / JOURNAL_NAME,
        keys.signing().public,
        network_id,
        once=once,
        watch=watch,
        bytes_max=JOURNAL_BYTES_MAX,
    )
    if journal.watch:
        log.warning(
            "journal_watches",
            path=str(data / JOURNAL_NAME),
            why="it was imported, resumed, or begun for a key that may have signed before",
            meaning="this validator signs nothing until the next epoch has begun",
        )
    return journal
