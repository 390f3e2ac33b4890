"""Asking every node, when all is healed, whether anything was lost, doubled, or contradicted.

    audit = Audit(http, cluster, genesis, first_height)
    findings = await audit.run(receipts)

Each finding names what was compared; the first difference does not hide the others.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
import trio

from devnet.check import Finding
from devnet.cluster import Cluster
from devnet.replay import replay
from exchange.network import NetworkGenesis
from primitives.durable import replace_file
from primitives.faults import Fault

AGREE_S_MAX: Final = 90.0  # how long all nodes may take to reach one height
DRAIN_S_MAX: Final = 60.0  # how long the last orders may take
CHECKPOINT_S_MAX: Final = 30.0  # how long until all nodes name one checkpoint
POLL_MS: Final = 200
ROWS_MAX: Final = 1_000
READS_PER_NODE_MAX: Final = 8  # requests to one node at once; further ones wait
EXPORT_HEIGHTS_MAX: Final = 1_500  # in one archive; nodes take at most 2,000
REPLAYED_HEIGHTS_MAX: Final = 60_000  # a longer chain is not replayed, and the report says so
SHOWN_ITEMS_MAX: Final = 5


class BlockSeen(msgspec.Struct, frozen=True):
    """A block as a node recorded it."""

    height: int
    cid: str
    batch: str
    time_ms: int
    root: str


class TransactionSeen(msgspec.Struct, frozen=True):
    """What became of an envelope on a node: executed, or rejected with a code."""

    id: str
    position: int
    status: str
    code: str


class _Blocks(msgspec.Struct):
    blocks: list[BlockSeen]


class _Detail(msgspec.Struct):
    transactions: list[TransactionSeen]


class CheckpointSeen(msgspec.Struct, frozen=True):
    """The newest checkpoint that a node knows."""

    node: str
    height: int
    root: str


class Audit:
    """Reads all nodes from `first` (a height) on; `blocks` and `executed` stay for the report.

    blocks: the first node's, oldest first
    executed: by height, how many envelopes it executed there
    """

    def __init__(
        self, http: httpx.AsyncClient, cluster: Cluster, genesis: NetworkGenesis, first: int
    ) -> None:
        self._http = http
        self._cluster = cluster
        self._genesis = genesis
        self._first = first
        self._names = [node.name for node in cluster.state.nodes]
        self.blocks: list[BlockSeen] = []
        self.executed: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self.checkpoints: list[CheckpointSeen] = []
        self.height = 0

    async def run(
        self, receipts: Mapping[bytes, str], refused: Mapping[bytes, str]
    ) -> tuple[list[Finding], int, int]:
        """All findings, how many orders with a receipt were lost, how many were executed.

        Errors: those of httpx when a node does not answer.
        """
        await self._drain()
        self.height, findings = await self._agree_on_height()
        findings += await self._compare_checkpoints()
        chains = {name: await self._blocks(name) for name in self._names}
        reference = self.blocks = chains[self._names[0]]
        for name, chain in chains.items():
            findings.append(self._compare_chains(name, chain, reference))
        lost, executed, more = await self._compare_orders(receipts, refused)
        findings += more
        findings += await self._replay()
        return findings, lost, executed

    async def _drain(self) -> None:
        """Give orders whose receipts came a moment ago the time to be executed."""
        with trio.move_on_after(DRAIN_S_MAX):
            while True:
                statuses = [await self._status(name) for name in self._names]
                if all(status is not None and not status["mempool"] for status in statuses):
                    return
                await trio.sleep(POLL_MS / 1_000)

    async def _agree_on_height(self) -> tuple[int, list[Finding]]:
        """The height that all nodes reach, at least the highest at the start."""
        heights = {name: await self._height(name) for name in self._names}
        target = max(heights.values())
        with trio.move_on_after(AGREE_S_MAX):
            while min(heights.values()) < target:
                await trio.sleep(POLL_MS / 1_000)
                heights = {name: await self._height(name) for name in self._names}
        reached = min(heights.values())
        seen = ", ".join(f"{name} {height}" for name, height in heights.items())
        return reached, [Finding(f"all nodes reach height {target}", reached >= target, seen)]

    async def _compare_checkpoints(self) -> list[Finding]:
        """Wait until all nodes name the same newest checkpoint."""
        with trio.move_on_after(CHECKPOINT_S_MAX):
            while True:
                self.checkpoints = [await self._checkpoint(name) for name in self._names]
                if len({item.height for item in self.checkpoints}) == 1:
                    break
                await trio.sleep(POLL_MS / 1_000)
        states = {(item.height, item.root) for item in self.checkpoints}
        seen = ", ".join(f"{height} {root[:16]}" for height, root in sorted(states))
        return [
            Finding(
                "all nodes have an equal checkpoint", len(states) == 1 and states != {(0, "")}, seen
            )
        ]

    def _compare_chains(
        self, name: str, chain: list[BlockSeen], reference: list[BlockSeen]
    ) -> Finding:
        expected = self.height - self._first + 1
        what = f"{name} has the same blocks, batches and roots from {self._first} to {self.height}"
        for mine, others in zip(chain, reference, strict=False):
            if mine != others:
                return Finding(what, False, f"height {mine.height}: {mine} and {others}")
        return Finding(what, len(chain) == expected, f"{len(chain)} of {expected}")

    async def _compare_orders(
        self, receipts: Mapping[bytes, str], refused: Mapping[bytes, str]
    ) -> tuple[int, int, list[Finding]]:
        """Look every promised order up on every node."""
        fates: dict[str, dict[str, TransactionSeen]] = {name: {} for name in self._names}
        first, *others = self._names
        await self._read_fates(first, fates[first], range(self._first, self.height + 1))
        filled = sorted(height for height, count in self._counts.items() if count)
        async with trio.open_nursery() as nursery:
            for name in others:
                nursery.start_soon(self._read_fates, name, fates[name], filled)
        lost: set[bytes] = set()
        findings = []
        for name, known in fates.items():
            missing = [item for item in receipts if "0x" + item.hex() not in known]
            lost.update(missing)
            shown = [f"{item.hex()[:16]} (from {receipts[item]})" for item in missing]
            seen = ", ".join(shown[:SHOWN_ITEMS_MAX]) or f"{len(receipts)} of {len(receipts)}"
            if missing:
                seen = f"{len(missing)} missing: {seen}"
            findings.append(Finding(f"{name} executed every promised order", not missing, seen))
        reference = fates[first]
        odd = [item for item in reference.values() if item.status != "executed" and not item.code]
        findings.append(
            Finding("every order was executed, or rejected with a code", not odd, f"{len(odd)} odd")
        )
        unequal = [name for name, known in fates.items() if known != reference]
        findings.append(
            Finding("all nodes tell the same of every order", not unequal, ", ".join(unequal))
        )
        promised = {"0x" + item.hex() for item in (*receipts, *refused)}
        executed = sum(
            item.status == "executed" and item.id in promised for item in reference.values()
        )
        return len(lost), executed, findings

    async def _read_fates(
        self, name: str, known: dict[str, TransactionSeen], heights: Sequence[int]
    ) -> None:
        """What became of every envelope in some heights on one node."""
        reads = trio.Semaphore(READS_PER_NODE_MAX)
        is_first = name == self._names[0]
        api = self._cluster.node(name).api

        async def read(height: int) -> None:
            async with reads:
                after = ""
                executed = count = 0
                while True:
                    url = f"{api}/v1/blocks/{height}?limit={ROWS_MAX}{after}"
                    rows = msgspec.json.decode(await self._bytes(url), type=_Detail).transactions
                    known.update((item.id, item) for item in rows)
                    count += len(rows)
                    executed += sum(item.status == "executed" for item in rows)
                    if len(rows) < ROWS_MAX:
                        break
                    after = f"&after={rows[-1].position}"
                if is_first:
                    self._counts[height] = count
                    self.executed[height] = executed

        async with trio.open_nursery() as nursery:
            for height in heights:
                await reads.acquire()  # no more tasks than requests
                reads.release()
                nursery.start_soon(read, height)

    async def _replay(self) -> list[Finding]:
        """Replay the whole chain offline: the same roots, and money is neither made nor lost."""
        what = "an offline replay of all blocks gives the same roots"
        if self.height > REPLAYED_HEIGHTS_MAX:
            return [Finding(f"{what} (left out: {self.height} are too many)", True, "not replayed")]
        paths = await self._export()
        try:
            outcome = await trio.to_thread.run_sync(
                lambda: replay(paths[0], self._genesis, *paths[1:])
            )
        except Fault as fault:
            return [Finding(what, False, str(fault))]
        roots = {block.height: block.root for block in self.blocks}
        unequal = [
            height
            for height, root in outcome.roots.items()
            if height in roots and roots[height] != "0x" + root.hex()
        ]
        reached = f"{outcome.height} blocks, {outcome.transactions} envelopes"
        even = outcome.held == outcome.supply
        return [
            Finding(what, not unequal and outcome.height >= self._first, reached),
            Finding(
                "accounts hold what was deposited less what was withdrawn",
                even,
                f"held {outcome.held}, deposits less withdrawals {outcome.supply}",
            ),
        ]

    async def _export(self) -> list[Path]:
        api = self._cluster.node(self._names[0]).api
        paths = []
        for first in range(1, self.height + 1, EXPORT_HEIGHTS_MAX):
            last = min(self.height, first + EXPORT_HEIGHTS_MAX - 1)
            path = self._cluster.layout.root / f"chain-{first}.car"
            replace_file(path, await self._bytes(f"{api}/v1/export?from={first}&to={last}"))
            paths.append(path)
        return paths

    # Reading

    async def _height(self, name: str) -> int:
        """A node's height, 0 while it does not answer."""
        status = await self._status(name)
        return 0 if status is None else int(status["height"])

    async def _checkpoint(self, name: str) -> CheckpointSeen:
        status = await self._status(name)
        newest = None if status is None else status["checkpoint"]
        if newest is None:
            return CheckpointSeen(name, 0, "")
        return CheckpointSeen(name, newest["height"], newest["root"])

    async def _status(self, name: str) -> Any:
        try:
            answer = await self._http.get(f"{self._cluster.node(name).api}/v1/status")
            return answer.json() if answer.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError):
            return None

    async def _blocks(self, name: str) -> list[BlockSeen]:
        api = self._cluster.node(name).api
        found: list[BlockSeen] = []
        first = self._first
        while first <= self.height:
            last = min(self.height, first + ROWS_MAX - 1)
            url = f"{api}/v1/blocks?from={first}&to={last}&limit={ROWS_MAX}"
            rows = msgspec.json.decode(await self._bytes(url), type=_Blocks).blocks
            if not rows:
                break
            found += rows
            first = rows[-1].height + 1
        return found

    async def _bytes(self, url: str) -> bytes:
        answer = await self._http.get(url)
        answer.raise_for_status()
        return answer.content
