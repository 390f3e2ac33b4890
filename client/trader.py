"""A trader on an Outcry network: orders, money, history and talk through any node.

    async with Trader.connect("http://127.0.0.1:8001", wallet) as trader:
        order = await trader.buy("BTC-USD", "0.25", "30000")
        await trader.wait_executed(order.id)

Numbers are decimal text or `Decimal` in whole tokens and are converted exactly; what does not
fit the market's grid is refused here, before anything is signed. What a node says is checked
where it can be: the network id against the genesis, receipts against their signatures.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import trio

from client import amounts
from client._http import HttpStatistics, Nodes
from client._submission import LIFETIME_BLOCKS, Submission, Submitter
from client.amounts import Amount
from client.chain import Chain, Mined
from client.faults import NoChain, NotCredited, NotExecuted, RefusedByNode
from client.genesis import find_market, find_token
from client.meanings import meaning
from client.talk import Said, sign_talk
from client.viewer import ROWS_DEFAULT, Viewer, open_nodes, verified_genesis
from client.views import AccountView, BalanceView, ClaimView, EnvelopeView, OrderView, TradeView
from client.wallet import Wallet
from exchange.actions import (
    Action,
    Cancel,
    CancelAll,
    CancelClient,
    Lifetime,
    Place,
    SelfTrade,
    Side,
    Withdraw,
)
from exchange.envelope import Scope, sign_authorization
from exchange.network import NetworkGenesis

EXECUTED_DEADLINE_S = 30.0  # then `NotExecuted`
CREDITED_DEADLINE_S = 300.0  # a deposit waits for the confirmed depth of the EVM chain
CLAIMABLE_DEADLINE_S = 120.0  # a withdrawal waits for the next rollup block
POLL_S_MIN = 0.03
POLL_S_MAX = 0.5
AUTHORIZED_S = 30 * 24 * 3_600  # how long a trading key is good for unless told

SCOPE_DEFAULT = Scope.TRADE | Scope.WITHDRAW | Scope.CHAT
_EXECUTED = frozenset({"executed", "committed", "final"})
_REJECTED = "rejected"
_NOT_FOUND = 404
_CORRECT = "correct it, then send it again"

T = TypeVar("T")


@dataclass(frozen=True)
class TraderStatistics:
    """What this trader did since it was connected."""

    http: HttpStatistics
    envelopes_sent: int
    signed_again: int
    nonce_collisions: int


class Trader(Viewer):
    """One wallet on one network. Made by `connect`; everything a `Viewer` can, and more."""

    def __init__(
        self, nodes: Nodes, genesis: NetworkGenesis, wallet: Wallet, chain: Chain | None = None
    ) -> None:
        super().__init__(nodes, genesis)
        self._chain = chain
        self._submitter = Submitter(nodes, wallet, genesis)
        self.wallet = wallet

    @classmethod
    @asynccontextmanager
    async def connect(  # type: ignore[override]  # a trader needs a wallet
        cls,
        url: str | Sequence[str],
        wallet: Wallet,
        *,
        evm: str | Sequence[str] = (),
        network: bytes | None = None,
    ) -> AsyncIterator[Self]:
        """Connect to a network through one or several of its nodes.

        `evm` are JSON-RPC endpoints of the chain that holds the money, needed for `deposit` and
        `claim`. `network` is the id to insist on, for those who know it.
        Errors: `NodeUnreachable`, `NodeMisbehaved`, `NetworkMismatch`, `ChainUnreachable`,
        `WrongChain`.
        """
        endpoints = [evm] if isinstance(evm, str) and evm else list(evm)
        async with open_nodes(url) as nodes:
            genesis = await verified_genesis(nodes, network)
            if not endpoints:
                yield cls(nodes, genesis, wallet)
                return
            async with Chain.connect(endpoints, wallet, genesis) as chain:
                yield cls(nodes, genesis, wallet, chain)

    def statistics(self) -> TraderStatistics:
        submitter = self._submitter
        return TraderStatistics(
            self.http_statistics(),
            submitter.sent,
            submitter.signed_again,
            submitter.nonces.collisions,
        )

    @property
    def chain(self) -> Chain:
        """The EVM chain. Errors: `NoChain` when no endpoint was given."""
        if self._chain is None:
            raise NoChain
        return self._chain

    # Orders

    async def buy(
        self,
        market: str,
        size: Amount,
        price: Amount | None = None,
        *,
        lifetime: Lifetime | None = None,
        client_id: str = "",
    ) -> Submission:
        """Buy `size` base tokens at `price` quote tokens each, or at the market without one.

        Errors: `AmountOffGrid`, `UnknownSymbol`, and those of `batch`.
        """
        return await self.batch([self.order(market, Side.BUY, size, price, lifetime, client_id)])

    async def sell(
        self,
        market: str,
        size: Amount,
        price: Amount | None = None,
        *,
        lifetime: Lifetime | None = None,
        client_id: str = "",
    ) -> Submission:
        """Sell `size` base tokens; as `buy`."""
        return await self.batch([self.order(market, Side.SELL, size, price, lifetime, client_id)])

    def order(
        self,
        market: str,
        side: Side,
        size: Amount,
        price: Amount | None = None,
        lifetime: Lifetime | None = None,
        client_id: str = "",
        self_trade: SelfTrade = SelfTrade.CANCEL_RESTING,
    ) -> Place:
        """The action that places an order, for `batch`. Without a price it is a market order.

        Unless told, an order with a price rests until it is cancelled, and one without takes
        what is there. Errors: `AmountOffGrid`, `UnknownSymbol`.
        """
        grid = self.grid(market)
        ticks = 0 if price is None else grid.price(price)
        chosen = lifetime or (Lifetime.IOC if price is None else Lifetime.GTC)
        lots = grid.size(size)
        return Place(grid.market, side, ticks, lots, chosen, self_trade, client_id)

    async def cancel(self, market: str, order: int | str) -> Submission:
        """Cancel an open order by its number, or by the client id it was placed with."""
        number, _ = find_market(self.genesis, market)
        if isinstance(order, str):
            return await self.batch([CancelClient(number, order)])
        return await self.batch([Cancel(number, order)])

    async def cancel_all(self, market: str | None = None) -> Submission:
        """Cancel all open orders, in one market or in all of them."""
        number = None if market is None else find_market(self.genesis, market)[0]
        return await self.batch([CancelAll(number)])

    async def batch(
        self, actions: Sequence[Action], *, lifetime_blocks: int = LIFETIME_BLOCKS
    ) -> Submission:
        """Have up to `exchange.actions.ACTIONS_ITEMS_MAX` actions accepted in one envelope.

        They execute in order, together, within `lifetime_blocks` blocks or never. Accepted does
        not mean executed: see `wait_executed`. May be called by many tasks at once.
        Errors: `RefusedByNode` (nothing happened), `NodeUnreachable` (nothing was sent),
        `OutcomeUnknown` (it may happen yet), `ReceiptInvalid`.
        """
        return await self._submitter.submit(actions, lifetime_blocks)

    async def sign(
        self, actions: Sequence[Action], *, lifetime_blocks: int = LIFETIME_BLOCKS
    ) -> bytes:
        """The wire bytes of an envelope with the next nonce, not sent; see `send_many`."""
        return await self._submitter.sign(actions, lifetime_blocks)

    async def send_many(self, wires: Sequence[bytes]) -> list[Submission | RefusedByNode]:
        """Send envelopes signed before in as few requests as possible: one verdict for each.

        Errors: `NodeUnreachable`; `Unanswered`: send the same bytes again.
        """
        return await self._submitter.deliver_many(wires)

    async def wait_executed(
        self, identity: bytes, *, deadline_s: float = EXECUTED_DEADLINE_S
    ) -> EnvelopeView:
        """Wait until an envelope is executed; actions of it may have been refused, see there.

        Errors: `RefusedByNode` with the code under which it was refused as a whole;
        `NotExecuted` after `deadline_s` seconds.
        """
        state = "unknown to the node"

        async def ask() -> EnvelopeView | None:
            nonlocal state
            try:
                found = await self.envelope(identity)
            except RefusedByNode as fault:
                if fault.status != _NOT_FOUND:
                    raise
                return None
            state = found.state
            return found if state in _EXECUTED or state == _REJECTED else None

        found = await _poll(ask, deadline_s)
        if found is None:
            raise NotExecuted(identity, state)
        if found.state == _REJECTED:
            why = f"refused when its turn came: {meaning(found.code)}"
            raise RefusedByNode(found.code, why, _CORRECT)
        return found

    @staticmethod
    def check_actions(executed: EnvelopeView) -> None:
        """Errors: `RefusedByNode` for the first action of an envelope that was refused."""
        for position, code in executed.rejections:
            why = f"action {position} was refused when its turn came: {meaning(code)}"
            raise RefusedByNode(code, why, _CORRECT)

    async def placed_by(self, identity: bytes) -> list[OrderView]:
        """The orders that an executed envelope placed, in the order of its actions."""
        wanted = "0x" + identity.hex()
        found = await self.orders(closed=True)
        return [order for order in reversed(found) if order.envelope == wanted]

    # Keys

    async def authorize(
        self,
        scope: Scope = SCOPE_DEFAULT,
        valid_s: float = AUTHORIZED_S,
        key: bytes | None = None,
    ) -> Submission:
        """Let the wallet's trading key, or `key`, act with `scope` for `valid_s` seconds.

        Seconds of block time from now. Scope 0 revokes the key.
        Errors: `RefusedByNode` with E108 before the account's first deposit.
        """
        status = await self.status()
        account = await self.account(self.wallet.account)
        wire = sign_authorization(
            self.wallet.evm,
            self.genesis.domain(),
            self.wallet.trading.public if key is None else key,
            scope,
            status.time_ms + int(valid_s * 1_000),
            account.authorization_sequence + 1,
        )
        return await self._submitter.deliver(wire, status.height + LIFETIME_BLOCKS)

    # Money

    async def deposit(self, token: str, amount: Amount) -> Mined:
        """Move tokens from the wallet into the vault; credited some blocks later.

        Errors: `AmountOffGrid`, `UnknownSymbol`, `NoChain`, `Reverted`, `ChainRefused`,
        `Unmined`.
        """
        number, parameters = find_token(self.genesis, token)
        return await self.chain.deposit(number, amounts.units(amount, parameters))

    async def wait_credited(
        self, deposit: Mined, *, deadline_s: float = CREDITED_DEADLINE_S
    ) -> AccountView:
        """Wait until the exchange has credited a deposit. Errors: `NotCredited`."""
        number = -1 if deposit.deposit is None else deposit.deposit

        async def ask() -> AccountView | None:
            credited = (await self.status()).evm.deposits_credited
            return await self.account(self.wallet.account) if credited > number else None

        found = await _poll(ask, deadline_s)
        if found is None:
            raise NotCredited(number, deadline_s)
        return found

    async def withdraw(
        self, token: str, amount: Amount, recipient: bytes | None = None
    ) -> Submission:
        """Ask for tokens to be paid out on chain, to `recipient` or to the wallet's address.

        The next rollup block makes it claimable. Errors: those of `deposit` and `batch`.
        """
        number, parameters = find_token(self.genesis, token)
        units = amounts.units(amount, parameters)
        return await self.batch([Withdraw(number, units, recipient or self.wallet.account)])

    async def withdrawals(self) -> list[ClaimView]:
        """The wallet's withdrawals that rollup blocks hold, newest first."""
        return await self.account_withdrawals(self.wallet.account)

    async def wait_claimable(
        self, *, count: int = 1, deadline_s: float = CLAIMABLE_DEADLINE_S
    ) -> list[ClaimView]:
        """The withdrawals that can be claimed, once there are `count` or time has run out."""
        latest: list[ClaimView] = []

        async def ask() -> list[ClaimView] | None:
            nonlocal latest
            latest = [item for item in await self.withdrawals() if item.claimable]
            return latest if len(latest) >= count else None

        return await _poll(ask, deadline_s) or latest

    async def claim(self) -> list[tuple[ClaimView, Mined]]:
        """Claim all that can be claimed: each withdrawal with the transaction that paid it.

        Errors: `NoChain`, `Reverted`, `ChainRefused`, `Unmined`.
        """
        paid = []
        for item in await self.withdrawals():
            if not item.claimable or await self.chain.is_claimed(item.rollup, item.index):
                continue
            mined = await self.chain.claim(
                item.rollup,
                item.index,
                bytes.fromhex(item.account.removeprefix("0x")),
                item.token,
                item.units,
                [bytes.fromhex(node.removeprefix("0x")) for node in item.proof],
            )
            paid.append((item, mined))
        return paid

    # What the account has and did

    async def balances(self) -> list[BalanceView]:
        """Free and reserved units by token. Errors: `RefusedByNode` before a first deposit."""
        return (await self.account(self.wallet.account)).balances

    async def orders(
        self, market: str | None = None, *, closed: bool = False, limit: int = ROWS_DEFAULT
    ) -> list[OrderView]:
        """The wallet's open orders, with `closed` also those that ended; newest first."""
        return await self.account_orders(
            self.wallet.account, market=market, closed=closed, limit=limit
        )

    async def fills(self, market: str, *, limit: int = ROWS_DEFAULT) -> list[TradeView]:
        """The wallet's trades in a market, newest first."""
        return await self.account_trades(self.wallet.account, market, limit=limit)

    # Talk

    async def say(self, room: str, text: str) -> str:
        """Say something in a room, signed by the trading key; the message's CID.

        Errors: those of `chat.faults` for a text that no node would take; `RefusedByNode`.
        """
        heads = await self.heads(room)
        wire = await trio.to_thread.run_sync(
            sign_talk, self.wallet, self.network, room.upper(), heads, text
        )
        answer = await self._nodes.post(f"/v1/chat/{room.upper()}", {"message": "0x" + wire.hex()})
        return answer.read(Said).cid


async def _poll(ask: Callable[[], Awaitable[T | None]], deadline_s: float) -> T | None:
    """Ask again and again until there is an answer; None after `deadline_s` seconds."""
    pause = POLL_S_MIN
    with trio.move_on_after(deadline_s):
        while True:
            found = await ask()
            if found is not None:
                return found
            await trio.sleep(pause)
            pause = min(pause * 1.5, POLL_S_MAX)
    return None
