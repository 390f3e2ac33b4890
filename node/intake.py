"""Where envelopes enter a node: from clients, from other validators, from gossip, by fetching.

Signatures are checked in worker threads, in batches, once; the verdict is kept in the mempool.
What a client sends is checked against the state too, so that nothing hopeless is spread; what
a validator pushes was checked there, and is only checked for what everybody computes alike.
"""

from collections.abc import Callable
from dataclasses import dataclass

import structlog
import trio

from exchange import Admitted, Exchange, Refused, admit, envelope_id, judge
from exchange.receipt import Receipt, sign_receipt
from node.driver import Driver
from node.faults import NotReady
from node.mempool import Mempool
from node.wire import (
    PACKED_BYTES_MAX,
    TOPIC_ENVELOPES,
    NodeKind,
    Packed,
    pack,
)
from p2p import Network
from primitives import codec, ed25519
from primitives.eip712 import Domain
from primitives.faults import RemoteFault

log = structlog.get_logger(__name__)

PUSH_PAUSE_MS = 4  # envelopes that come within this time leave in one message
VERIFY_THREADS_MAX = 2  # batches of signatures checked at once; further ones wait
REPEATED_ITEMS_MAX = 4_096  # waiting envelopes pushed again to a validator that comes back
PUSH_WAITING_ITEMS_MAX = 20_000  # more: clients are refused with E494


@dataclass(frozen=True)
class IntakeStatistics:
    """Envelopes since start; `refused` by fault code."""

    accepted: int
    pushed: int
    received: int
    refused: dict[str, int]


class Intake:
    """Admission for one node; `height` and `now_ms` tell where it stands."""

    def __init__(
        self,
        domain: Domain,
        exchange: Exchange,
        mempool: Mempool,
        network: Network,
        key: ed25519.SigningKey,
        *,
        is_validator: bool,
        height: Callable[[], int],
        is_ready: Callable[[], bool],
    ) -> None:
        self._domain = domain
        self._exchange = exchange
        self._mempool = mempool
        self._network = network
        self._key = key
        self._is_validator = is_validator
        self._height = height
        self._is_ready = is_ready
        self._threads = trio.CapacityLimiter(VERIFY_THREADS_MAX)
        self._outgoing: list[bytes] = []
        self._wake = trio.Event()
        self._counts = {"accepted": 0, "pushed": 0, "received": 0}
        self._refused: dict[str, int] = {}
        self.driver: Driver | None = None

    # From clients

    async def submit(self, wires: list[bytes]) -> list[Receipt | RemoteFault]:
        """Take envelopes from a client; a signed receipt or a fault for each, in order."""
        if not self._is_ready():
            return self._refuse_all(wires, NotReady("this node is catching up; try another one"))
        if self._mempool.is_full or len(self._outgoing) >= PUSH_WAITING_ITEMS_MAX:
            return self._refuse_all(wires, NotReady("this node's queue is full; try again soon"))
        verdicts = await self._verify(wires, admit)
        answers: list[Receipt | RemoteFault] = []
        fresh: list[tuple[bytes, bytes]] = []
        for wire, verdict in zip(wires, verdicts, strict=True):
            answer = self._accept(wire, verdict, fresh)
            if isinstance(answer, RemoteFault):
                self._refused[answer.code] = self._refused.get(answer.code, 0) + 1
            answers.append(answer)
        self._hand_on(fresh)
        if self.driver is not None and self._is_validator and fresh:
            await self.driver.durable()  # a receipt is a promise that survives kill -9
        return answers

    def _accept(
        self,
        wire: bytes,
        verdict: Admitted | Refused | RemoteFault,
        fresh: list[tuple[bytes, bytes]],
    ) -> Receipt | RemoteFault:
        if isinstance(verdict, RemoteFault):
            return verdict
        if isinstance(verdict, Admitted) and verdict.id not in self._mempool:
            try:
                self._exchange.check(verdict, self._height() + 1)
            except RemoteFault as fault:
                return fault
            self._mempool.add(wire, verdict, self._height())
            fresh.append((verdict.id, wire))
            self._counts["accepted"] += 1
        now_ms = 0 if self.driver is None else self.driver.now_ms()
        return sign_receipt(self._key, self._domain.network, verdict.id, self._height(), now_ms)

    def _hand_on(self, fresh: list[tuple[bytes, bytes]]) -> None:
        if not fresh:
            return
        if self.driver is not None and self._is_validator:
            self.driver.envelopes_arrived(fresh)
        self._outgoing += [wire for _, wire in fresh]
        self._wake.set()

    def _refuse_all(self, wires: list[bytes], fault: RemoteFault) -> list[Receipt | RemoteFault]:
        self._refused[fault.code] = self._refused.get(fault.code, 0) + len(wires)
        return [fault for _ in wires]

    # To others

    async def push(self) -> None:
        """Hand new envelopes on, packed, for ever: validators push, gateways gossip."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await trio.sleep(PUSH_PAUSE_MS / 1_000)
            wires, self._outgoing = self._outgoing, []
            for group in pack(wires):
                self._counts["pushed"] += len(group)
                message = codec.encode(group)
                if self._is_validator:
                    self._network.broadcast(NodeKind.ENVELOPES, message)
                else:
                    await self._network.publish(TOPIC_ENVELOPES, message)

    def repeat(self, validator: int) -> None:
        """Push what waits to be executed to a validator whose link came up: it may have missed
        it, and after a restart of this node nobody else may have it."""
        for group in pack(self._mempool.waiting(REPEATED_ITEMS_MAX)):
            self._network.send(validator, NodeKind.ENVELOPES, codec.encode(group))

    # From others

    def unpack(self, payload: bytes) -> list[bytes]:
        """The envelopes in what another validator hands on that are not at hand.

        From: a validator over its stream.
        Checks: shape, room.
        Effects: none; `take` verifies and keeps them.
        Errors: `Malformed`, `Oversized`.
        """
        return self._fresh(payload)

    async def take(self, wires: list[bytes]) -> None:
        """Verify what was unpacked, of any number of messages, in one go: valid envelopes are
        kept and reported, wrong ones are counted and dropped."""
        fresh = list(dict.fromkeys(wires))
        if fresh:
            self._keep(fresh, await self._verify(fresh, admit))

    async def on_gossip(self, payload: bytes) -> None:
        """Take envelopes that a gateway hands on: also checked against the state, because
        anybody may gossip.

        From: anybody.
        Checks: shape, bytes, signature, and whether the exchange would take each one now.
        Effects: as `take`.
        Errors: `Malformed`, `Oversized`.
        """
        fresh = self._fresh(payload)
        if fresh:
            verdicts = await self._verify(fresh, admit)
            self._keep(fresh, [self._judge_by_state(verdict) for verdict in verdicts])

    def _fresh(self, payload: bytes) -> list[bytes]:
        """The envelopes in a packed message that are not at hand, none while there is no room."""
        wires: list[bytes] = codec.decode(Packed, payload, bytes_max=2 * PACKED_BYTES_MAX)
        network = self._domain.network
        fresh = [wire for wire in wires if envelope_id(wire, network) not in self._mempool]
        self._counts["received"] += len(fresh)
        return [] if self._mempool.is_full else fresh

    def _judge_by_state(
        self, verdict: Admitted | Refused | RemoteFault
    ) -> Admitted | Refused | RemoteFault:
        if isinstance(verdict, Admitted):
            try:
                self._exchange.check(verdict, self._height() + 1)
            except RemoteFault as fault:
                return fault
        return verdict

    async def on_fetched(self, wires: list[bytes]) -> None:
        """Take envelopes that were asked for by id, right or wrong: a batch may hold them."""
        self._keep(wires, await self._verify(wires, judge))

    def _keep(self, wires: list[bytes], verdicts: list[Admitted | Refused | RemoteFault]) -> None:
        arrived = []
        for wire, verdict in zip(wires, verdicts, strict=True):
            if isinstance(verdict, RemoteFault):
                self._refused[verdict.code] = self._refused.get(verdict.code, 0) + 1
            elif self._mempool.add(wire, verdict, self._height()):
                arrived.append((verdict.id, wire))
        if arrived and self.driver is not None:
            self.driver.envelopes_arrived(arrived)

    async def _verify(
        self, wires: list[bytes], how: Callable[[bytes, Domain], Admitted | Refused]
    ) -> list[Admitted | Refused | RemoteFault]:
        """Verdicts on envelopes, computed in a thread: libsodium releases the GIL."""
        return await trio.to_thread.run_sync(
            _verdicts, wires, self._domain, how, limiter=self._threads
        )

    def statistics(self) -> IntakeStatistics:
        counts = self._counts
        return IntakeStatistics(
            counts["accepted"], counts["pushed"], counts["received"], dict(self._refused)
        )


def _verdicts(
    wires: list[bytes], domain: Domain, how: Callable[[bytes, Domain], Admitted | Refused]
) -> list[Admitted | Refused | RemoteFault]:
    out: list[Admitted | Refused | RemoteFault] = []
    for wire in wires:
        try:
            out.append(how(wire, domain))
        except RemoteFault as fault:
            out.append(fault)
    return out
