"""Routes about one account: balances, keys, orders, trades, withdrawals, proof."""

from functools import partial
from typing import Final, Literal

import msgspec

from node.api.account_state import AccountView, ProofView, account_proof, known_account
from node.api.markets import Limit, SideText, market_id, side_text
from node.api.route import Call, Nothing, Route
from node.api.texts import GivenHex20, GivenSymbol, Hex32, Number, hexed, unhexed
from node.status import ClaimView
from storage import OrderRow, TradeRow

ORDERS: Final = 100


class OrderView(msgspec.Struct, frozen=True):
    """An order; `status` is open, filled, cancelled, unfilled or self."""

    order: Number
    market: str
    side: SideText
    price: Number
    size: Number
    filled: Number
    status: str
    client_id: str
    envelope: Hex32
    height: Number
    position: Number


class Orders(msgspec.Struct, frozen=True):
    """Newest first; go on with `before` = the last position."""

    orders: list[OrderView]


class OwnTradeView(msgspec.Struct, frozen=True):
    """A trade of the account; `side` is the taker's, `role` the account's."""

    number: Number
    time_ms: Number
    height: Number
    price: Number
    size: Number
    side: SideText
    role: Literal["maker", "taker", "both"]
    maker_order: Number
    taker_order: Number


class OwnTrades(msgspec.Struct, frozen=True):
    market: str
    trades: list[OwnTradeView]


class Claims(msgspec.Struct, frozen=True):
    """Withdrawals, newest first, with what their owner needs to claim them on chain."""

    withdrawals: list[ClaimView]


class AccountQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: GivenHex20


class OrdersQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: GivenHex20
    status: Literal["open", "all"] = "open"
    market: GivenSymbol | None = None
    limit: Limit = ORDERS
    before: Number | None = None


class OwnTradesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: GivenHex20
    market: GivenSymbol
    limit: Limit = ORDERS
    before: Number | None = None


async def read_account(call: Call[AccountQuery, Nothing]) -> AccountView:
    """Errors: `UnknownAccount`."""
    return known_account(call.node, unhexed(call.parameters.address))


async def list_orders(call: Call[OrdersQuery, Nothing]) -> Orders:
    """Errors: `UnknownMarket`. An account without orders has none; that is no error."""
    query, node = call.parameters, call.node
    market = None if query.market is None else market_id(node.genesis, query.market)
    rows = await call.services.read(
        partial(node.index.orders, limit=query.limit, before=query.before),
        unhexed(query.address),
        market,
        None if query.status == "all" else query.status,
    )
    markets = node.genesis.exchange.markets
    return Orders([_order_view(row, markets[row.market].symbol) for row in rows])


async def list_own_trades(call: Call[OwnTradesQuery, Nothing]) -> OwnTrades:
    """Errors: `UnknownMarket`."""
    query, node = call.parameters, call.node
    address, market = unhexed(query.address), market_id(node.genesis, query.market)
    rows = await call.services.read(
        node.index.account_trades, address, market, query.limit, query.before
    )
    return OwnTrades(query.market, [_own_trade_view(row, address) for row in rows])


async def list_claims(call: Call[AccountQuery, Nothing]) -> Claims:
    """Errors: `ChainFault` while the EVM chain does not answer."""
    return Claims(await call.node.withdrawals(unhexed(call.parameters.address)))


async def read_proof(call: Call[AccountQuery, Nothing]) -> ProofView:
    """Errors: `UnknownAccount`."""
    return account_proof(call.node, unhexed(call.parameters.address))


def _order_view(row: OrderRow, symbol: str) -> OrderView:
    return OrderView(
        order=row.order,
        market=symbol,
        side=side_text(row.side),
        price=row.price,
        size=row.size,
        filled=row.filled,
        status=row.status,
        client_id=row.client_id,
        envelope=hexed(row.source),
        height=row.height,
        position=row.position,
    )


def _own_trade_view(row: TradeRow, address: bytes) -> OwnTradeView:
    maker, taker = row.maker_account == address, row.taker_account == address
    return OwnTradeView(
        number=row.number,
        time_ms=row.time_ms,
        height=row.height,
        price=row.price,
        size=row.size,
        side=side_text(row.side),
        role="both" if maker and taker else "maker" if maker else "taker",
        maker_order=row.maker_order,
        taker_order=row.taker_order,
    )


_ACCOUNT = "/v1/accounts/{address}"
ACCOUNT_ROUTES = [
    Route("GET", _ACCOUNT, "Balances, keys, nonces", read_account, AccountView, AccountQuery),
    Route("GET", _ACCOUNT + "/orders", "Orders, newest first", list_orders, Orders, OrdersQuery),
    Route(
        "GET",
        _ACCOUNT + "/trades",
        "An account's trades in a market, newest first",
        list_own_trades,
        OwnTrades,
        OwnTradesQuery,
    ),
    Route(
        "GET",
        _ACCOUNT + "/withdrawals",
        "Withdrawals with their proofs, newest first",
        list_claims,
        Claims,
        AccountQuery,
    ),
    Route(
        "GET",
        _ACCOUNT + "/proof",
        "A Merkle proof of the account against the newest state root",
        read_proof,
        ProofView,
        AccountQuery,
    ),
]
