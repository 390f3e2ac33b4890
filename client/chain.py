"""The EVM chain as a trader needs it: balances, deposits into the vault, claims out of it.

    async with Chain.connect(["http://127.0.0.1:8545"], wallet, genesis) as chain:
        receipt = await chain.deposit(token=0, units=5_000_000)

JSON-RPC over httpx and transactions signed here: a trader's program needs no web3. One
transaction of a wallet is sent at a time, so nonces never race inside one process.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from client._rpc import Rpc
from client.faults import (
    ChainRefused,
    ChainUnreachable,
    NodeMisbehaved,
    Reverted,
    Unmined,
    WrongChain,
)
from client.wallet import Wallet
from exchange.network import NetworkGenesis
from primitives.anchors import keccak
from primitives.secp256k1 import checksum_address

log = structlog.get_logger(__name__)

RECEIPT_DEADLINE_S = 120.0  # then `Unmined`
RECEIPT_POLL_S_MIN = 0.05
RECEIPT_POLL_S_MAX = 2.0
GAS_MARGIN_PERCENT = 25  # over the estimate, because the state moves until the block
FEE_WEI_MAX = 2_000 * 10**9  # per gas; a dearer chain is refused rather than emptying the account
NONCE_ATTEMPTS_MAX = 3  # another program with the same key took the nonce each time: refused

APPROVE = "approve(address,uint256)"
ALLOWANCE = "allowance(address,address)"
BALANCE_OF = "balanceOf(address)"
DEPOSIT = "deposit(uint256,uint256,address)"
CLAIM = "claim(uint256,uint256,address,uint256,uint256,bytes32[])"
IS_CLAIMED = "is_claimed(uint256,uint256)"

_KNOWN_WORDS = ("already known", "already imported", "known transaction")
_NONCE_WORDS = ("nonce too low", "nonce too high", "invalid nonce", "nonce gap", "replacement")


_DEPOSIT_TOPIC = "0x" + keccak(b"Deposit(uint256,address,uint256,uint256,bytes32)").hex()


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction that succeeded: its hash, the block that holds it, and the gas it used.

    `deposit` is the number of the deposit that it made, counted by the vault from 0.
    """

    tx: bytes
    block: int
    gas: int
    deposit: int | None = None


@dataclass(frozen=True, slots=True)
class ChainStatistics:
    """What was asked of the chain since it was connected."""

    calls: int
    failed: int
    transactions: int


class Chain:
    """One wallet's view of the chain that holds a network's money."""

    def __init__(self, rpc: Rpc, wallet: Wallet, genesis: NetworkGenesis) -> None:
        self._rpc = rpc
        self._wallet = wallet
        self._genesis = genesis
        self._lock = trio.Lock()
        self._transactions = 0

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, endpoints: Sequence[str], wallet: Wallet, genesis: NetworkGenesis
    ) -> AsyncIterator["Chain"]:
        """Connect, and check that the endpoint serves the network's chain.

        Errors: `ChainUnreachable`, `WrongChain`.
        """
        rpc = Rpc(endpoints)
        try:
            chain = cls(rpc, wallet, genesis)
            found = await chain._quantity("eth_chainId")
            if found != genesis.exchange.chain_id:
                raise WrongChain(found, genesis.exchange.chain_id)
            yield chain
        finally:
            with trio.CancelScope(shield=True):
                await rpc.aclose()

    def statistics(self) -> ChainStatistics:
        return ChainStatistics(self._rpc.calls, self._rpc.failed, self._transactions)

    async def block_number(self) -> int:
        """The newest block's number."""
        return await self._quantity("eth_blockNumber")

    async def balance(self) -> int:
        """What the wallet owns of the chain's own coin, in wei."""
        return await self._quantity("eth_getBalance", self._wallet.address, "latest")

    async def token_balance(self, token: int) -> int:
        """What the wallet owns of a token outside the exchange, in the ERC-20's smallest unit."""
        contract = self._genesis.contracts[token].address
        return await self._view(contract, BALANCE_OF, self._wallet.address)

    async def approve(self, token: int, units: int) -> Mined:
        """Let the vault take `units` exchange units of `token` from the wallet."""
        contract = self._genesis.contracts[token]
        data = calldata(APPROVE, checksum_address(self._genesis.vault), units * contract.scale)
        return await self.send(contract.address, data, "approve")

    async def deposit(self, token: int, units: int, account: bytes | None = None) -> Mined:
        """Move `units` exchange units of `token` into the vault for `account`, or the wallet's.

        Approves the vault first when what it may take is too little.
        Errors: `Reverted` with the contract's reason, `ChainRefused`, `Unmined`.
        """
        contract = self._genesis.contracts[token]
        allowed = await self._view(
            contract.address,
            ALLOWANCE,
            self._wallet.address,
            checksum_address(self._genesis.vault),
        )
        if allowed < units * contract.scale:
            await self.approve(token, units)
        owner = checksum_address(account or self._wallet.account)
        return await self.send(
            self._genesis.vault, calldata(DEPOSIT, token, units, owner), "deposit"
        )

    async def claim(
        self,
        number: int,
        index: int,
        account: bytes,
        token: int,
        units: int,
        proof: Sequence[bytes],
    ) -> Mined:
        """Have withdrawal `index` of rollup block `number` paid to `account`; errors as `deposit`.

        Anyone may send it; the proof are the siblings of its leaf, lowest first.
        """
        data = calldata(CLAIM, number, index, checksum_address(account), token, units, list(proof))
        return await self.send(self._genesis.vault, data, "claim")

    async def is_claimed(self, number: int, index: int) -> bool:
        """Whether a withdrawal was paid already."""
        return await self._view(self._genesis.vault, IS_CLAIMED, number, index) == 1

    async def send(self, to: bytes, data: bytes, what: str) -> Mined:
        """Sign and send one transaction, and wait until it is mined.

        Errors: `Reverted` (named `what`), `ChainRefused`, `ChainUnreachable`, `Unmined`.
        """
        call = {
            "from": self._wallet.address,
            "to": checksum_address(to),
            "data": "0x" + data.hex(),
        }
        try:
            gas = await self._quantity("eth_estimateGas", call)
        except Reverted as fault:
            raise Reverted(what, fault.reason) from None
        async with self._lock:
            tx = await self._broadcast(call, gas * (100 + GAS_MARGIN_PERCENT) // 100)
            self._transactions += 1
        return await self.wait_mined(tx, what, call)

    async def wait_mined(
        self, tx: bytes, what: str = "transaction", call: dict[str, Any] | None = None
    ) -> Mined:
        """The receipt of a transaction. Errors: `Reverted`, `Unmined`.

        An endpoint that is away meanwhile is asked again: the transaction may be on the chain.
        """
        with trio.move_on_after(RECEIPT_DEADLINE_S):
            pause = RECEIPT_POLL_S_MIN
            while True:
                try:
                    found = await self._rpc.call("eth_getTransactionReceipt", "0x" + tx.hex())
                except ChainUnreachable as fault:
                    log.info("receipt_not_available", fault=fault.sentence)
                    found = None
                if isinstance(found, dict):
                    return await self._judge(tx, what, call, found)
                await trio.sleep(pause)
                pause = min(pause * 2, RECEIPT_POLL_S_MAX)
        raise Unmined(tx, RECEIPT_DEADLINE_S)

    async def _judge(
        self, tx: bytes, what: str, call: dict[str, Any] | None, found: dict[str, Any]
    ) -> Mined:
        block = _integer(found.get("blockNumber"))
        if _integer(found.get("status")) == 1:
            return Mined(tx, block, _integer(found.get("gasUsed")), self._deposit_in(found))
        reason = ""
        if call is not None:
            try:
                await self._rpc.call("eth_call", call, hex(block))
            except Reverted as fault:
                reason = fault.reason
            except ChainRefused as fault:
                reason = fault.sentence
        raise Reverted(what, reason)

    def _deposit_in(self, found: dict[str, Any]) -> int | None:
        """The number in the vault's Deposit event, if the transaction has one."""
        vault = "0x" + self._genesis.vault.hex()
        for entry in found.get("logs") or []:
            topics = entry.get("topics") or []
            if str(entry.get("address")).lower() == vault and topics[:1] == [_DEPOSIT_TOPIC]:
                return _integer(topics[1])
        return None

    async def _broadcast(self, call: dict[str, Any], gas: int) -> bytes:
        """Sign and send; the transaction's hash. A nonce that is taken is fetched again."""
        for _ in range(NONCE_ATTEMPTS_MAX):
            nonce = await self._quantity("eth_getTransactionCount", self._wallet.address, "pending")
            fields = {
                "type": 2,
                "chainId": self._genesis.exchange.chain_id,
                "nonce": nonce,
                "to": call["to"],
                "data": call["data"],
                "value": 0,
                "gas": gas,
                **await self._fees(),
            }
            raw = await trio.to_thread.run_sync(self._wallet.sign_transaction, fields)
            tx = keccak(raw)
            try:
                await self._rpc.call("eth_sendRawTransaction", "0x" + raw.hex())
            except ChainUnreachable:
                # It may have arrived all the same: the caller waits for the receipt.
                return tx
            except ChainRefused as fault:
                words = fault.sentence.lower()
                if any(known in words for known in _KNOWN_WORDS):
                    return tx
                if not any(wrong in words for wrong in _NONCE_WORDS):
                    raise
                # An endpoint may have taken it and gone before it could say so.
                if await self._rpc.call("eth_getTransactionByHash", "0x" + tx.hex()):
                    return tx
                continue
            return tx
        raise ChainRefused("another program sends with the same key; stop it and repeat this")

    async def _fees(self) -> dict[str, int]:
        tip = await self._quantity("eth_maxPriorityFeePerGas")
        block = await self._rpc.call("eth_getBlockByNumber", "latest", False)
        base = _integer(block.get("baseFeePerGas") if isinstance(block, dict) else None)
        if base + tip > FEE_WEI_MAX:
            raise ChainRefused(f"gas costs {base + tip} wei; wait until the chain is less busy")
        return {"maxPriorityFeePerGas": tip, "maxFeePerGas": min(2 * base + tip, FEE_WEI_MAX)}

    async def _view(self, contract: bytes, signature: str, *arguments: Any) -> int:
        call = {
            "to": checksum_address(contract),
            "data": "0x" + calldata(signature, *arguments).hex(),
        }
        return _integer(await self._rpc.call("eth_call", call, "latest"))

    async def _quantity(self, method: str, *params: Any) -> int:
        return _integer(await self._rpc.call(method, *params))


def calldata(signature: str, *arguments: Any) -> bytes:
    """The call of a contract's function by its signature, such as `approve(address,uint256)`."""
    # Half a second to import, and most programs never call a contract.
    from eth_abi.abi import encode

    types = [kind for kind in signature[signature.index("(") + 1 : -1].split(",") if kind]
    return keccak(signature.encode())[:4] + encode(types, arguments)


def _integer(value: Any) -> int:
    """A quantity or a word as JSON-RPC writes it.

    Errors: `NodeMisbehaved`; empty data is what calling an address without code gives.
    """
    if isinstance(value, str) and value.startswith("0x") and len(value) > 2:
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise NodeMisbehaved("the EVM endpoint", f"{str(value)[:40]!r} where a number was expected")
