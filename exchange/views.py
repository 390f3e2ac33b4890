"""What the exchange shows to those who ask: copies that later blocks do not change."""

from dataclasses import dataclass
from zlib import crc32

from exchange.accounts import Account
from exchange.actions import Side
from exchange.book import Book, Order
from exchange.deposits import DepositStatistics

CHECKSUM_LEVELS = 25


@dataclass(frozen=True, slots=True)
class BookView:
    """The best levels of a market: (price in ticks, size in lots), best first.

    `sequence` grows with every order that rests, leaves or is filled. `checksum` is the CRC-32
    of the ASCII text "price:size,price:size,..." of the best 25 bids, a "|", and the same of the
    best 25 asks, whatever depth was asked for: "100:5,99:2|101:7" for three levels.
    """

    market: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    sequence: int
    checksum: int


@dataclass(frozen=True, slots=True)
class OrderView:
    """An open order: `remaining` of its `size` lots are unfilled."""

    order: int
    market: int
    side: Side
    price: int
    size: int
    remaining: int
    client_id: str


@dataclass(frozen=True, slots=True)
class KeyView:
    """A trading key. Unused nonces from `nonce_min` to `nonce_max` are taken; `next_nonce` and
    those above it are unused."""

    key: bytes
    scope: int
    expires_ms: int
    next_nonce: int
    nonce_min: int
    nonce_max: int


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account. `balances` are (free, reserved) units by token id.

    `sequence` is that of the last authorization, -1 before the first. `withdrawals` counts
    those that wait for a rollup block.
    """

    address: bytes
    index: int
    balances: tuple[tuple[int, int], ...]
    keys: tuple[KeyView, ...]
    sequence: int
    open_orders: int
    withdrawals: int


@dataclass(frozen=True, slots=True)
class ExchangeStatistics:
    """What the exchange holds after its last block; `trades` counts those of all markets."""

    height: int
    accounts: int
    open_orders: int
    trades: int
    waiting_withdrawals: int
    rollups: int
    deposits: DepositStatistics


def book_view(book: Book, depth: int) -> BookView:
    """The best `depth` levels of each side of `book`."""
    bids, asks = book.bids.depth(CHECKSUM_LEVELS), book.asks.depth(CHECKSUM_LEVELS)
    text = "|".join(",".join(f"{price}:{size}" for price, size in side) for side in (bids, asks))
    return BookView(
        book.market,
        book.bids.depth(depth),
        book.asks.depth(depth),
        book.sequence,
        crc32(text.encode()),
    )


def order_view(order: Order) -> OrderView:
    """One open order."""
    level = order.level
    return OrderView(
        order.number,
        level.side.market,
        level.side.side,
        level.price,
        order.size,
        order.remaining,
        order.client_id,
    )


def account_view(account: Account) -> AccountView:
    """One account, its keys sorted."""
    return AccountView(
        account.address,
        account.index,
        tuple((wallet.free, wallet.reserved) for wallet in account.wallets),
        tuple(
            KeyView(
                public,
                key.scope,
                key.expires_ms,
                key.nonces.next,
                key.nonces.range.start,
                key.nonces.range.stop - 1,
            )
            for public, key in sorted(account.keys.items())
        ),
        account.sequence,
        len(account.orders),
        account.withdrawals,
    )
