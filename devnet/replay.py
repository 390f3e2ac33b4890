"""Replaying an exported chain offline: the same blocks must give the same roots.

Nothing of any node is believed: blocks are followed from the genesis by hash and certificate,
the order of every batch is computed again from the report links, every envelope's signature is
checked, and the exchange is run from its first state.
"""

from dataclasses import dataclass
from pathlib import Path

from consensus import Block, ChainArrived, Commit, Replica, decode_block
from devnet.faults import CheckFailed
from exchange import BlockInput, Exchange, Observation, judge
from exchange.network import NetworkGenesis
from node.batch import Batch, decode_batch
from node.genesis import agreement
from primitives import codec, dagcbor
from primitives.cid import to_text
from primitives.faults import RemoteFault
from storage import ArchiveReader

OBSERVATION_BYTES_MAX = 16_384
_BLOCK_DOMAIN = "outcry/block/1"
_BATCH_DOMAIN = "outcry/batch/1"
_ARCHIVED_BYTES_MAX = 16 << 20


@dataclass(frozen=True)
class Replayed:
    """The outcome: roots by height, and what was on the way."""

    height: int
    roots: dict[int, bytes]
    blocks: list[str]
    transactions: int


def replay(archive: Path, genesis: NetworkGenesis) -> Replayed:
    """Replay all of an archive. Errors: `CheckFailed`, and those of `storage.archive`."""
    blocks, batches = _read(archive, genesis.network_id())
    if not blocks:
        raise CheckFailed(f"{archive} holds no blocks")
    commits = _agree(blocks, genesis)
    exchange = Exchange(genesis.exchange, genesis.network_id())
    roots: dict[int, bytes] = {}
    count = 0
    for commit in commits:
        batch = batches.get(commit.block.cid)
        if batch is None:
            break
        count += len(batch.envelopes)
        root = _execute(exchange, commit, batch, genesis)
        roots[commit.block.height] = root
    if not roots:
        raise CheckFailed(f"{archive} holds no batch that could be executed")
    names = [to_text(commit.block.cid) for commit in commits if commit.block.height in roots]
    return Replayed(max(roots), roots, names, count)


def _read(archive: Path, network: bytes) -> tuple[list[Block], dict[bytes, Batch]]:
    """Blocks by height, and batches by the block they belong to."""
    blocks: list[Block] = []
    batches: dict[bytes, Batch] = {}
    with ArchiveReader.open(archive) as reader:
        for _, data in reader:
            value = dagcbor.decode(data, bytes_max=_ARCHIVED_BYTES_MAX)
            domain = value[0] if isinstance(value, list) and value else None
            if domain == _BLOCK_DOMAIN:
                blocks.append(decode_block(data, network))
            elif domain == _BATCH_DOMAIN:
                batch = decode_batch(data, network)
                batches[batch.block] = batch
    blocks.sort(key=lambda block: block.height)
    return blocks, batches


def _agree(blocks: list[Block], genesis: NetworkGenesis) -> list[Commit]:
    """Follow the chain as an observer would who trusts nobody: certificates decide.

    The last two blocks have no successors that certify them; they are taken by their links.
    """
    observer = Replica(agreement(genesis), None, lambda _: True)
    last = blocks[-1]
    try:
        effects = observer.handle(
            ChainArrived(tuple(block.wire for block in blocks[:-1]), last.qc), 0
        )
    except RemoteFault as fault:
        raise CheckFailed(f"the exported chain is not certified: {fault}") from None
    commits = [effect for effect in effects if isinstance(effect, Commit)]
    if len(commits) < len(blocks) - 3:
        raise CheckFailed(f"only {len(commits)} of {len(blocks)} exported blocks are final")
    return commits


def _execute(exchange: Exchange, commit: Commit, batch: Batch, genesis: NetworkGenesis) -> bytes:
    height = commit.block.height
    verdicts = tuple(judge(wire, genesis.domain()) for wire in batch.envelopes)
    if tuple(item.id for item in verdicts) != commit.batch:
        raise CheckFailed(f"height {height}: the batch is not in the order that the links give")
    observations = []
    for link in commit.block.links:
        try:
            observation = codec.decode(
                Observation, link.observation, bytes_max=OBSERVATION_BYTES_MAX
            )
        except RemoteFault:
            continue
        observations.append((link.author, observation))
    result = exchange.apply(BlockInput(height, commit.block.time_ms, verdicts, tuple(observations)))
    if result.root != batch.root:
        raise CheckFailed(f"height {height}: the replay gives another root than the batch states")
    root: bytes = result.root
    return root
