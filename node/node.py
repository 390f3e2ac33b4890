"""One node: all rooms, introduced to each other.

    node = Node(config, genesis, keys, index, network)     # see `node.opening`
    await node.run(journal)

A validator votes; a gateway follows, serves and hands on. The order of starting is: storage is
replayed, then the journal is taken, then the network opens; nothing is signed before that.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import psutil
import structlog
import trio

from consensus import (
    RESUME_KINDS,
    Block,
    CheckpointCertificate,
    CheckpointReached,
    Effect,
    Executed,
    FetchChain,
    FetchEnvelopes,
    Identity,
    LinkUp,
    Received,
    Replica,
    ReplicaStatistics,
)
from exchange import Exchange, Rollup, envelope_id
from exchange.network import NetworkGenesis
from exchange.receipt import Receipt
from node import vitals
from node.config import Config
from node.driver import Driver
from node.faults import KeysMismatch
from node.feed import Feed
from node.flush import ENVELOPE_KIND, ROLLUP_KIND
from node.genesis import agreement
from node.intake import Intake
from node.keys import NodeKeys
from node.ledger import Ledger
from node.mempool import Mempool
from node.metrics import Metric
from node.packed import PackedLine
from node.recording import EXECUTED
from node.recovery import recover_replica
from node.repetition import Repeated
from node.status import (
    CheckpointView,
    ClaimView,
    EnvelopeStatus,
    EvmView,
    PeerView,
    Status,
    software_version,
)
from node.sync import Sync
from node.talk import Talk
from node.wire import TOPIC_ENVELOPES, NodeKind
from p2p import Network
from primitives.anchors import withdrawal_leaf
from primitives.faults import RemoteFault
from primitives.keccak_tree import proof as keccak_proof
from storage import Index, Journal

if TYPE_CHECKING:  # web3 takes a second to import: voting does not wait for it
    from node.anchor import Anchor
    from settlement import Receipt as ChainReceipt

log = structlog.get_logger(__name__)

GATEWAY_POLL_MS = 200  # how often a gateway asks for new blocks
CATCHING_UP_HEIGHTS = 50  # a node this far behind what it agreed on takes no orders
WITHDRAWALS_ITEMS_MAX = 200  # claims in one answer
RECENT_HEIGHT_MS_MAX = 30_000  # a gateway that heard of no block for so long takes no orders


class Node:
    """See `node.opening`. What the API reads is public here."""

    def __init__(
        self,
        config: Config,
        genesis: NetworkGenesis,
        keys: NodeKeys,
        index: Index,
        network: Network,
    ) -> None:
        self.config = config
        self.name = config.node.name
        self.role = config.node.role
        self.genesis = genesis
        self.network = genesis.network_id()
        self.index = index
        self.feed = Feed()
        self._p2p = network
        self._keys = keys
        self._number = self._validator_number()
        agreed = agreement(genesis)
        self._committee = agreed.committee
        self.mempool = Mempool()
        self.exchange = Exchange(genesis.exchange, self.network)
        signing = keys.signing()
        identity = None if self._number is None else Identity(signing, self._number)
        self.replica = Replica(agreed, identity, self.mempool.__contains__, config.timing.timing())
        self.ledger = Ledger(
            self.exchange,
            index,
            self.mempool,
            self.feed,
            genesis.domain(),
            on_rollup=self._on_rollup,
            on_keys=lambda changed: self.talk.recheck(changed),
        )
        self._names = [item.name for item in genesis.validators]
        peer_ids = [item.peer_id for item in genesis.validators]
        self.sync = Sync(network, self.replica, self.mempool, index, peer_ids, self.network)
        self.intake = Intake(
            genesis.domain(),
            self.exchange,
            self.mempool,
            network,
            signing,
            is_validator=self._number is not None,
            height=lambda: max(self.ledger.height, self._stored),
            is_ready=lambda: self.is_ready,
        )
        self.talk = Talk(genesis, index, network, self.feed, peer_ids)
        self.chat = self.talk.service
        self._line = PackedLine()
        self._refused = Repeated("message_refused", logger=log)
        self._cut_rollups: list[tuple[Rollup, bytes]] = []
        self._checkpoints: list[CheckpointCertificate] = []
        self.driver: Driver | None = None
        self.anchor: Anchor | None = None
        self._nursery: trio.Nursery | None = None
        self._journal: Journal | None = None
        self._stored = 0  # the height that storage holds at the start
        self._recovered = False

    def _validator_number(self) -> int | None:
        """This node's index among the validators; None for a gateway. Errors: `KeysMismatch`."""
        if self.role == "gateway":
            return None
        public = self._keys.signing().public
        for number, item in enumerate(self.genesis.validators):
            if item.consensus == public and item.name == self.name:
                return number
        raise KeysMismatch(
            f"the genesis has no validator {self.name} with this keystore's consensus key; "
            'check [node] name and keystore, or set role = "gateway"'
        )

    # Running

    async def run(
        self, journal: Journal | None, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Recover, then work until cancelled. `started` comes once the recovery is done.

        The agreement comes back first and votes while storage is executed again.
        """
        self._journal = journal
        entries = await trio.to_thread.run_sync(self._read_journal, journal)
        blocks = await trio.to_thread.run_sync(recover_replica, self.replica, self.index, entries)
        self._stored = self.replica.height
        log.info("agreement_recovered", blocks=blocks, height=self._stored)
        driver = Driver(
            self.replica,
            journal,
            self._p2p,
            fetch_envelopes=self._fetch_envelopes,
            fetch_chain=self._fetch_chain,
            checkpoint=self._on_checkpoint,
        )
        self.driver = self.sync.driver = self.intake.driver = self.ledger.driver = driver
        self.ledger.fetch = self.sync.fetch_batch
        self.sync.arrived = self.intake.on_fetched
        watch = journal is not None and journal.watch
        effects = self.replica.resume(entries, driver.now_ms(), watch=watch)
        held = driver.resume_envelopes(entries.get(ENVELOPE_KIND, {}))
        waiting, executed = await trio.to_thread.run_sync(self._split_executed, held)
        driver.envelopes_finished(executed)
        await self.intake.on_fetched(waiting)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            self._start_agreement(nursery, driver, effects)
            blocks = await trio.to_thread.run_sync(self.ledger.replay, self._on_replayed)
            log.info("replayed", blocks=blocks, height=self.ledger.height)
            self.anchor = await self._make_anchor(journal)
            self.anchor.resume(entries.get(ROLLUP_KIND, {}))
            for height, root in self.anchor.uncertified():
                driver.post(Executed(height, root, checkpoint=True))
            self._start_execution(nursery, driver, self.anchor)
            task_status.started()

    def _split_executed(self, wires: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Those envelopes that wait to be executed, and the ids of those that storage has."""
        waiting, executed = [], []
        for wire in wires:
            name = envelope_id(wire, self.network)
            if self.index.transaction(name) is None:
                waiting.append(wire)
            else:
                executed.append(name)
        return waiting, executed

    def _on_replayed(self, block: Block) -> None:
        """Remember the checkpoint that a replayed block carries."""
        if block.checkpoint is not None:
            self._checkpoints.append(block.checkpoint)

    def _start_agreement(
        self, nursery: trio.Nursery, driver: Driver, effects: list[Effect]
    ) -> None:
        """What voting needs. None of it looks at the exchange."""
        self.sync.serve()
        nursery.start_soon(driver.run, effects)
        nursery.start_soon(self.sync.run, GATEWAY_POLL_MS if self._number is None else None)
        nursery.start_soon(self.intake.push)
        nursery.start_soon(self._read_frames)
        nursery.start_soon(self._line.run, self.intake)
        nursery.start_soon(self._watch_links)

    def _start_execution(self, nursery: trio.Nursery, driver: Driver, anchor: "Anchor") -> None:
        """What needs the exchange as storage left it."""
        self._recovered = True
        self.talk.serve()
        nursery.start_soon(self.ledger.run, driver.commits)
        nursery.start_soon(self.talk.run)
        nursery.start_soon(anchor.watch)
        nursery.start_soon(anchor.send)
        if self._number is not None:
            nursery.start_soon(self._read_gossip)

    def _read_journal(self, journal: Journal | None) -> dict[str, dict[bytes, bytes]]:
        if journal is None:
            return {}
        kinds = (*RESUME_KINDS, ENVELOPE_KIND, ROLLUP_KIND)
        return {kind: journal.read(kind) for kind in kinds}

    async def _make_anchor(self, journal: Journal | None) -> "Anchor":
        module = await trio.to_thread.run_sync(import_module, "node.anchor")
        secret = None if self._number is None else self._keys.evm
        anchor: Anchor = module.Anchor(
            module.open_chain(self.config.evm, self.genesis, secret),
            self.genesis,
            self._committee,
            index=self._number,
            secret=secret,
            journal=journal,
            poll_ms=self.config.evm.poll_ms,
            next_deposit=lambda: self.exchange.deposits.next_index,
            on_committed=self._on_committed,
        )
        anchor.driver, anchor.network = self.driver, self._p2p
        for certificate in self._checkpoints:
            anchor.checkpoint(certificate)
        for rollup, root in self._cut_rollups:
            anchor.cut(rollup, root)
        return anchor

    async def _read_frames(self) -> None:
        """What validators push; a wrong message costs its sender, never us."""
        async for frame in self._p2p.frames:
            for kind, payload in frame.messages:
                try:
                    await self._on_message(kind, payload, frame.validator)
                except RemoteFault as fault:
                    self._refused.tell(
                        (frame.validator, fault.code), validator=frame.validator, code=fault.code
                    )

    async def _on_message(self, kind: int, payload: bytes, sender: int) -> None:
        if kind == NodeKind.ENVELOPES:
            self._line.offer(payload, sender)
        elif kind == NodeKind.ROLLUP_SIGNATURE:
            if self.anchor is not None:
                self.anchor.on_signature(payload, sender)
        elif self.driver is not None:
            await self.driver.post_received(Received(kind, payload, sender))

    async def _read_gossip(self) -> None:
        """Envelopes that gateways hand on."""
        async for message in self._p2p.subscribe(TOPIC_ENVELOPES):
            try:
                await self.intake.on_gossip(message.payload)
            except RemoteFault as fault:
                log.warning("gossip_refused", peer=message.peer, code=fault.code)

    async def _watch_links(self) -> None:
        """Repeat to a validator what it may have missed while its link was down."""
        async for link in self._p2p.links:
            if self.driver is not None:
                self.driver.post(LinkUp(link.validator))
            if self.anchor is not None:
                self.anchor.resend(link.validator)
            if self._number is not None:
                self.intake.repeat(link.validator)

    # What consensus and ledger ask for

    def _fetch_envelopes(self, effect: FetchEnvelopes) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self.sync.fetch_envelopes, effect)

    def _fetch_chain(self, effect: FetchChain) -> None:
        self.sync.want_chain(effect)

    def _on_checkpoint(self, effect: CheckpointReached) -> None:
        if self.anchor is not None:
            self.anchor.checkpoint(effect.certificate)

    def _on_rollup(self, rollup: Rollup, root: bytes) -> None:
        if self.anchor is None:
            self._cut_rollups.append((rollup, root))
        else:
            self.anchor.cut(rollup, root)

    def _on_committed(
        self, number: int, receipt: "ChainReceipt | None", signatures: list[bytes]
    ) -> None:
        """Note what is known of a rollup block on chain; its sender knows the transaction."""
        if self.index.rollup(number) is None:
            return  # cut a moment ago, and its block is not recorded yet
        if receipt is not None:
            self.index.post_rollup(number, receipt.tx)
        if signatures:
            self.index.sign_rollup(number, b"".join(signatures))

    # What the API asks for

    @property
    def is_ready(self) -> bool:
        """Whether orders are taken: the node runs and execution is close to agreement."""
        if not self._recovered:
            return False
        behind = self.replica.height - self.ledger.height
        return behind <= CATCHING_UP_HEIGHTS

    async def submit(self, wires: list[bytes]) -> list[Receipt | RemoteFault]:
        """Take envelopes from a client; a signed receipt or a fault for each, in order."""
        return await self.intake.submit(wires)

    async def say(self, wire: bytes) -> bytes:
        """Take a chat message from a client; its CID. Errors: `ChatFault`."""
        return await self.talk.say(wire)

    async def envelope(self, name: bytes) -> EnvelopeStatus | None:
        """How far an envelope has come, None for one that this node has not seen."""
        row = await trio.to_thread.run_sync(self.index.transaction, name)
        if row is None:
            if name not in self.mempool:
                return None
            return EnvelopeStatus("0x" + name.hex(), "accepted", None, None, "", [])
        rejections = await trio.to_thread.run_sync(self.index.rejections, name, 64)
        on_chain = self.anchor is not None and row.height <= self.anchor.committed_height
        return EnvelopeStatus(
            "0x" + name.hex(),
            "committed" if on_chain and row.status == EXECUTED else row.status,
            row.height,
            row.position,
            row.code,
            [(item.action, item.code) for item in rejections],
        )

    async def withdrawals(self, address: bytes) -> list[ClaimView]:
        """Withdrawals of an account, newest first, with proofs once their block is on chain.

        Errors: those of `settlement.Chain`.
        """
        rows = await trio.to_thread.run_sync(self.index.withdrawals, address, WITHDRAWALS_ITEMS_MAX)
        views = []
        for row in rows:
            siblings = await trio.to_thread.run_sync(self._proof, row.rollup, row.leaf)
            on_chain = self.anchor is not None and row.rollup <= self.anchor.committed
            claimed = (
                on_chain
                and self.anchor is not None
                and await self.anchor.is_claimed(row.rollup, row.leaf)
            )
            views.append(
                ClaimView(
                    row.rollup,
                    row.leaf,
                    "0x" + row.account.hex(),
                    row.token,
                    row.units,
                    ["0x" + item.hex() for item in siblings],
                    claimable=on_chain and not claimed,
                    claimed=claimed,
                )
            )
        return views

    def _proof(self, number: int, leaf: int) -> list[bytes]:
        rows = self.index.rollup_withdrawals(number, WITHDRAWALS_ITEMS_MAX * 2)
        leaves = [
            withdrawal_leaf(number, row.leaf, row.account, row.token, row.units) for row in rows
        ]
        return keccak_proof(leaves, leaf)

    async def metrics(self) -> list[Metric]:
        """Every number that a part of this node keeps, for Prometheus."""
        replica, names = self.replica.statistics(), self._names
        parts: dict[str, Any] = {
            "ledger": self.ledger,
            "mempool": self.mempool,
            "intake": self.intake,
            "sync": self.sync,
            "chat": self.talk,
            "feed": self.feed,
            "p2p": self._p2p,
            "exchange": self.exchange,
            "driver": self.driver,
            "anchor": self.anchor,
        }
        numbers = {name: part.statistics() for name, part in parts.items() if part is not None}
        rss_bytes = psutil.Process().memory_info().rss
        found = [*vitals.of_node(self.name, self.role, software_version(), rss_bytes)]
        found += vitals.of_parts({"consensus": replica, **numbers})
        is_validator = self._number is not None
        found += vitals.of_peers(names, self._p2p.peers(), is_validator=is_validator)
        if is_validator:
            found += vitals.of_agreement(
                names, replica, self.replica.accused, signing=self._is_signing(replica)
            )
        folder = self.config.path(self.config.node.data)
        found += await trio.to_thread.run_sync(vitals.of_disk, self.index, self._journal, folder)
        return found

    def _is_signing(self, replica: ReplicaStatistics) -> bool:
        return self._number is not None and self.driver is not None and not replica.silent

    def status(self) -> Status:
        replica = self.replica.statistics()
        certificate = self.replica.newest_checkpoint
        peers = self._p2p.peers()
        members = len(self._committee)
        anchor = None if self.anchor is None else self.anchor.statistics()
        credited = self.exchange.deposits.next_index
        return Status(
            name=self.name,
            role=self.role,
            version=software_version(),
            network=self.network.hex(),
            pid=os.getpid(),
            rss_mb=round(psutil.Process().memory_info().rss / (1 << 20), 1),
            ready=self.is_ready,
            signing=self._is_signing(replica),
            height=self.ledger.height,
            epoch=replica.epoch,
            round=replica.round,
            time_ms=self.ledger.time_ms,
            root=self.exchange.root.hex(),
            checkpoint=None
            if certificate is None
            else CheckpointView(certificate.height, certificate.root.hex()),
            validators=members,
            agreement_faults_max=(members - 1) // 3,
            fairness_faults_max=(members - 1) // 4,
            passed_over=[vitals.named(self._names, item) for item in replica.passed_over],
            accused=[vitals.named(self._names, item) for item in self.replica.accused],
            peers_connected=sum(peer.connected for peer in peers),
            peers=[
                PeerView(peer.peer_id, peer.validator, peer.connected, peer.address or "")
                for peer in peers
            ],
            evm=EvmView(
                reachable=anchor is not None and anchor.reachable,
                number=0 if anchor is None else anchor.number,
                deposits_seen=max(credited, 0 if anchor is None else anchor.deposits_seen),
                deposits_credited=credited,
            ),
            rollup=0 if anchor is None else anchor.committed,
            mempool=self.mempool.statistics().waiting,
        )
