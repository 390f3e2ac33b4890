"""Signing envelopes and getting them accepted exactly once.

A refusal that is certain (nothing of the envelope can have been taken) leads to a new envelope
where that helps: a nonce that another program took, a height that passed. After an attempt
that may have arrived nothing is ever signed anew; the same bytes are sent again, or the nodes
are asked what became of them. Otherwise one order could be placed twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
import trio

from client._http import Nodes
from client.faults import OutcomeUnknown, ReceiptInvalid, RefusedByNode, Unanswered
from client.nonces import Nonces
from client.views import AccountView, EnvelopeView, Status
from client.wallet import Wallet
from exchange.actions import Action
from exchange.envelope import envelope_id, sign_envelope
from exchange.network import NetworkGenesis
from exchange.receipt import Receipt, check_receipt
from primitives import document
from primitives.codec import Malformed

log = structlog.get_logger(__name__)

LIFETIME_BLOCKS = 1_000  # how far ahead an envelope's last valid height lies unless told
SIGN_ATTEMPTS_MAX = 4  # certain refusals that a new nonce or height may cure, per envelope
FIND_ATTEMPTS_MAX = 6  # questions about an envelope that nobody answered for
FIND_PAUSE_S = 0.25
HEIGHT_AGE_S_MAX = 2.0  # an older height is asked for again
WIRES_PER_REQUEST_ITEMS_MAX = 256  # more are sent in several requests

_NONCE_USED, _EXPIRED, _NOT_FOUND = "E104", "E103", 404


@dataclass(frozen=True, slots=True)
class Submission:
    """An envelope on its way. `receipt` is None when it was found at a node instead of answered.

    It executes at height `last_valid` at the latest, or never.
    """

    id: bytes
    last_valid: int
    receipt: Receipt | None


class _Receipts(msgspec.Struct):
    results: list[dict[str, Any]]


class Submitter:
    """What sends one wallet's envelopes."""

    def __init__(self, nodes: Nodes, wallet: Wallet, genesis: NetworkGenesis) -> None:
        self._nodes = nodes
        self._wallet = wallet
        self._genesis = genesis
        self._network = genesis.network_id()
        self._learning = trio.Lock()
        self._height = 0
        self._height_at = float("-inf")
        self.nonces = Nonces()
        self.sent = 0
        self.signed_again = 0

    async def submit(self, actions: Sequence[Action], lifetime_blocks: int) -> Submission:
        """Sign one envelope with these actions and have it accepted.

        Errors: `RefusedByNode`, `NodeUnreachable`, `OutcomeUnknown`, `ReceiptInvalid`.
        """
        attempt = 0
        while True:
            attempt += 1
            if not self.nonces.is_known:
                await self._learn()
            last_valid = await self.height() + lifetime_blocks
            nonce = self.nonces.take()
            wire = self._sign(nonce, last_valid, actions)
            try:
                return await self.deliver(wire, last_valid)
            except RefusedByNode as fault:
                curable = fault.code in (_NONCE_USED, _EXPIRED) and not fault.repeated
                if not curable or attempt >= SIGN_ATTEMPTS_MAX:
                    raise
                log.info("signing_again", code=fault.code, nonce=nonce)
                self.signed_again += 1
                if fault.code == _NONCE_USED:
                    self.nonces.collided(nonce, await self._counted())
                self._height_at = float("-inf")

    async def sign(self, actions: Sequence[Action], lifetime_blocks: int) -> bytes:
        """An envelope's wire bytes with the next nonce, not sent."""
        if not self.nonces.is_known:
            await self._learn()
        last_valid = await self.height() + lifetime_blocks
        return self._sign(self.nonces.take(), last_valid, actions)

    async def deliver(self, wire: bytes, last_valid: int) -> Submission:
        """Send one envelope or authorization until a node answers for it; errors as `submit`."""
        identity = envelope_id(wire, self._network)
        try:
            answer = await self._nodes.post("/v1/envelopes", {"envelope": "0x" + wire.hex()})
        except Unanswered as fault:
            return await self._find(identity, last_valid, fault.sentence)
        except RefusedByNode as fault:
            if not fault.repeated:
                raise
            # The first attempt may have been taken, and this be its echo.
            return await self._find(identity, last_valid, fault.sentence)
        receipt = self._checked(answer.read(dict[str, Any]), identity, answer.endpoint)
        self.sent += 1
        return Submission(identity, last_valid, receipt)

    async def deliver_many(self, wires: Sequence[bytes]) -> list[Submission | RefusedByNode]:
        """Send signed envelopes in few requests: per envelope, in order, what a node said.

        Errors: `NodeUnreachable`; `Unanswered`, then send the same bytes again.
        """
        told: list[Submission | RefusedByNode] = []
        for start in range(0, len(wires), WIRES_PER_REQUEST_ITEMS_MAX):
            chunk = wires[start : start + WIRES_PER_REQUEST_ITEMS_MAX]
            body = {"envelopes": ["0x" + wire.hex() for wire in chunk]}
            answer = await self._nodes.post("/v1/envelopes", body)
            results = answer.read(_Receipts).results
            if len(results) != len(chunk):
                raise ReceiptInvalid(answer.endpoint, f"is for {len(results)} of {len(chunk)}")
            for wire, result in zip(chunk, results, strict=True):
                told.append(self._result(wire, result, answer.endpoint))
        return told

    async def height(self) -> int:
        """The network's height, at most `HEIGHT_AGE_S_MAX` old."""
        if trio.current_time() - self._height_at > HEIGHT_AGE_S_MAX:
            async with self._learning:
                if trio.current_time() - self._height_at > HEIGHT_AGE_S_MAX:
                    status = await self._nodes.get("/v1/status", Status)
                    self._height, self._height_at = status.height, trio.current_time()
        return self._height

    def _sign(self, nonce: int, last_valid: int, actions: Sequence[Action]) -> bytes:
        return sign_envelope(
            self._wallet.trading,
            self._network,
            self._wallet.account,
            nonce,
            last_valid,
            list(actions),
        )

    async def _learn(self) -> None:
        async with self._learning:
            if not self.nonces.is_known:
                self.nonces.learn(await self._counted())

    async def _counted(self) -> int:
        """The exchange's next nonce of our key; 0 for a key or account that it does not know."""
        try:
            account = await self._nodes.get(f"/v1/accounts/{self._wallet.address}", AccountView)
        except RefusedByNode as fault:
            if fault.status != _NOT_FOUND:
                raise
            return 0
        key = account.key(self._wallet.trading.public)
        return 0 if key is None else key.next_nonce

    async def _find(self, identity: bytes, last_valid: int, reason: str) -> Submission:
        """Ask what became of an envelope that may have arrived. Errors: `OutcomeUnknown`."""
        for _ in range(FIND_ATTEMPTS_MAX):
            await trio.sleep(FIND_PAUSE_S)
            try:
                await self._nodes.get(f"/v1/envelopes/0x{identity.hex()}", EnvelopeView)
            except RefusedByNode as fault:
                if fault.status != _NOT_FOUND:
                    raise
                continue
            return Submission(identity, last_valid, None)
        raise OutcomeUnknown(identity, reason)

    def _result(
        self, wire: bytes, result: dict[str, Any], endpoint: str
    ) -> Submission | RefusedByNode:
        error = result.get("error")
        if isinstance(error, dict):
            code, message, advice = (str(error.get(n, "")) for n in ("code", "message", "next"))
            return RefusedByNode(code, message, advice)
        identity = envelope_id(wire, self._network)
        receipt = self._checked(result, identity, endpoint)
        self.sent += 1
        return Submission(identity, 0, receipt)

    def _checked(self, told: dict[str, Any], identity: bytes, endpoint: str) -> Receipt:
        """The receipt in an answer. Errors: `ReceiptInvalid`."""
        try:
            receipt = document.parse(Receipt, told.get("receipt", told))
        except Malformed:
            raise ReceiptInvalid(endpoint, "is not one") from None
        if receipt.envelope != identity:
            raise ReceiptInvalid(endpoint, "is for another envelope")
        if not check_receipt(receipt, self._network):
            raise ReceiptInvalid(endpoint, "has a wrong signature")
        return receipt
