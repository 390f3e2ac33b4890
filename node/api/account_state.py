"""An account as the exchange holds it right now, in the API's shapes."""

import msgspec

from exchange.accounts import Account
from exchange.book import Order
from node.api.face import NodeFace
from node.api.markets import SideText, side_text
from node.api.texts import Hex20, Hex32, Number, hexed


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


class ProofView(msgspec.Struct, frozen=True):
    """That `leaf` stands at `index` of the 16-ary tree with `root`, the state at `height`.

    `path` holds, for each level from the leaves up, the 15 siblings left to right.
    """

    height: Number
    root: Hex32
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
        BalanceView(number, tokens[number].symbol, wallet.free, wallet.reserved)
        for number, wallet in enumerate(account.wallets)
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
                key=hexed(public),
                scope=key.scope,
                expires_ms=key.expires_ms,
                next_nonce=key.nonces.next,
                nonce_min=key.nonces.range.start,
                nonce_max=key.nonces.range.stop - 1,
            )
            for public, key in sorted(account.keys.items())
        ],
        authorization_sequence=account.sequence,
    )


def open_orders(node: NodeFace, account: Account) -> list[OpenOrderView]:
    """The account's orders in the books, oldest first; their number is bounded by the engine."""
    markets = node.genesis.exchange.markets
    return [
        _open_order(order, markets[order.level.side.market].symbol)
        for _, order in sorted(account.orders.items())
    ]


def _open_order(order: Order, symbol: str) -> OpenOrderView:
    level = order.level
    return OpenOrderView(
        order=order.number,
        market=symbol,
        side=side_text(level.side.side),
        price=level.price,
        size=order.size,
        remaining=order.remaining,
        client_id=order.client_id,
    )


def known_account(node: NodeFace, address: bytes) -> AccountView:
    """Errors: `UnknownAccount`."""
    return account_view(node, node.exchange.accounts.known(address))


def account_proof(node: NodeFace, address: bytes) -> ProofView:
    """Errors: `UnknownAccount`."""
    proof = node.exchange.account_proof(address)
    return ProofView(
        height=proof.height,
        root=hexed(proof.tree_root),
        index=proof.index,
        leaf=hexed(proof.leaf),
        path=[[hexed(sibling) for sibling in level] for level in proof.path],
    )
