"""An account as the exchange holds it right now, in the API's shapes."""

import msgspec

from exchange import AccountView as Account
from exchange import OrderView as OpenOrder
from exchange.faults import UnknownAccount
from node.api.face import NodeFace
from node.api.markets import SideText, side_text
from node.api.texts import Hex, Hex20, Hex32, Number, hexed


class BalanceView(msgspec.Struct, frozen=True):
    """Units of one token: what is free, and what open orders reserve."""

    token: Number
    symbol: str
    free: Number
    reserved: Number


class KeyView(msgspec.Struct, frozen=True):
    """A trading key; scope bits: 1 trade, 2 transfer, 4 withdraw, 8 chat.

    `next_nonce` is above all used ones; unused nonces in nonce_min..nonce_max are taken.
    """

    key: Hex32
    scope: Number
    expires_ms: Number
    next_nonce: Number
    nonce_min: Number
    nonce_max: Number


class AccountView(msgspec.Struct, frozen=True):
    """An account after the block at `height`. `authorization_sequence` is -1 before the first."""

    address: Hex20
    index: Number
    height: Number
    balances: list[BalanceView]
    keys: list[KeyView]
    authorization_sequence: int
    open_orders: Number
    waiting_withdrawals: Number


class ProofView(msgspec.Struct, frozen=True):
    """That `leaf` stands at `index` of the accounts below the state root at `height`.

    `path` holds, for each level of the 16-ary tree from the leaves up, the 15 siblings left to
    right; it leads to `accounts_root`. `root` is the digest, under "outcry/state/1" and the
    network, of `accounts_root`, `history` and `counters`.
    """

    height: Number
    root: Hex32
    accounts_root: Hex32
    history: Hex32
    counters: Hex
    index: Number
    leaf: Hex32
    path: list[list[Hex32]]


class OpenOrderView(msgspec.Struct, frozen=True):
    """An order in the book; `remaining` of its `size` lots are unfilled."""

    order: Number
    market: str
    side: SideText
    price: Number
    size: Number
    remaining: Number
    client_id: str


def balances(node: NodeFace, account: Account) -> list[BalanceView]:
    """All tokens, also those of which the account has none."""
    tokens = node.genesis.exchange.tokens
    return [
        BalanceView(number, tokens[number].symbol, free, reserved)
        for number, (free, reserved) in enumerate(account.balances)
    ]


def account_view(node: NodeFace, account: Account) -> AccountView:
    """The account after the newest executed block."""
    return AccountView(
        address=hexed(account.address),
        index=account.index,
        height=node.exchange.height,
        balances=balances(node, account),
        keys=[
            KeyView(
                key=hexed(key.key),
                scope=key.scope,
                expires_ms=key.expires_ms,
                next_nonce=key.next_nonce,
                nonce_min=key.nonce_min,
                nonce_max=key.nonce_max,
            )
            for key in account.keys
        ],
        authorization_sequence=account.sequence,
        open_orders=account.open_orders,
        waiting_withdrawals=account.withdrawals,
    )


def known_account(node: NodeFace, address: bytes) -> AccountView:
    """Errors: `UnknownAccount`."""
    account = node.exchange.account(address)
    if account is None:
        raise UnknownAccount(
            f"account {hexed(address)} never received a deposit; deposit into the vault first"
        )
    return account_view(node, account)


def open_orders(node: NodeFace, address: bytes) -> list[OpenOrderView]:
    """The account's orders in the books, oldest first; their number is bounded by the engine.

    Errors: `UnknownAccount`.
    """
    markets = node.genesis.exchange.markets
    return [
        _open_order(order, markets[order.market].symbol)
        for order in node.exchange.open_orders(address)
    ]


def _open_order(order: OpenOrder, symbol: str) -> OpenOrderView:
    return OpenOrderView(
        order=order.order,
        market=symbol,
        side=side_text(order.side),
        price=order.price,
        size=order.size,
        remaining=order.remaining,
        client_id=order.client_id,
    )


def account_proof(node: NodeFace, address: bytes) -> ProofView:
    """Errors: `UnknownAccount`."""
    exchange = node.exchange
    index, leaf, path = exchange.account_proof(address)
    accounts_root, history, counters = exchange.root_parts
    return ProofView(
        height=exchange.height,
        root=hexed(exchange.root),
        accounts_root=hexed(accounts_root),
        history=hexed(history),
        counters=hexed(counters),
        index=index,
        leaf=hexed(leaf),
        path=[[hexed(sibling) for sibling in level] for level in path],
    )
