"""Replaying an exported chain offline: the same blocks must give the same roots.

Nothing of any node is believed: blocks are followed from the genesis by hash and certificate,
the order of every batch is computed again from the report links, every envelope's signature is
checked, and the exchange is run from its first state.
"""

from dataclasses import dataclass
from pathlib import Path

from consensus import Block, ChainArrived, Commit, Replica, decode_block
from devnet.faults import CheckFailed
from exchange import BlockInput, BlockResult, Exchange, Observation, judge
from exchange.events import Deposited, Withdrawn
from exchange.network import NetworkGenesis
from node.batch import Batch, decode_batch
from node.genesis import agreement
from primitives import codec, dagcbor
from primitives.cid import to_text
from primitives.faults import RemoteFault
from storage import ArchiveReader

OBSERVATION_BYTES_MAX = 16_384
_BLOCK_DOMAINS = "outcry/block/"  # of any version: the decoder knows which one is right
_BATCH_DOMAINS = "outcry/batch/"
_ARCHIVED_BYTES_MAX = 16 << 20


@dataclass(frozen=True)
class Replayed:
    """The outcome: roots by height, and what was on the way.

    supply: by token, deposits less withdrawals, from the events
    held: by token, what all accounts hold at the end, free and reserved
    """

    height: int
    roots: dict[int, bytes]
    blocks: list[str]
    transactions: int
    supply: list[int]
    held: list[int]


def replay(archive: Path, genesis: NetworkGenesis, *further: Path) -> Replayed:
    """Replay all of an archive, or of several that follow on each other.

    Errors: `CheckFailed`, `StateCorrupt`, and those of `storage.archive`.
    """
    blocks: list[Block] = []
    batches: dict[bytes, Batch] = {}
    for part in (archive, *further):
        more_blocks, more_batches = _read(part, genesis.network_id())
        blocks += more_blocks
        batches |= more_batches
    blocks.sort(key=lambda block: block.height)
    if not blocks:
        raise CheckFailed(f"{archive} holds no blocks")
    commits = _agree(blocks, genesis)
    exchange = Exchange(genesis.exchange, genesis.network_id())
    roots: dict[int, bytes] = {}
    supply = [0] * len(genesis.exchange.tokens)
    count = 0
    for commit in commits:
        batch = batches.get(commit.block.cid)
        if batch is None:
            break
        count += len(batch.envelopes)
        result = _execute(exchange, commit, batch, genesis)
        roots[commit.block.height] = result.root
        _count_supply(supply, result)
    if not roots:
        raise CheckFailed(f"{archive} holds no batch that could be executed")
    names = [to_text(commit.block.cid) for commit in commits if commit.block.height in roots]
    exchange.audit()
    held = [0] * len(supply)
    for account in exchange.accounts.by_index:
        for token, wallet in enumerate(account.wallets):
            held[token] += wallet.free + wallet.reserved
    return Replayed(max(roots), roots, names, count, supply, held)


def _count_supply(supply: list[int], result: BlockResult) -> None:
    """Add what a block's events say came in, take off what went out."""
    for event in result.events:
        if isinstance(event, Deposited):
            supply[event.token] += event.units
        elif isinstance(event, Withdrawn):
            supply[event.token] -= event.units


def _read(archive: Path, network: bytes) -> tuple[list[Block], dict[bytes, Batch]]:
    """Blocks by height, and batches by the block they belong to."""
    blocks: list[Block] = []
    batches: dict[bytes, Batch] = {}
    with ArchiveReader.open(archive) as reader:
        for _, data in reader:
            value = dagcbor.decode(data, bytes_max=_ARCHIVED_BYTES_MAX)
            domain = str(value[0]) if isinstance(value, list) and value else ""
            if domain.startswith(_BLOCK_DOMAINS):
                blocks.append(decode_block(data, network))
            elif domain.startswith(_BATCH_DOMAINS):
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


def _execute(
    exchange: Exchange, commit: Commit, batch: Batch, genesis: NetworkGenesis
) -> BlockResult:
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
    return result
