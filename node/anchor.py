"""The node's side of settlement: watching deposits, signing and sending rollup blocks.

What a validator sees on its own EVM node goes into its report; the exchange credits a deposit
when two thirds of the power saw the same. When the exchange cuts a rollup block and its height
is a checkpoint, every validator signs it; validators take turns at sending, and when one does
not, the next takes over.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog
import trio

from consensus import CheckpointCertificate, Committee, Observed
from exchange import Deposit, Observation, Rollup
from exchange.network import NetworkGenesis
from node.config import EvmSection
from node.driver import Driver
from node.flush import ROLLUP_KIND
from node.wire import ROLLUP_SIGNATURE_BYTES_MAX, NodeKind, RollupSignature
from p2p import Network
from primitives import codec
from primitives.faults import LocalFault, RemoteFault
from primitives.secp256k1 import checksum_address
from settlement import (
    Chain,
    Deployment,
    Receipt,
    RollupStatement,
    TokenDeployment,
    recover_rollup_signer,
    sign_rollup,
)
from storage import Journal

log = structlog.get_logger(__name__)

DEPOSITS_PER_VIEW_ITEMS_MAX = 32  # more are reported with the next view
OUTSTANDING_ITEMS_MAX = 1_024  # rollup blocks waiting for the chain; signatures beyond are dropped
EARLY_NUMBERS_MAX = 64  # signatures of rollup blocks further ahead of ours are dropped
SETTLED_ITEMS_MAX = 64  # committed ones kept, should the chain take them back
TURN_MS = 6_000  # how long a validator has for its turn before the next takes over
COMMITTED_POLL_MS = 1_000  # how often the chain is asked while a rollup block is outstanding
HEARTBEAT_MS = 10_000  # the chain's head, and deposits not credited yet, are reported this often
FAILURE_PAUSE_MS_MAX = 10_000  # back-off stops growing here
_NUMBER_BYTES = 8


@dataclass
class Outstanding:
    """A rollup block on its way to the chain."""

    rollup: Rollup
    statement: RollupStatement
    certified: bool = False
    signatures: dict[int, bytes] = field(default_factory=dict)
    complete_ms: float | None = None


@dataclass(frozen=True)
class AnchorStatistics:
    """What the node knows of the chain. `reachable` is false after a failed call."""

    reachable: bool
    number: int
    deposits_seen: int
    outstanding: int
    committed: int
    signatures_refused: int
    sent: int
    failures: int


class Anchor:
    """Settlement for one node; `secret` is None for a node that does not sign."""

    def __init__(
        self,
        chain: Chain,
        genesis: NetworkGenesis,
        committee: Committee,
        *,
        index: int | None,
        secret: bytes | None,
        journal: Journal | None,
        poll_ms: int,
        next_deposit: Callable[[], int],
        on_committed: Callable[[int, Receipt | None, list[bytes]], None],
    ) -> None:
        self._chain = chain
        self._genesis = genesis
        self._committee = committee
        self._index = index
        self._secret = secret
        self._journal = journal
        self._poll_ms = poll_ms
        self._next_deposit = next_deposit
        self._on_committed = on_committed
        self._owners = {item.evm: number for number, item in enumerate(genesis.validators)}
        self._outstanding: dict[int, Outstanding] = {}
        self._early: dict[int, list[tuple[int, RollupSignature]]] = {}
        self._settled: dict[int, Outstanding] = {}
        self._certified: dict[int, bytes] = {}
        self._highest_cut = 0
        self._wake = trio.Event()
        self._reported = 0
        self._reported_at: float | None = None
        self._reachable = False
        self._number = 0
        self._deposits = 0
        self._committed = 0
        self._counts = {"refused": 0, "sent": 0, "failures": 0}
        self.committed_height = 0
        self.driver: Driver | None = None
        self.network: Network | None = None

    # Deposits

    async def watch(self) -> None:
        """Report what the chain holds, for ever; an unreachable chain is asked again later."""
        pause_ms = self._poll_ms
        while True:
            try:
                await self._look()
                self._reachable, pause_ms = True, self._poll_ms
            except RemoteFault as fault:
                self._reachable = False
                self._counts["failures"] += 1
                pause_ms = min(2 * pause_ms, FAILURE_PAUSE_MS_MAX)
                log.warning("chain_unreachable", code=fault.code, reason=fault.sentence)
            await trio.sleep(pause_ms / 1_000)

    async def _look(self) -> None:
        now = trio.current_time()
        due = self._reported_at is None or now > self._reported_at + HEARTBEAT_MS / 1_000
        # Always from the first that is not credited: a report may replace the one before it.
        start = self._next_deposit()
        view = await self._chain.deposits_view(start, DEPOSITS_PER_VIEW_ITEMS_MAX)
        self._number, self._deposits = view.number, view.count
        fresh = start + len(view.deposits) > self._reported
        if self.driver is None or self._index is None or not (fresh or due):
            return
        deposits = [
            Deposit(item.index, item.account, item.token, item.units, item.accumulator)
            for item in view.deposits
        ]
        observation = Observation(view.number, view.hash, view.count, view.accumulator, deposits)
        self.driver.post(Observed(codec.encode(observation)))
        self._reported_at = now
        self._reported = start + len(deposits)

    # Rollup blocks

    def resume(self, signed: Mapping[bytes, bytes]) -> None:
        """Sign again what the journal says was signed before a restart.

        Without this a restart of everybody between signing and sending would leave a rollup
        block, and all that follow it, without signatures.
        """
        for item in self._outstanding.values():
            key = item.statement.number.to_bytes(_NUMBER_BYTES, "big")
            if not item.certified and signed.get(key) == item.statement.digest():
                item.certified = True
                self._sign(item)

    def uncertified(self) -> list[tuple[int, bytes]]:
        """(height, state root) of rollup blocks whose checkpoints are still missing."""
        return [
            (item.statement.height, item.statement.state_root)
            for item in self._outstanding.values()
            if not item.certified
        ]

    def cut(self, rollup: Rollup, root: bytes) -> None:
        """The exchange cut a rollup block whose state root is `root`."""
        self._highest_cut = max(self._highest_cut, rollup.number)
        if rollup.number <= self._committed:
            return
        statement = RollupStatement(
            self._genesis.exchange.chain_id,
            self._genesis.vault,
            rollup.number,
            rollup.height,
            root,
            rollup.withdrawal_root,
            rollup.deposits,
            rollup.accumulator,
        )
        self._outstanding[rollup.number] = Outstanding(rollup, statement)
        for sender, signature in self._early.pop(rollup.number, []):
            self._count(sender, signature)
        certified = self._certified.pop(rollup.height, None)
        if certified is not None:
            self._certify(self._outstanding[rollup.number], certified)

    def checkpoint(self, certificate: CheckpointCertificate) -> None:
        """A quorum computed the same state: rollup blocks of that height may be signed."""
        waiting = [
            item
            for item in self._outstanding.values()
            if not item.certified and item.statement.height == certificate.height
        ]
        for item in waiting:
            self._certify(item, certificate.root)
        if not waiting:
            self._certified[certificate.height] = certificate.root
            while len(self._certified) > OUTSTANDING_ITEMS_MAX:
                del self._certified[min(self._certified)]

    def _certify(self, item: Outstanding, root: bytes) -> None:
        if root != item.statement.state_root:
            raise LocalFault("a checkpoint contradicts the state root of a rollup block")
        item.certified = True
        self._sign(item)

    def _sign(self, item: Outstanding) -> None:
        """Sign once per number, durably before the signature leaves."""
        if self._secret is None or self._index is None or self._journal is None:
            return
        number, digest = item.statement.number, item.statement.digest()
        self._journal.write([(ROLLUP_KIND, number.to_bytes(_NUMBER_BYTES, "big"), digest)])
        signature = RollupSignature(number, digest, sign_rollup(self._secret, item.statement))
        if self.network is not None:
            self.network.broadcast(NodeKind.ROLLUP_SIGNATURE, codec.encode(signature))
        self._count(self._index, signature)

    def on_signature(self, payload: bytes, sender: int) -> None:
        """Count another validator's signature.

        From: the validator that signed.
        Checks: shape, that its EVM key signed this very statement.
        Effects: at a quorum the rollup block may be sent.
        Errors: `Malformed`, `BadRollupSignature`.
        """
        signature = codec.decode(RollupSignature, payload, bytes_max=ROLLUP_SIGNATURE_BYTES_MAX)
        if signature.number <= self._committed:
            return
        if signature.number in self._outstanding:
            self._count(sender, signature)
        elif signature.number <= self._highest_cut + EARLY_NUMBERS_MAX:
            early = self._early.setdefault(signature.number, [])
            if all(known != sender for known, _ in early):
                early.append((sender, signature))

    def _count(self, sender: int, signature: RollupSignature) -> None:
        item = self._outstanding[signature.number]
        try:
            address = recover_rollup_signer(item.statement, signature.signature)
        except RemoteFault as fault:
            self._refuse(sender, fault.sentence)
            return
        if self._owners.get(address) != sender:
            self._refuse(sender, "signed by another key, or another statement")
            return
        item.signatures[sender] = signature.signature
        power = sum(self._committee.power(number) for number in item.signatures)
        if item.complete_ms is None and self._committee.is_quorum(power):
            item.complete_ms = trio.current_time() * 1_000
            self._wake.set()

    def _refuse(self, sender: int, reason: str) -> None:
        self._counts["refused"] += 1
        log.warning("rollup_signature_refused", validator=sender, reason=reason)

    def resend(self, validator: int) -> None:
        """Repeat own signatures to a validator that may have missed them."""
        if self.network is None or self._index is None:
            return
        for number, item in self._outstanding.items():
            own = item.signatures.get(self._index)
            if own is not None:
                wire = codec.encode(RollupSignature(number, item.statement.digest(), own))
                self.network.send(validator, NodeKind.ROLLUP_SIGNATURE, wire)

    # Sending

    async def send(self) -> None:
        """Bring rollup blocks to the chain in order, for ever."""
        while True:
            self._wake = trio.Event()
            with trio.move_on_after(COMMITTED_POLL_MS / 1_000):
                await self._wake.wait()
            if not self._outstanding and not self._settled:
                continue
            try:
                await self._settle()
            except RemoteFault as fault:
                self._counts["failures"] += 1
                log.warning("rollup_not_sent", code=fault.code, reason=fault.sentence)

    async def _settle(self) -> None:
        """Note what is on chain already, then send the next one if it is this node's turn."""
        last = await self._chain.last_rollup()
        number = 0 if last is None else last.number
        if number < self._committed:
            self._reopen(number)
        elif last is not None and number <= self._highest_cut:
            self._note_committed(number, last.height, None)
        item = self._outstanding.get(self._committed + 1)
        if item is None or item.complete_ms is None or self._secret is None:
            return
        if not self._is_my_turn(item):
            return
        receipt = await self._chain.commit(item.statement, list(item.signatures.values()))
        self._counts["sent"] += 1
        log.info("rollup_committed", number=item.statement.number, tx=receipt.tx, gas=receipt.gas)
        self._note_committed(item.statement.number, item.statement.height, receipt)

    def _is_my_turn(self, item: Outstanding) -> bool:
        """Turns rotate with the number, and pass on after `TURN_MS` each."""
        if self._index is None or item.complete_ms is None:
            return False
        count = len(self._committee)
        first = item.statement.number % count
        distance = (self._index - first) % count
        waited_ms = trio.current_time() * 1_000 - item.complete_ms
        return waited_ms >= distance * TURN_MS

    def _reopen(self, number: int) -> None:
        """The chain took commits back in a reorganisation: they are sent again."""
        log.warning("rollups_reverted", committed=self._committed, on_chain=number)
        for undone in range(number + 1, self._committed + 1):
            item = self._settled.pop(undone, None)
            if item is not None:
                self._outstanding[undone] = item
        self._committed = number

    def _note_committed(self, number: int, height: int, receipt: Receipt | None) -> None:
        self.committed_height = max(self.committed_height, height)
        for done in range(self._committed + 1, number + 1):
            item = self._outstanding.pop(done, None)
            signatures = [] if item is None else list(item.signatures.values())
            if item is not None:
                self._settled[done] = item
            self._on_committed(done, receipt if done == number else None, signatures)
            self._early.pop(done, None)
        self._committed = max(self._committed, number)
        while len(self._settled) > SETTLED_ITEMS_MAX:
            del self._settled[min(self._settled)]

    @property
    def committed(self) -> int:
        """The newest rollup block known to be on chain."""
        return self._committed

    async def is_claimed(self, number: int, index: int) -> bool:
        """Whether a withdrawal was paid out. Errors: those of `settlement.Chain`."""
        return await self._chain.is_claimed(number, index)

    def statistics(self) -> AnchorStatistics:
        return AnchorStatistics(
            self._reachable,
            self._number,
            self._deposits,
            len(self._outstanding),
            self._committed,
            self._counts["refused"],
            self._counts["sent"],
            self._counts["failures"],
        )


def open_chain(evm: EvmSection, genesis: NetworkGenesis, key: bytes | None) -> Chain:
    """The chain that holds this network's money; `key` is None for a node that does not sign."""
    tokens = [
        TokenDeployment(
            token.symbol, checksum_address(contract.address), token.decimals, contract.scale
        )
        for token, contract in zip(genesis.exchange.tokens, genesis.contracts, strict=True)
    ]
    deployment = Deployment(
        genesis.exchange.chain_id,
        checksum_address(genesis.vault),
        tokens,
        genesis.vault_block,
    )
    return Chain(evm.endpoints, deployment, key=key, confirmations=evm.confirmations)
