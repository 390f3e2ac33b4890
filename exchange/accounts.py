"""Accounts: who owns what, and which keys may act for them.

    accounts = Accounts(network, tokens=2, fee_account=address)
    account = accounts.open(address)
    account.wallets[token].free += units

An account is owned by an EVM address and gets the next index on its first deposit; the fee
account has index 0 from the start. Indexes are dense and never reused, so an account's leaf
keeps its place in the state tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.envelope import Scope
from exchange.faults import KeyNotAuthorized, StaleAuthorization, UnknownAccount
from exchange.nonces import NonceWindow
from primitives import codec
from primitives.hashing import digest
from primitives.merkle import LEAVES_ITEMS_MAX

if TYPE_CHECKING:
    from exchange.book import Order
    from exchange.envelope import Authorization

KEYS_PER_ACCOUNT_MAX = 16  # another key, while none can be forgotten, is refused with E109
ACCOUNTS_ITEMS_MAX = LEAVES_ITEMS_MAX  # a deposit for one more is consumed without credit
_LEAF = "outcry/account/1"


class TradingKey:
    """What one Ed25519 key may do for an account, and which of its nonces were used.

    `scope` is 0 once the key was revoked. `last_valid` is the highest such height of the
    envelopes it signed: up to that height its nonces must be remembered.
    """

    __slots__ = ("expires_ms", "last_valid", "nonces", "scope")

    def __init__(self) -> None:
        self.scope = 0
        self.expires_ms = 0
        self.last_valid = 0
        self.nonces = NonceWindow()

    def check(self, needed: int, time_ms: int) -> None:
        """Errors: `KeyNotAuthorized` when it expired or lacks a part of the scope `needed`."""
        if needed & ~self.scope:
            raise KeyNotAuthorized(
                f"the key has scope {Scope(self.scope)!r}, this needs {Scope(needed)!r}; "
                "let the owner authorize it"
            )
        if time_ms > self.expires_ms:
            raise KeyNotAuthorized(
                f"the key expired at {self.expires_ms} ms, block time is {time_ms} ms; "
                "let the owner authorize it again"
            )

    def use(self, nonce: int, last_valid: int) -> None:
        """Consume a nonce that was checked, of an envelope valid up to height `last_valid`."""
        self.nonces.use(nonce)
        if last_valid > self.last_valid:
            self.last_valid = last_valid

    def is_forgettable(self, height: int, time_ms: int) -> bool:
        """Whether the key is useless, and nothing that it signed could be replayed."""
        return (not self.scope or time_ms > self.expires_ms) and height > self.last_valid


class Wallet:
    """What an account holds of one token, in units, never negative.

    `reserved` is what its open orders may have to pay. `counted` is the sum of both when
    conservation was last checked.
    """

    __slots__ = ("counted", "free", "reserved")

    def __init__(self) -> None:
        self.free = 0
        self.reserved = 0
        self.counted = 0


class Account:
    """One account. `wallets` are by token id.

    `orders` are its open orders by number, `clients` those with a client id by (market, id).
    `withdrawals` counts those that wait for a rollup block.
    """

    __slots__ = (
        "address",
        "clients",
        "index",
        "keys",
        "orders",
        "sequence",
        "wallets",
        "withdrawals",
    )

    def __init__(self, index: int, address: bytes, tokens: int) -> None:
        self.index = index
        self.address = address
        self.wallets = tuple(Wallet() for _ in range(tokens))
        self.orders: dict[int, Order] = {}
        self.clients: dict[tuple[int, str], Order] = {}
        self.keys: dict[bytes, TradingKey] = {}
        self.sequence = -1
        self.withdrawals = 0

    def key(self, public: bytes) -> TradingKey:
        """The trading key `public`.

        Errors: `KeyNotAuthorized` when the owner never authorized it.
        """
        key = self.keys.get(public)
        if key is None:
            raise KeyNotAuthorized(
                f"key {public.hex()[:16]} is unknown to account 0x{self.address.hex()}; "
                "let the owner authorize it"
            )
        return key

    def check_authorization(self, request: Authorization, height: int, time_ms: int) -> None:
        """Errors: `StaleAuthorization`, `KeyNotAuthorized` when there are too many keys."""
        if request.sequence <= self.sequence:
            raise StaleAuthorization(
                f"sequence {request.sequence} was overtaken by {self.sequence}; "
                f"sign it again with {self.sequence + 1} or more"
            )
        if (
            request.scope
            and request.key not in self.keys
            and len(self.keys) >= KEYS_PER_ACCOUNT_MAX
            and not any(key.is_forgettable(height, time_ms) for key in self.keys.values())
        ):
            raise KeyNotAuthorized(
                f"the account has {KEYS_PER_ACCOUNT_MAX} keys; revoke one, and repeat this once "
                "the envelopes that it signed have expired"
            )

    def authorize(self, request: Authorization, height: int, time_ms: int) -> None:
        """Carry out an authorization that `check_authorization` let pass.

        A revoked key keeps its used nonces until its envelopes have expired; otherwise they
        could be replayed when the owner authorizes it again.
        """
        self.sequence = request.sequence
        key = self.keys.get(request.key)
        if key is None:
            if not request.scope:
                return
            if len(self.keys) >= KEYS_PER_ACCOUNT_MAX:
                self._forget(height, time_ms)
            key = self.keys[request.key] = TradingKey()
        key.scope = request.scope
        key.expires_ms = request.expires_ms

    def _forget(self, height: int, time_ms: int) -> None:
        useless = [key for key, held in self.keys.items() if held.is_forgettable(height, time_ms)]
        for key in useless:
            del self.keys[key]

    def leaf(self, network: bytes) -> bytes:
        """The digest of everything in the account but its open orders, 32 bytes."""
        keys = [
            (
                public,
                key.scope,
                key.expires_ms,
                key.last_valid,
                key.nonces.next,
                key.nonces.encode(),
            )
            for public, key in sorted(self.keys.items())
        ]
        body = codec.encode(
            (
                self.address,
                self.index,
                [wallet.free for wallet in self.wallets],
                [wallet.reserved for wallet in self.wallets],
                self.sequence + 1,
                self.withdrawals,
                keys,
            )
        )
        return digest(_LEAF, network, body)


class Accounts:
    """All accounts, by address and by index."""

    def __init__(self, network: bytes, tokens: int, fee_account: bytes) -> None:
        self._network = network
        self._tokens = tokens
        self._by_address: dict[bytes, Account] = {}
        self.by_index: list[Account] = []
        self.fees = self.open(fee_account)

    def __len__(self) -> int:
        return len(self.by_index)

    def get(self, address: bytes) -> Account | None:
        """The account owned by `address`, if it has one."""
        return self._by_address.get(address)

    def known(self, address: bytes) -> Account:
        """The account owned by `address`.

        Errors: `UnknownAccount`.
        """
        account = self._by_address.get(address)
        if account is None:
            raise UnknownAccount(
                f"account 0x{address.hex()} never received a deposit; deposit into the vault first"
            )
        return account

    def can_open(self, address: bytes) -> bool:
        """Whether `address` has an account or can still get one."""
        return address in self._by_address or len(self.by_index) < ACCOUNTS_ITEMS_MAX

    def open(self, address: bytes) -> Account:
        """The account owned by `address`, made with the next index if there was none."""
        account = self._by_address.get(address)
        if account is None:
            account = Account(len(self.by_index), address, self._tokens)
            self._by_address[address] = account
            self.by_index.append(account)
        return account

    def leaf(self, account: Account) -> bytes:
        """The leaf of `account` in the state tree."""
        return account.leaf(self._network)
