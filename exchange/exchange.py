"""The exchange as one state machine: blocks in, events and a state root out."""

from dataclasses import dataclass
from zlib import crc32

from exchange.accounts import Account, Accounts
from exchange.actions import Action, Cancel, CancelAll, CancelClient, Place, Withdraw
from exchange.block import BlockInput, BlockResult, Deposit, Rollup, Withdrawal
from exchange.deposits import DepositStatistics, DepositTally
from exchange.engine import Engine
from exchange.envelope import Admitted, Authorization, Envelope, Refused, Scope
from exchange.events import (
    ActionRejected,
    Authorized,
    Deposited,
    Event,
    Rejected,
    RollupCut,
    Withdrawn,
)
from exchange.faults import (
    ActionFault,
    BlockOutOfOrder,
    DepositMismatch,
    EnvelopeFault,
    Expired,
    InsufficientFunds,
    LifetimeTooLong,
    StateCorrupt,
    UnknownToken,
)
from exchange.genesis import ExchangeGenesis
from primitives import codec, keccak_tree
from primitives.anchors import withdrawal_leaf
from primitives.codec import AMOUNT_MAX
from primitives.hashing import digest
from primitives.merkle import MerkleTree

LIFETIME_HEIGHTS_MAX = 20_000  # an envelope valid further ahead is refused with E110
ROLLUP_WITHDRAWALS_MAX = 256  # more withdrawals wait for the next rollup block
CHECKSUM_LEVELS = 25

_STATE = "outcry/state/1"
_HISTORY = "outcry/history/1"


@dataclass(frozen=True, slots=True)
class BookView:
    """The best levels of a market: (price in ticks, size in lots), best first.

    `checksum` is the CRC-32 of the text "price:size,..." over the best 25 bids, a "|", and the
    best 25 asks.
    """

    market: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    sequence: int
    checksum: int


@dataclass(frozen=True, slots=True)
class AccountProof:
    """An account's leaf and its way to `tree_root`; checked by `primitives.merkle.verify`."""

    height: int
    tree_root: bytes
    index: int
    leaf: bytes
    path: list[list[bytes]]


@dataclass(frozen=True, slots=True)
class ExchangeStatistics:
    """What the exchange holds after its last block."""

    height: int
    accounts: int
    open_orders: int
    waiting_withdrawals: int
    rollups: int
    deposits: DepositStatistics


class Exchange:
    """All accounts and markets of one network.

    `root` is the digest of the account tree and of the history of events. Books are a function of
    that history, so whoever has the same root has the same books.
    """

    def __init__(self, genesis: ExchangeGenesis, network: bytes) -> None:
        self.genesis = genesis
        self.network = network
        self.accounts = Accounts(network, len(genesis.tokens), genesis.fee_account)
        self.engine = Engine(genesis.markets, self.accounts.fees)
        self.deposits = DepositTally(genesis.powers)
        self.height = 0
        self.time_ms = 0
        self._tree = MerkleTree()
        self._supply = [0] * len(genesis.tokens)
        self._held = [0] * len(genesis.tokens)
        self._pending: list[tuple[Account, Withdrawal]] = []
        self._rollups = 0
        self._last_cut_ms = 0
        self._history = digest(_HISTORY, network, codec.encode(genesis))
        self._touched: set[Account] = {self.accounts.fees}
        self.root = self._seal([])

    # Blocks

    def apply(self, block: BlockInput) -> BlockResult:
        """Execute the next block: deposits, then transactions in sequence, then the rollup cut.

        Errors: `BlockOutOfOrder`, `StateCorrupt`; both are ours, and nothing may be signed then.
        """
        if block.height != self.height + 1 or block.time_ms < self.time_ms:
            raise BlockOutOfOrder(
                f"block {block.height} at {block.time_ms} ms after {self.height} at {self.time_ms}"
            )
        self.height, self.time_ms = block.height, block.time_ms
        events: list[Event] = []
        for validator, observation in block.observations:
            try:
                self.deposits.observe(validator, observation)
            except DepositMismatch:
                continue
        for deposit in self.deposits.agreed():
            self._credit(deposit, events)
        for item in block.transactions:
            events += self._transact(item)
        rollup = self._cut()
        if rollup is not None:
            events.append(
                RollupCut(
                    rollup.number,
                    len(rollup.withdrawals),
                    rollup.withdrawal_root,
                    rollup.deposits,
                )
            )
        self.root = self._seal(events)
        return BlockResult(block.height, tuple(events), self.root, rollup)

    def check(self, admitted: Admitted, height: int) -> None:
        """Whether a transaction could be executed at `height`; changes nothing.

        Errors: any `EnvelopeFault`.
        """
        transaction = admitted.transaction
        account = self.accounts.known(transaction.account)
        if isinstance(transaction, Authorization):
            account.check_authorization(transaction, height, self.time_ms)
            return
        if height > transaction.last_valid:
            raise Expired(transaction.last_valid, height)
        if transaction.last_valid > height + LIFETIME_HEIGHTS_MAX:
            raise LifetimeTooLong(
                f"valid up to height {transaction.last_valid}; "
                f"choose at most {height + LIFETIME_HEIGHTS_MAX}"
            )
        key = account.key(transaction.key)
        needed = Scope(0)
        for action in admitted.actions:
            needed |= Scope.WITHDRAW if isinstance(action, Withdraw) else Scope.TRADE
        key.check(int(needed), self.time_ms)
        key.nonces.check(transaction.nonce)

    def _transact(self, item: Admitted | Refused) -> list[Event]:
        if isinstance(item, Refused):
            return [Rejected(item.id, item.code)]
        try:
            self.check(item, self.height)
        except EnvelopeFault as fault:
            return [Rejected(item.id, fault.code)]
        transaction = item.transaction
        account = self.accounts.known(transaction.account)
        self._touched.add(account)
        if isinstance(transaction, Authorization):
            account.authorize(transaction, self.height, self.time_ms)
            return [
                Authorized(
                    item.id,
                    account.address,
                    transaction.key,
                    transaction.scope,
                    transaction.expires_ms,
                )
            ]
        return self._act_all(item, transaction, account)

    def _act_all(self, item: Admitted, envelope: Envelope, account: Account) -> list[Event]:
        account.key(envelope.key).use(envelope.nonce, envelope.last_valid)
        events: list[Event] = []
        for position, action in enumerate(item.actions):
            try:
                self._act(account, action, item.id)
            except ActionFault as fault:
                client_id = action.client_id if isinstance(action, Place) else ""
                events += self._drain()
                events.append(
                    ActionRejected(item.id, position, account.address, fault.code, client_id)
                )
        return [*events, *self._drain()]

    def _act(self, account: Account, action: Action, source: bytes) -> None:
        match action:
            case Place():
                self.engine.place(account, action, source)
            case Cancel():
                self.engine.cancel(account, action)
            case CancelClient():
                self.engine.cancel_client(account, action)
            case CancelAll():
                self.engine.cancel_all(account, action)
            case Withdraw():
                self._withdraw(account, action, source)

    def _drain(self) -> tuple[Event, ...]:
        self._touched |= self.engine.touched
        return self.engine.drain()

    # Money in and out

    def _credit(self, deposit: Deposit, events: list[Event]) -> None:
        """A deposit that cannot be credited (an unknown token, an overflow) is still consumed."""
        known = deposit.token < len(self._supply) and self.accounts.can_open(deposit.account)
        if not known or self._supply[deposit.token] + deposit.units > AMOUNT_MAX:
            return
        account = self.accounts.open(deposit.account)
        account.wallets[deposit.token].free += deposit.units
        self._supply[deposit.token] += deposit.units
        self._touched.add(account)
        events.append(Deposited(deposit.index, deposit.account, deposit.token, deposit.units))

    def _withdraw(self, account: Account, action: Withdraw, source: bytes) -> None:
        """Errors: `UnknownToken`, `InsufficientFunds`."""
        if action.token >= len(self._supply):
            raise UnknownToken(f"no token {action.token}; there are {len(self._supply)}")
        wallet = account.wallets[action.token]
        if wallet.free < action.units:
            raise InsufficientFunds(
                f"{wallet.free} units are free, {action.units} were asked for; cancel orders or "
                "withdraw less"
            )
        wallet.free -= action.units
        self._supply[action.token] -= action.units
        account.withdrawals += 1
        self._pending.append((account, Withdrawal(action.recipient, action.token, action.units)))
        self.engine.emit(
            Withdrawn(source, account.address, action.token, action.units, action.recipient)
        )

    def _cut(self) -> Rollup | None:
        """A rollup block over the waiting withdrawals, when the interval has passed."""
        due = self.time_ms - self._last_cut_ms >= self.genesis.rollup_interval_ms
        if not self._pending or not due:
            return None
        chosen = self._pending[:ROLLUP_WITHDRAWALS_MAX]
        del self._pending[:ROLLUP_WITHDRAWALS_MAX]
        self._rollups += 1
        self._last_cut_ms = self.time_ms
        leaves = []
        for index, (account, item) in enumerate(chosen):
            account.withdrawals -= 1
            self._touched.add(account)
            leaves.append(
                withdrawal_leaf(self._rollups, index, item.account, item.token, item.units)
            )
        return Rollup(
            self._rollups,
            self.height,
            [item for _, item in chosen],
            keccak_tree.root(leaves),
            self.deposits.next_index,
            self.deposits.accumulator,
        )

    # The root

    def _seal(self, events: list[Event]) -> bytes:
        """Check conservation over what changed, and bind accounts and history."""
        self._check_conservation()
        self._tree.update({account.index: self.accounts.leaf(account) for account in self._touched})
        self._touched.clear()
        block = codec.encode((self.height, self.time_ms, events))
        self._history = digest(_HISTORY, self.network, self._history, block)
        counters = codec.encode(
            (self.deposits.next_index, self.deposits.accumulator, self._rollups)
        )
        return digest(_STATE, self.network, self._tree.root, self._history, counters)

    def _check_conservation(self) -> None:
        """What came in less what went out is what accounts hold; no balance is negative."""
        change = [0] * len(self._supply)
        for account in self._touched:
            for token, wallet in enumerate(account.wallets):
                if wallet.free < 0 or wallet.reserved < 0:
                    raise StateCorrupt(f"account {account.index} holds less than nothing")
                change[token] += wallet.free + wallet.reserved - wallet.counted
                wallet.counted = wallet.free + wallet.reserved
        for token, units in enumerate(change):
            self._held[token] += units
        if self._held != self._supply:
            raise StateCorrupt(f"accounts hold {self._held}, the supply is {self._supply}")

    def audit(self) -> None:
        """Count everything from scratch. Errors: `StateCorrupt`."""
        for token, supply in enumerate(self._supply):
            wallets = [account.wallets[token] for account in self.accounts.by_index]
            if sum(wallet.free + wallet.reserved for wallet in wallets) != supply:
                raise StateCorrupt(f"token {token} does not add up to its supply of {supply}")

    # Questions

    def book(self, market: int, depth: int = CHECKSUM_LEVELS) -> BookView:
        """The best `depth` levels. Errors: `UnknownMarket`."""
        book = self.engine.book(market)
        bids, asks = book.bids.depth(CHECKSUM_LEVELS), book.asks.depth(CHECKSUM_LEVELS)
        sides = (",".join(f"{price}:{size}" for price, size in side) for side in (bids, asks))
        checksum = crc32("|".join(sides).encode())
        return BookView(
            market, book.bids.depth(depth), book.asks.depth(depth), book.sequence, checksum
        )

    def account_proof(self, address: bytes) -> AccountProof:
        """That an account stands in the present account tree. Errors: `UnknownAccount`."""
        account = self.accounts.known(address)
        index = account.index
        return AccountProof(
            self.height, self._tree.root, index, self._tree.leaf(index), self._tree.proof(index)
        )

    def statistics(self) -> ExchangeStatistics:
        return ExchangeStatistics(
            self.height,
            len(self.accounts),
            sum(len(account.orders) for account in self.accounts.by_index),
            len(self._pending),
            self._rollups,
            self.deposits.statistics(),
        )
