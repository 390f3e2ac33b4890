"""One key's transactions: nonces, fees, signing, sending, receipts. Synchronous, for threads.

One lock covers everything from taking a nonce to handing the signed bytes to an endpoint, so
transactions reach the chain in the order of their nonces, and none is skipped.
"""

import threading
from typing import Any, cast

import msgspec
import structlog
from eth_account import Account
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3RPCError
from web3.types import TxParams

from primitives.anchors import keccak
from primitives.secp256k1 import EvmKey, checksum_address
from settlement._endpoints import Endpoints
from settlement.faults import ChainUnreachable, TransactionRefused, TransactionReverted

log = structlog.get_logger(__name__)

NONCE_ATTEMPTS_MAX = 4  # another process with our key took the nonce each time: refused
GAS_MARGIN_PERCENT = 25  # over the estimate, because the state moves until the block
TIP_WEI_MAX = 50 * 10**9
FEE_WEI_MAX = 2_000 * 10**9  # per gas; a dearer chain refuses us rather than emptying the account
REPLACEMENT_PERCENT = 125  # nodes ask for 10% more; this leaves the market some room
REPLACEMENTS_MAX = 3

_KNOWN_WORDS = ("already known", "already imported", "known transaction")
_NONCE_WORDS = ("nonce too low", "nonce too high", "invalid nonce", "nonce gap")
_REVERT_PREFIX = "execution reverted"


class Receipt(msgspec.Struct, frozen=True):
    """A transaction that succeeded; `contract` is the 20-byte address that it created."""

    tx: bytes
    gas: int
    block: int
    contract: bytes | None = None


class Sent(msgspec.Struct, frozen=True):
    """A transaction on its way; `hashes` holds it and its replacements, newest last."""

    fields: dict[str, Any]
    raw: bytes
    hashes: list[bytes]


def reason_of(error: ContractLogicError) -> str:
    """The contract's own words, empty when it gave none."""
    text = str(error.message or "")
    return text.removeprefix(_REVERT_PREFIX).removeprefix(":").strip()


class Sender:
    """The owner of one account's nonces on one chain."""

    def __init__(self, endpoints: Endpoints, key: bytes, chain_id: int) -> None:
        self._endpoints = endpoints
        self._web3 = Web3(endpoints)
        self._key = EvmKey(key)
        self._chain_id = chain_id
        self._lock = threading.Lock()
        self._next_nonce: int | None = None
        self.sent = 0
        self.resyncs = 0
        self.replaced = 0

    @property
    def address(self) -> bytes:
        """Whose transactions these are."""
        return self._key.address

    def submit(self, to: bytes | None, data: bytes, value: int = 0) -> Sent:
        """Sign and send one transaction; `to` None creates a contract.

        Errors: `TransactionReverted` before anything is sent, `TransactionRefused`,
        `ChainUnreachable` (then it may have been sent).
        """
        fields: dict[str, Any] = {"data": "0x" + data.hex(), "value": value}
        if to is not None:
            fields["to"] = checksum_address(to)
        fields["gas"] = self._gas(fields)
        with self._lock:
            for _ in range(NONCE_ATTEMPTS_MAX):
                sent = self._sign({**fields, "nonce": self._nonce(), **self._fees()}, [])
                if self._broadcast(sent):
                    self._next_nonce = sent.fields["nonce"] + 1
                    self.sent += 1
                    return sent
                self.resyncs += 1
                self._next_nonce = None
        raise TransactionRefused("another process uses the same key; give each its own")

    def replace(self, sent: Sent) -> Sent:
        """Send it again with the same nonce and a higher fee, in case it got stuck or lost.

        Effects: none once it was replaced `REPLACEMENTS_MAX` times, or its nonce is used.
        """
        if len(sent.hashes) > REPLACEMENTS_MAX:
            return sent
        fees = {
            name: min(sent.fields[name] * REPLACEMENT_PERCENT // 100, FEE_WEI_MAX)
            for name in ("maxFeePerGas", "maxPriorityFeePerGas")
        }
        with self._lock:
            again = self._sign({**sent.fields, **fees}, sent.hashes)
            self._broadcast(again)
            self.replaced += 1
        return again

    def receipt(self, sent: Sent) -> Receipt | None:
        """The receipt of whichever version was mined, None while there is none.

        Errors: `TransactionReverted`.
        """
        for tx in reversed(sent.hashes):
            try:
                found = self._web3.eth.get_transaction_receipt(HexBytes(tx))
            except TransactionNotFound:
                continue
            if found["status"] != 1:
                raise TransactionReverted(self._reason(sent, found["blockNumber"]))
            created = found.get("contractAddress")
            return Receipt(
                tx,
                found["gasUsed"],
                found["blockNumber"],
                bytes.fromhex(created[2:]) if created else None,
            )
        return None

    def _gas(self, fields: dict[str, Any]) -> int:
        question = {**fields, "from": checksum_address(self.address)}
        try:
            estimate = self._web3.eth.estimate_gas(_params(question))
        except ContractLogicError as error:
            raise TransactionReverted(reason_of(error)) from None
        except Web3RPCError as error:
            raise TransactionRefused(str(error.message)) from None
        return estimate * (100 + GAS_MARGIN_PERCENT) // 100

    def _fees(self) -> dict[str, int]:
        tip = min(self._web3.eth.max_priority_fee, TIP_WEI_MAX)
        base = self._web3.eth.get_block("latest")["baseFeePerGas"]
        if base + tip > FEE_WEI_MAX:
            raise TransactionRefused(f"gas costs {base} wei; wait until the chain is less busy")
        return {"maxPriorityFeePerGas": tip, "maxFeePerGas": min(2 * base + tip, FEE_WEI_MAX)}

    def _nonce(self) -> int:
        if self._next_nonce is None:
            address = self._web3.to_checksum_address(self.address)
            self._next_nonce = self._web3.eth.get_transaction_count(address, "pending")
        return self._next_nonce

    def _sign(self, fields: dict[str, Any], hashes: list[bytes]) -> Sent:
        unsigned = {**fields, "type": 2, "chainId": self._chain_id}
        raw = bytes(Account.sign_transaction(unsigned, self._key.secret).raw_transaction)
        return Sent(fields, raw, [*hashes, keccak(raw)])

    def _broadcast(self, sent: Sent) -> bool:
        """Whether the chain has it now; False when the nonce is not the next one."""
        failures = self._endpoints.failures
        try:
            self._web3.eth.send_raw_transaction(HexBytes(sent.raw))
        except Web3RPCError as error:
            words = str(error.message).lower()
            if any(known in words for known in _KNOWN_WORDS):
                # Ours, if an endpoint failed after taking it. If none did, another process with
                # our key sent the very same bytes, and this transaction is still to be made.
                return len(sent.hashes) > 1 or self._endpoints.failures > failures
            if any(wrong in words for wrong in _NONCE_WORDS):
                return self._endpoints.failures > failures and self._is_known(sent)
            self._next_nonce = None
            raise TransactionRefused(str(error.message)) from None
        except ChainUnreachable:
            self._next_nonce = None
            raise
        return True

    def _is_known(self, sent: Sent) -> bool:
        for tx in sent.hashes:
            try:
                self._web3.eth.get_transaction(HexBytes(tx))
            except TransactionNotFound:
                continue
            return True
        return False

    def _reason(self, sent: Sent, block: int) -> str:
        kept = ("to", "data", "value")
        question = {name: field for name, field in sent.fields.items() if name in kept}
        question["from"] = checksum_address(self.address)
        try:
            self._web3.eth.call(_params(question), block)
        except ContractLogicError as error:
            return reason_of(error)
        except Web3RPCError as error:
            log.info("revert_reason_unknown", fault=str(error.message))
        return ""


def _params(fields: dict[str, Any]) -> TxParams:
    return cast(TxParams, fields)
