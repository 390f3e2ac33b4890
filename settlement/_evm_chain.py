"""py-evm on Prague rules with the usual funded test accounts: one block per transaction.

The genesis is the same for everybody with the same chain id, so a chain is recognised by its
genesis hash. There is no pool: a transaction is mined and durable when `send` returns, or
refused. One lock covers all execution; what was mined before is read without it.
"""

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec
from eth.db.atomic import AtomicDB
from eth.db.backends.base import BaseDB
from eth.exceptions import PyEVMError
from eth.vm.forks.london.headers import calculate_expected_base_fee_per_gas
from eth.vm.forks.prague.state import PragueTransactionExecutor
from eth.vm.spoof import SpoofTransaction
from eth_tester.backends.pyevm.main import PyEVMBackend
from eth_utils.exceptions import ValidationError
from rlp.exceptions import RLPException  # type: ignore[import-untyped]

from primitives.anchors import keccak
from settlement._evm_rendering import stored_block
from settlement._evm_store import EvmStore
from settlement.dev_accounts import ACCOUNTS_FUNDED, HD_PATH, MNEMONIC
from settlement.faults import EvmStateUnusable

ACCOUNT_BALANCE_WEI = 10_000 * 10**18
BLOCK_GAS_LIMIT = 60_000_000
CALL_GAS_MAX = 30_000_000  # a call or an estimate stops here
GENESIS_TIMESTAMP_S = 1_700_000_000
TIP_WEI = 10**9
CALLS_CACHED_MAX = 1_024  # the oldest answer is dropped
ESTIMATE_TOLERANCE_PPM = 20_000
ESTIMATE_RUNS_MAX = 24  # then the last limit that succeeded is the answer
LOCK_WAIT_S = 60.0  # longer: the call is refused, the sender may repeat it

_CODE_OF_CREATION = b""
_EXECUTION_FAULTS = (
    ValidationError,
    PyEVMError,
    RLPException,
    ValueError,
    TypeError,
    OverflowError,
    IndexError,
)


class Refused(Exception):
    """The chain does not take this transaction or call; the text says why."""


class Reverted(Exception):
    """Execution ended in REVERT (with `data`) or in another VM error (with its name)."""

    def __init__(self, data: bytes, what: str) -> None:
        super().__init__(what)
        self.data = data


class CallRequest(msgspec.Struct, frozen=True):
    """A call that leaves no trace; `gas` is cut to `CALL_GAS_MAX`."""

    sender: bytes
    to: bytes
    data: bytes
    value: int
    gas: int


class _StoreDB(BaseDB):
    """The store, as py-evm wants its databases."""

    def __init__(self, store: EvmStore) -> None:
        self._store = store

    def __getitem__(self, key: bytes) -> bytes:
        value = self._store.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._store.put(key, value)

    def __delitem__(self, key: bytes) -> None:
        self._store.put(key, None)

    def _exists(self, key: bytes) -> bool:
        return self._store.get(key) is not None


class EmbeddedChain:
    """The chain in one directory. Every method may be called from any thread."""

    def __init__(self, directory: Path, chain_id: int) -> None:
        """Continue the chain in `directory`, or begin one.

        Errors: `EvmStateUnusable`.
        """
        pyevm: Any = PyEVMBackend  # untyped
        backend = pyevm(
            genesis_parameters=pyevm.generate_genesis_params(
                overrides={"gas_limit": BLOCK_GAS_LIMIT, "timestamp": GENESIS_TIMESTAMP_S}
            ),
            genesis_state=pyevm.generate_genesis_state(
                overrides={"balance": ACCOUNT_BALANCE_WEI},
                num_accounts=ACCOUNTS_FUNDED,
                mnemonic=MNEMONIC,
                hd_path=HD_PATH,
            ),
            mnemonic=MNEMONIC,
            hd_path=HD_PATH,
        )
        self.chain_id = chain_id
        self.accounts: tuple[bytes, ...] = backend.get_accounts()
        self._chain_class: Any = type(backend.chain)
        self._chain_class.chain_id = chain_id
        genesis = backend.chain.get_canonical_block_by_number(0)
        self._lock = threading.Lock()
        self._calls: OrderedDict[Any, bytes | Reverted] = OrderedDict()
        self.store = EvmStore(directory, f"chain {chain_id} genesis {genesis.hash.hex()[:16]}")
        if self.store.head() is None:
            for key, value in backend.chain.chaindb.db.wrapped_db.kv_store.items():
                self.store.put(key, value)
            self.store.commit(stored_block(genesis, [], None))
        self._open()
        if self._head.block_number != self.store.head():
            raise EvmStateUnusable(str(directory), "blocks and state disagree")

    def _open(self) -> None:
        self._chain = self._chain_class(AtomicDB(_StoreDB(self.store)))
        self._head = self._chain.get_canonical_head()

    def close(self) -> None:
        """Wait for the block in work, then close the store."""
        with self._lock:
            self.store.close()

    # what the head says

    @property
    def head_number(self) -> int:
        """The highest mined block."""
        number: int = self._head.block_number
        return number

    @property
    def next_base_fee(self) -> int:
        """Wei per gas that the next block charges."""
        return int(calculate_expected_base_fee_per_gas(self._head))

    # state at a block

    def balance(self, account: bytes, number: int) -> int:
        """Wei of `account` after block `number`."""
        return int(self._read(lambda state: state.get_balance(account), number))

    def nonce(self, account: bytes, number: int) -> int:
        """Transactions sent by `account` up to block `number`."""
        return int(self._read(lambda state: state.get_nonce(account), number))

    def code(self, account: bytes, number: int) -> bytes:
        """The contract's code after block `number`."""
        return bytes(self._read(lambda state: state.get_code(account), number))

    def storage(self, account: bytes, slot: int, number: int) -> bytes:
        """One storage word after block `number`."""
        value = self._read(lambda state: state.get_storage(account, slot), number)
        return int(value).to_bytes(32, "big")

    def _read(self, question: Any, number: int) -> Any:
        with _Locked(self._lock):
            return question(self._state_at(number, free=False))

    # execution

    def send(self, raw: bytes) -> bytes:
        """Mine one signed transaction into a block of its own, durably.

        Returns its hash. Effects: a block, also when the transaction reverts.
        Errors: `Refused` for what no block may hold.
        """
        with _Locked(self._lock):
            try:
                transaction = self._decode(raw)
                self._begin()
                _block, _receipt, computation = self._chain.apply_transaction(transaction)
                created = transaction.to == _CODE_OF_CREATION
                contract = computation.msg.storage_address if created else None
                self._seal(contract)
            except _EXECUTION_FAULTS as fault:
                self._rollback()
                raise Refused(_wording(fault)) from None
            except BaseException:
                self._rollback()
                raise
            return bytes(transaction.hash)

    def mine(self) -> int:
        """Mine an empty block; returns its number."""
        with _Locked(self._lock):
            self._begin()
            self._seal(None)
            return self.head_number

    def call(self, request: CallRequest, number: int) -> bytes:
        """What the call returns on the state after block `number`.

        Errors: `Reverted`, `Refused`.
        """
        key = (number, request)
        with _Locked(self._lock):
            answer = self._calls.get(key)
            if answer is None:
                computation = self._execute(request, number, min(request.gas, CALL_GAS_MAX))
                answer = _failure(computation) or bytes(computation.output)
                self._calls[key] = answer
                if len(self._calls) > CALLS_CACHED_MAX:
                    self._calls.popitem(last=False)
        if isinstance(answer, Reverted):
            raise Reverted(answer.data, str(answer))
        return answer

    def estimate(self, request: CallRequest, number: int) -> int:
        """A gas limit with which the transaction succeeds, at most 2% too high.

        Errors: `Reverted`, `Refused`.
        """
        with _Locked(self._lock):
            most = min(request.gas, CALL_GAS_MAX)
            computation = self._execute(request, number, most)
            failure = _failure(computation)
            if failure:
                raise failure
            used = max(int(computation.gas_of_transaction), self._gas_floor(request))
            # Calls keep a 64th of their gas back, so what was used is not always enough.
            least, enough, guess = used - 1, most, min(used, most)
            for _ in range(ESTIMATE_RUNS_MAX):
                if enough - least <= enough * ESTIMATE_TOLERANCE_PPM // 10**6:
                    break
                if _failure(self._execute(request, number, guess)):
                    least = guess
                else:
                    enough = guess
                guess = min(least * 65 // 64 + 2_300, (least + enough + 1) // 2)
            return enough

    # inside the lock

    def _begin(self) -> None:
        self._chain.header = self._chain.create_header_from_parent(self._head)

    def _seal(self, contract: bytes | None) -> None:
        # A mix hash from the parent: PREVRANDAO moves, and a replay gives the same blocks.
        block = self._chain.mine_block(
            coinbase=bytes(20), mix_hash=keccak(self._head.hash), blob_gas_used=0
        )
        receipts = list(block.get_receipts(self._chain.chaindb))
        self.store.commit(stored_block(block, receipts, contract))
        self._head = block.header

    def _rollback(self) -> None:
        self.store.discard()
        self._open()

    def _decode(self, raw: bytes) -> Any:
        builder = self._chain.get_vm(self._head).get_transaction_builder()
        transaction = builder.decode(raw)
        if getattr(transaction, "type_id", None) == 3:
            raise Refused("blob transactions are not served here")
        if self.store.receipt(transaction.hash) is not None:
            raise Refused("already known")
        if transaction.chain_id not in (None, self.chain_id):
            raise Refused(f"invalid chain id {transaction.chain_id}, have {self.chain_id}")
        transaction.validate()
        if transaction.gas < max(transaction.intrinsic_gas, _data_floor(transaction)):
            raise Refused("intrinsic gas too low")
        have, wanted = self._state_at(self.head_number, free=False), transaction.nonce
        nonce = have.get_nonce(transaction.sender)
        if wanted != nonce:
            word = "low" if wanted < nonce else "high"
            raise Refused(f"nonce too {word}: next nonce {nonce}, tx nonce {wanted}")
        return transaction

    def _state_at(self, number: int, *, free: bool) -> Any:
        header = self._head
        if number != self.head_number:
            header = self._chain.get_canonical_block_header_by_number(number)
        return self._chain.get_vm(header.copy(base_fee_per_gas=0) if free else header).state

    def _execute(self, request: CallRequest, number: int, gas: int) -> Any:
        state = self._state_at(number, free=True)
        try:
            unsigned = self._unsigned(request, state.get_nonce(request.sender), gas)
            transaction = SpoofTransaction(unsigned, from_=request.sender)
            if gas < transaction.intrinsic_gas:
                raise Refused("intrinsic gas too low")
            computation = state.apply_transaction(transaction)
        except _EXECUTION_FAULTS as fault:
            raise Refused(_wording(fault)) from None
        computation.gas_of_transaction = transaction.intrinsic_gas + computation.get_gas_used()
        return computation

    def _unsigned(self, request: CallRequest, nonce: int, gas: int) -> Any:
        builder = self._chain_class.get_vm_class_for_block_number(0).get_transaction_builder()
        return builder.new_unsigned_dynamic_fee_transaction(
            chain_id=self.chain_id,
            nonce=nonce,
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=gas,
            to=request.to,
            value=request.value,
            data=request.data,
            access_list=(),
        )

    def _gas_floor(self, request: CallRequest) -> int:
        return _data_floor(self._unsigned(request, 0, CALL_GAS_MAX))


class _Locked:
    """The execution lock, waited for no longer than `LOCK_WAIT_S`."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=LOCK_WAIT_S):
            raise Refused("busy; repeat later")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _data_floor(transaction: Any) -> int:
    """The least gas for a transaction's data, EIP-7623."""
    return int(PragueTransactionExecutor.calc_data_floor_gas(transaction, 0, 0))


def _failure(computation: Any) -> Reverted | None:
    if not computation.is_error:
        return None
    error = computation.error
    if type(error).__name__ == "Revert":
        return Reverted(bytes(computation.output), "execution reverted")
    return Reverted(b"", f"{type(error).__name__}: {error}")


def _wording(fault: Exception) -> str:
    if isinstance(fault, Refused):
        return str(fault)
    text = str(fault)
    if "cannot afford" in text or "enough balance" in text:
        return f"insufficient funds: {text}"
    return text or type(fault).__name__
