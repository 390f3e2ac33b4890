"""The exchange's contracts on an EVM chain, behind one object for trio.

    chain = Chain(["http://127.0.0.1:8545"], deployment, key=evm_secret, confirmations=0)
    view = await chain.deposits_view(from_index=0, limit=100)
    receipt = await chain.commit(statement, signatures)

web3 runs in at most `THREADS_MAX` threads. Every call has a deadline; a call that is cancelled
leaves its thread to end by itself. Everything here may raise `ChainUnreachable`,
`ChainMismatch` and `ChainContradiction`; see `settlement.faults`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog
import trio
from hexbytes import HexBytes
from web3 import Web3
from web3.exceptions import ContractLogicError, Web3Exception, Web3RPCError

from primitives.secp256k1 import checksum_address
from settlement import artifacts
from settlement._deposits import BlockId, ChainView, DepositLedger
from settlement._endpoints import Endpoints
from settlement._sender import Receipt, Sender, Sent, reason_of
from settlement.deployment import VALIDATORS_MAX, Deployment
from settlement.faults import (
    ChainContradiction,
    ChainUnreachable,
    ReadOnlyChain,
    TooManySignatures,
    TransactionReverted,
    TransactionUnmined,
)
from settlement.rollups import RollupStatement, recover_rollup_signer

log = structlog.get_logger(__name__)

THREADS_MAX = 4  # further calls wait for a free one
CALL_DEADLINE_S = 30.0
RECEIPT_POLL_S_MIN = 0.05
RECEIPT_POLL_S_MAX = 1.0
RECEIPT_DEADLINE_S = 120.0
REPLACE_AFTER_S = 20.0  # no receipt so long: sent again with a higher fee
CONFIRMATIONS_MAX = 1_000

# What web3's formatters and decoders raise for answers of a wrong shape.
_ANSWER_FAULTS = (
    Web3Exception,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)

T = TypeVar("T")


class ChainStatistics(msgspec.Struct, frozen=True):
    """What a chain object did since it was made. `head` is None before the first view."""

    endpoint: str
    calls: int
    failures: int
    failovers: int
    nonsense: int
    head: int | None
    deposits: int
    refreshes: int
    resets: int
    sent: int
    resyncs: int
    replaced: int
    threads: int


class Chain:
    """One deployment, read through several endpoints, and written with one key."""

    def __init__(
        self,
        endpoints: Sequence[str],
        deployment: Deployment,
        *,
        key: bytes | None = None,
        confirmations: int = 0,
    ) -> None:
        """`key` is a 32-byte secret, None for reading only. Nothing is asked before a call."""
        if not 0 <= confirmations <= CONFIRMATIONS_MAX:
            raise ValueError(f"{confirmations} confirmations; 0 to {CONFIRMATIONS_MAX}")
        self.deployment = deployment
        self._endpoints = Endpoints(endpoints, deployment.chain_id, deployment.vault)
        self._web3 = Web3(self._endpoints)
        self._ledger = DepositLedger(self._web3, deployment.vault, deployment.block, confirmations)
        self._sender = Sender(self._endpoints, key, deployment.chain_id) if key else None
        self._vault = self._web3.eth.contract(abi=artifacts.load("Vault").abi)
        self._token = self._web3.eth.contract(abi=artifacts.load("TestToken").abi)
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._reading = trio.Lock()
        self._sending = trio.Lock()
        self._nonsense = 0

    @property
    def address(self) -> bytes:
        """The 20-byte address that sends. Errors: `ReadOnlyChain`."""
        return self._writer.address

    def close(self) -> None:
        """Close the connections; calls in flight fail."""
        self._endpoints.close()

    # reading

    async def head(self) -> BlockId:
        """The newest block, whatever its depth."""
        return await self._run(self._ledger.head)

    async def deposits_view(self, from_index: int, limit: int) -> ChainView:
        """Deposits from `from_index` on, at most `limit`, as of one block of the confirmed depth.

        Costs one cheap call while the chain stands still. Errors: `ChainBehind` while a long
        history is being read (ask again).
        """
        async with self._reading:
            return await self._run(partial(self._ledger.view, from_index, limit))

    async def rollup(self, number: int) -> RollupStatement | None:
        """The committed rollup block `number`, None if there is none."""
        return await self._run(partial(self._rollup, number))

    async def last_rollup(self) -> RollupStatement | None:
        """The newest committed rollup block, None before the first."""
        return await self._run(lambda: self._rollup(self._call_vault("last_number")))

    async def is_claimed(self, number: int, index: int) -> bool:
        """Whether withdrawal `index` of rollup block `number` has been paid."""
        return bool(await self._run(lambda: self._call_vault("is_claimed", number, index)))

    async def token_balance(self, token: int, account: bytes) -> int:
        """What `account` holds of a token outside the vault, in the ERC-20's smallest unit."""
        where = self.deployment.tokens[token].address_bytes
        contract, owner = self._token, checksum_address(account)
        return int(await self._run(lambda: self._call(contract, where, "balanceOf", owner)))

    async def gas_balance(self, account: bytes) -> int:
        """Wei of `account`."""
        owner = self._web3.to_checksum_address(account)
        return int(await self._run(lambda: self._web3.eth.get_balance(owner)))

    # writing

    async def commit(self, statement: RollupStatement, signatures: Sequence[bytes]) -> Receipt:
        """Commit a rollup block; the signatures may come in any order.

        Errors: `BadRollupSignature`, `TooManySignatures`, `ReadOnlyChain`, `TransactionReverted`
        with the vault's reason ("wrong number" when somebody else was first),
        `TransactionRefused`, `TransactionUnmined`.
        """
        if len(signatures) > VALIDATORS_MAX:
            raise TooManySignatures(len(signatures), VALIDATORS_MAX)
        # The vault wants ascending signers: that is how it sees that none counts twice.
        ordered = sorted(signatures, key=lambda one: recover_rollup_signer(statement, one))
        return await self._transact_vault(
            "commit",
            statement.number,
            statement.height,
            statement.state_root,
            statement.withdrawal_root,
            statement.deposits,
            statement.accumulator,
            ordered,
        )

    async def approve(self, token: int, units: int) -> Receipt:
        """Let the vault take `units` of a token from this chain's account."""
        chosen = self.deployment.tokens[token]
        data = self._encode(self._token, "approve", self.deployment.vault, units * chosen.scale)
        return await self._transact(chosen.address_bytes, data)

    async def deposit(self, token: int, units: int, account: bytes) -> Receipt:
        """Deposit approved `units` for the exchange's `account`."""
        return await self._transact_vault("deposit", token, units, checksum_address(account))

    async def claim(
        self,
        number: int,
        index: int,
        account: bytes,
        token: int,
        units: int,
        proof: Sequence[bytes],
    ) -> Receipt:
        """Have withdrawal `index` of rollup block `number` paid to `account`."""
        receiver = checksum_address(account)
        return await self._transact_vault(
            "claim", number, index, receiver, token, units, list(proof)
        )

    async def send_wei(self, account: bytes, wei: int) -> Receipt:
        """Give `account` some of the chain's own coin."""
        return await self._transact(account, b"", wei)

    def statistics(self) -> ChainStatistics:
        """Counters since start."""
        endpoints, ledger, sender = self._endpoints, self._ledger, self._sender
        return ChainStatistics(
            endpoint=endpoints.current,
            calls=endpoints.calls,
            failures=endpoints.failures,
            failovers=endpoints.failovers,
            nonsense=self._nonsense,
            head=ledger.head_number,
            deposits=ledger.count,
            refreshes=ledger.refreshes,
            resets=ledger.resets,
            sent=sender.sent if sender else 0,
            resyncs=sender.resyncs if sender else 0,
            replaced=sender.replaced if sender else 0,
            threads=self._threads.borrowed_tokens,
        )

    # inside

    @property
    def _writer(self) -> Sender:
        if self._sender is None:
            raise ReadOnlyChain
        return self._sender

    async def _transact_vault(self, name: str, *arguments: Any) -> Receipt:
        data = self._encode(self._vault, name, *arguments)
        return await self._transact(self.deployment.vault_bytes, data)

    async def _transact(self, to: bytes, data: bytes, value: int = 0) -> Receipt:
        writer = self._writer
        async with self._sending:
            sent = await self._run(partial(writer.submit, to, data, value))
        started, poll_s = trio.current_time(), RECEIPT_POLL_S_MIN
        replace_at = started + REPLACE_AFTER_S
        while trio.current_time() < started + RECEIPT_DEADLINE_S:
            receipt = await self._receipt(writer, sent)
            if receipt is not None:
                return receipt
            if trio.current_time() > replace_at:
                replace_at += REPLACE_AFTER_S
                async with self._sending:
                    sent = await self._run(partial(writer.replace, sent))
            await trio.sleep(poll_s)
            poll_s = min(2 * poll_s, RECEIPT_POLL_S_MAX)
        raise TransactionUnmined(sent.hashes[-1], RECEIPT_DEADLINE_S)

    async def _receipt(self, writer: Sender, sent: Sent) -> Receipt | None:
        try:
            return await self._run(partial(writer.receipt, sent))
        except ChainUnreachable as fault:
            # It is on its way: giving up now would only hide how it ended.
            log.info("receipt_unreachable", tx=sent.hashes[-1].hex(), fault=fault.sentence)
            return None

    async def _run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread; whatever web3 makes of an answer becomes one of our faults."""
        try:
            with trio.fail_after(CALL_DEADLINE_S):
                return await trio.to_thread.run_sync(  # type: ignore[call-arg]
                    work, limiter=self._threads, abandon_on_cancel=True
                )
        except trio.TooSlowError:
            raise ChainUnreachable(f"nothing in {CALL_DEADLINE_S:.0f} s") from None
        except ContractLogicError as error:
            raise TransactionReverted(reason_of(error)) from None
        except Web3RPCError as error:
            self._nonsense += 1
            raise ChainContradiction(f"the endpoint refused: {error.message}") from None
        except _ANSWER_FAULTS as error:
            self._nonsense += 1
            log.warning("answer_unusable", fault=repr(error))
            raise ChainContradiction(f"an unusable answer ({type(error).__name__})") from None

    def _rollup(self, number: int) -> RollupStatement | None:
        height, state_root, withdrawal_root, deposits, accumulator = self._call_vault(
            "rollups", number
        )
        if height == 0:
            return None  # a committed block's height is above zero
        return RollupStatement(
            self.deployment.chain_id,
            self.deployment.vault_bytes,
            number,
            height,
            state_root,
            withdrawal_root,
            deposits,
            accumulator,
        )

    def _call_vault(self, name: str, *arguments: Any) -> Any:
        return self._call(self._vault, self.deployment.vault_bytes, name, *arguments)

    def _call(self, contract: Any, address: bytes, name: str, *arguments: Any) -> Any:
        at_address = self._web3.eth.contract(address=address, abi=contract.abi)  # type: ignore[call-overload]
        return at_address.functions[name](*arguments).call()

    def _encode(self, contract: Any, name: str, *arguments: Any) -> bytes:
        return bytes(HexBytes(contract.encode_abi(name, list(arguments))))
