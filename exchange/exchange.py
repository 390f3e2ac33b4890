"""The exchange as one state machine: blocks in, events and a state root out.

The root. After every block

    history = H("outcry/history/1", network, previous history, block)
    root    = H("outcry/state/1", network, account tree root, history, counters)

where `block` encodes the block's height, time, transaction ids, observations and events. The
account tree proves one account's balances, keys and nonces by a short path. Order books have no
tree of their own: an order enters, shrinks and leaves only by a `Placed`, `Filled` or `Closed`
event, and each says by how much. The history binds all events since genesis in order, so two
exchanges with the same root hold the same books, order by order and in the same queues. The
same holds for deposits that were reported but not yet credited: the history binds the reports.
"""

from collections.abc import Sequence

from exchange.accounts import Account, Accounts, TradingKey
from exchange.actions import Action, Cancel, CancelAll, CancelClient, Place, Withdraw
from exchange.block import BlockInput, BlockResult, Deposit, Rollup, Withdrawal
from exchange.deposits import DepositTally
from exchange.engine import Engine
from exchange.envelope import Admitted, Authorization, Envelope, Refused, Scope
from exchange.events import ActionRejected, Authorized, Deposited, Rejected, RollupCut, Withdrawn
from exchange.faults import (
    ActionFault,
    BlockOutOfOrder,
    DepositMismatch,
    EnvelopeFault,
    Expired,
    InsufficientFunds,
    InvalidGenesis,
    LifetimeTooLong,
    StateCorrupt,
    UnknownToken,
)
from exchange.genesis import ExchangeGenesis
from exchange.views import (
    CHECKSUM_LEVELS,
    AccountView,
    BookView,
    ExchangeStatistics,
    OrderView,
    account_view,
    book_view,
    order_view,
)
from exchange.withdrawals import WithdrawalQueue
from primitives import codec
from primitives.codec import AMOUNT_MAX
from primitives.hashing import digest
from primitives.merkle import MerkleTree

LIFETIME_HEIGHTS_MAX = 20_000  # an envelope valid further ahead is refused with E110

_STATE = "outcry/state/1"
_HISTORY = "outcry/history/1"
_TRADE, _WITHDRAW = int(Scope.TRADE), int(Scope.WITHDRAW)


class Exchange:
    """All accounts and markets of one network, after the block at `height`.

    `root` is the state root (see the module), `time_ms` the time of that block. Genesis has
    height 0 and a root of its own.

    Errors: `InvalidGenesis`.
    """

    def __init__(self, genesis: ExchangeGenesis, network: bytes) -> None:
        _check_genesis(genesis)
        self.genesis = genesis
        self.network = network
        self.accounts = Accounts(network, len(genesis.tokens), genesis.fee_account)
        self.engine = Engine(genesis.markets, self.accounts.fees)
        self.deposits = DepositTally(genesis.powers)
        self.withdrawals = WithdrawalQueue(genesis.rollup_interval_ms)
        self.height = 0
        self.time_ms = 0
        self._tree = MerkleTree()
        self._supply = [0] * len(genesis.tokens)  # deposits less withdrawals, by token
        self._held = [0] * len(genesis.tokens)  # the sum over all accounts, counted apart
        self._history = digest(_HISTORY, network, codec.encode(genesis))
        self._touched = self.engine.touched
        self._touched.add(self.accounts.fees)
        self.root = self._seal()

    # ---- blocks -------------------------------------------------------------------------------

    def apply(self, block: BlockInput) -> BlockResult:
        """Execute the next block: deposits, then transactions in sequence, then the rollup cut.

        Whatever is wrong with a transaction becomes an event.
        Errors: `BlockOutOfOrder`, before anything changed; `StateCorrupt`, after which this
        object must not be used and nothing may be signed.
        """
        if block.height != self.height + 1 or block.time_ms < self.time_ms:
            raise BlockOutOfOrder(
                f"block {block.height} at {block.time_ms} ms cannot follow block {self.height} "
                f"at {self.time_ms} ms; execute the missing blocks first"
            )
        self.height, self.time_ms = block.height, block.time_ms
        for validator, observation in block.observations:
            try:
                self.deposits.observe(validator, observation)
            except DepositMismatch:
                continue  # counted by the tally; the report is the validator's own fault
        for deposit in self.deposits.agreed():
            self._credit(deposit)
        for item in block.transactions:
            self._transact(item)
        rollup = self._cut()
        self._check_conservation()
        leaves = {account.index: self.accounts.leaf(account) for account in self._touched}
        events = self.engine.drain()
        ids = [item.id for item in block.transactions]
        body = codec.encode((block.height, block.time_ms, ids, block.observations, events))
        self._tree.update(leaves)
        self._history = digest(_HISTORY, self.network, self._history, body)
        self.root = digest(_STATE, self.network, *self.root_parts)
        return BlockResult(block.height, events, self.root, rollup)

    def check(self, admitted: Admitted, height: int) -> None:
        """Whether a transaction would be executed in a block at `height` now; changes nothing.

        Key expiry is judged by the time of the last block.
        Errors: the `EnvelopeFault` with which the block would reject it.
        """
        self._check(admitted, height)

    def _check(self, admitted: Admitted, height: int) -> tuple[Account, TradingKey | None]:
        """The account that acts and, for an envelope, its key."""
        transaction = admitted.transaction
        account = self.accounts.known(transaction.account)
        if isinstance(transaction, Authorization):
            account.check_authorization(transaction, height, self.time_ms)
            return account, None
        last_valid = transaction.last_valid
        if last_valid < height:
            raise Expired(last_valid, height)
        if last_valid > height + LIFETIME_HEIGHTS_MAX:
            raise LifetimeTooLong(
                f"valid up to height {last_valid}, now at {height}; "
                f"choose at most {height + LIFETIME_HEIGHTS_MAX}"
            )
        key = account.key(transaction.key)
        key.check(_scope_needed(admitted.actions), self.time_ms)
        key.nonces.check(transaction.nonce)
        return account, key

    def _transact(self, item: Admitted | Refused) -> None:
        """Execute one transaction, or say why not."""
        if isinstance(item, Refused):
            self.engine.emit(Rejected(item.id, item.code))
            return
        try:
            account, key = self._check(item, self.height)
        except EnvelopeFault as fault:
            self.engine.emit(Rejected(item.id, fault.code))
            return
        self._touched.add(account)
        transaction = item.transaction
        if isinstance(transaction, Envelope):
            assert key is not None
            self._act_all(item, transaction, account, key)
        else:
            self._authorize(item.id, transaction, account)

    def _authorize(self, source: bytes, request: Authorization, account: Account) -> None:
        account.authorize(request, self.height, self.time_ms)
        self.engine.emit(
            Authorized(source, account.address, request.key, request.scope, request.expires_ms)
        )

    def _act_all(
        self, item: Admitted, envelope: Envelope, account: Account, key: TradingKey
    ) -> None:
        """Consume the nonce, then carry out the actions; each is refused on its own."""
        key.use(envelope.nonce, envelope.last_valid)
        for position, action in enumerate(item.actions):
            try:
                self._act(account, action, item.id)
            except ActionFault as fault:
                client_id = action.client_id if isinstance(action, Place | CancelClient) else ""
                self.engine.emit(
                    ActionRejected(item.id, position, account.address, fault.code, client_id)
                )

    def _act(self, account: Account, action: Action, source: bytes) -> None:
        kind = type(action)
        if kind is Place:
            self.engine.place(account, action, source)  # type: ignore[arg-type]
        elif kind is Cancel:
            self.engine.cancel(account, action)  # type: ignore[arg-type]
        elif isinstance(action, CancelClient):
            self.engine.cancel_client(account, action)
        elif isinstance(action, CancelAll):
            self.engine.cancel_all(account, action)
        elif isinstance(action, Withdraw):
            self._withdraw(account, action, source)

    # ---- money in and out ---------------------------------------------------------------------

    def _credit(self, deposit: Deposit) -> None:
        """Credit a consumed deposit.

        One of a token that genesis does not know, or that would bring more units into the
        exchange than an amount can say, is consumed without credit: the running hash goes on.
        """
        token, units = deposit.token, deposit.units
        if token >= len(self._supply) or not self.accounts.can_open(deposit.account):
            return
        if self._supply[token] + units > AMOUNT_MAX:
            return
        account = self.accounts.open(deposit.account)
        account.wallets[token].free += units
        self._supply[token] += units
        self._touched.add(account)
        self.engine.emit(Deposited(deposit.index, deposit.account, token, units))

    def _withdraw(self, account: Account, action: Withdraw, source: bytes) -> None:
        """Errors: `UnknownToken`, `InsufficientFunds`, `TooManyWithdrawals`."""
        token, units = action.token, action.units
        if token >= len(self._supply):
            raise UnknownToken(f"there is no token {token}; tokens are 0..{len(self._supply) - 1}")
        wallet = account.wallets[token]
        if wallet.free < units:
            raise InsufficientFunds(
                f"{wallet.free} units of token {token} are free, {units} were asked for; "
                "cancel orders, or withdraw less"
            )
        self.withdrawals.check_room(account)
        wallet.free -= units
        self._supply[token] -= units
        self.withdrawals.add(account, Withdrawal(action.recipient, token, units))
        self.engine.emit(Withdrawn(source, account.address, token, units, action.recipient))

    def _cut(self) -> Rollup | None:
        """The rollup block of this block, if one is due."""
        deposits, accumulator = self.deposits.next_index, self.deposits.accumulator
        cut = self.withdrawals.cut(self.height, self.time_ms, deposits, accumulator)
        if cut is None:
            return None
        rollup, served = cut
        self._touched.update(served)
        self.engine.emit(
            RollupCut(rollup.number, len(rollup.withdrawals), rollup.withdrawal_root, deposits)
        )
        return rollup

    # ---- what must hold -----------------------------------------------------------------------

    def _seal(self) -> bytes:
        """The root of genesis."""
        self._tree.update({account.index: self.accounts.leaf(account) for account in self._touched})
        self.engine.drain()
        return digest(_STATE, self.network, *self.root_parts)

    def _check_conservation(self) -> None:
        """What came in less what went out is what accounts hold; no balance is negative.

        Counts only accounts that this block touched; `audit` counts all of them.
        """
        held = self._held
        for account in self._touched:
            for token, wallet in enumerate(account.wallets):
                free, reserved = wallet.free, wallet.reserved
                if free < 0 or reserved < 0:
                    raise StateCorrupt(
                        f"account {account.index} has {free} free and {reserved} reserved units "
                        f"of token {token} after block {self.height}; sign nothing"
                    )
                held[token] += free + reserved - wallet.counted
                wallet.counted = free + reserved
        if held != self._supply:
            raise StateCorrupt(
                f"accounts hold {held} units by token after block {self.height}, deposits less "
                f"withdrawals are {self._supply}; sign nothing"
            )

    def audit(self) -> None:
        """Count everything again from nothing, reservations and the account tree included.

        Errors: `StateCorrupt`.
        """
        for token, supply in enumerate(self._supply):
            wallets = [account.wallets[token] for account in self.accounts.by_index]
            if sum(wallet.free + wallet.reserved for wallet in wallets) != supply:
                raise StateCorrupt(f"token {token} does not add up to its supply of {supply}")
        for account in self.accounts.by_index:
            reserved = [0] * len(self._supply)
            for order in account.orders.values():
                reserved[order.level.side.token] += order.remaining * order.level.reserved_per_lot
            if reserved != [wallet.reserved for wallet in account.wallets]:
                raise StateCorrupt(f"account {account.index} should have reserved {reserved}")
            if min(wallet.free for wallet in account.wallets) < 0:
                raise StateCorrupt(f"account {account.index} holds less than nothing")
            if self._tree.leaf(account.index) != self.accounts.leaf(account):
                raise StateCorrupt(f"the leaf of account {account.index} is out of date")

    # ---- questions ----------------------------------------------------------------------------

    def book(self, market: int, depth: int = CHECKSUM_LEVELS) -> BookView:
        """The best `depth` levels of a market.

        Errors: `UnknownMarket`.
        """
        return book_view(self.engine.book(market), depth)

    def account(self, address: bytes) -> AccountView | None:
        """The account owned by `address`, None before its first deposit."""
        account = self.accounts.get(address)
        return None if account is None else account_view(account)

    def open_orders(self, address: bytes, market: int | None = None) -> list[OrderView]:
        """The open orders of an account in one market or in all, in the order of placement.

        Errors: `UnknownAccount`.
        """
        orders = sorted(self.accounts.known(address).orders.items())
        views = [order_view(order) for _, order in orders]
        return [view for view in views if market in (None, view.market)]

    def account_proof(self, address: bytes) -> tuple[int, bytes, list[list[bytes]]]:
        """(index, leaf, path) for `primitives.merkle.verify` against the first of `root_parts`.

        Errors: `UnknownAccount`.
        """
        account = self.accounts.known(address)
        return account.index, self._tree.leaf(account.index), self._tree.proof(account.index)

    @property
    def root_parts(self) -> tuple[bytes, bytes, bytes]:
        """(account tree root, history, counters): `root` is their digest, see the module."""
        counters = codec.encode(
            (self.deposits.next_index, self.deposits.accumulator, self.withdrawals.rollups)
        )
        return self._tree.root, self._history, counters

    def statistics(self) -> ExchangeStatistics:
        """Counts after the last block."""
        return ExchangeStatistics(
            self.height,
            len(self.accounts),
            sum(len(account.orders) for account in self.accounts.by_index),
            sum(book.trades for book in self.engine.books),
            len(self.withdrawals),
            self.withdrawals.rollups,
            self.deposits.statistics(),
        )


def _scope_needed(actions: Sequence[Action]) -> int:
    """The scope bits that a key needs to ask for all of `actions`."""
    needed = 0
    for action in actions:
        needed |= _WITHDRAW if type(action) is Withdraw else _TRADE
    return needed


def _check_genesis(genesis: ExchangeGenesis) -> None:
    """Errors: `InvalidGenesis`."""
    tokens = len(genesis.tokens)
    for market in genesis.markets:
        if market.base >= tokens or market.quote >= tokens or market.base == market.quote:
            raise InvalidGenesis(
                f"market {market.symbol} must trade two different tokens of 0..{tokens - 1}"
            )
    for kind, names in (
        ("token", [token.symbol for token in genesis.tokens]),
        ("market", [market.symbol for market in genesis.markets]),
    ):
        if len(set(names)) < len(names):
            raise InvalidGenesis(f"every {kind} needs a symbol of its own, not {names}")
    if not 0 < sum(genesis.powers) <= AMOUNT_MAX:
        raise InvalidGenesis("the validators' powers must add up to more than 0 and below 2^63")
