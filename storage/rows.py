"""The rows of the index: plain values, in the units of the exchange (ticks, lots, units).

Accounts are 20 bytes, CIDs 36, hashes and transaction ids 32. Integers are below 2^63.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class BlockRow(NamedTuple):
    """A committed and executed block; `root` is the state root after it."""

    height: int
    block: bytes
    batch: bytes
    time_ms: int
    root: bytes


class TradeRow(NamedTuple):
    """A trade; `number` counts the trades of its market from 1, `side` is the taker's."""

    market: int
    number: int
    time_ms: int
    height: int
    price: int
    size: int
    side: int
    maker_account: bytes
    taker_account: bytes
    maker_order: int
    taker_order: int


class OrderRow(NamedTuple):
    """An order as it entered; later rows tell its fills and its end.

    `status` is "open" until an `OrderClosed` says otherwise. `position` is this node's cursor
    for paging: 0 when recording, set when reading.
    """

    order: int
    account: bytes
    market: int
    side: int
    price: int
    size: int
    filled: int
    status: str
    client_id: str
    source: bytes
    height: int
    position: int = 0


class OrderClosed(NamedTuple):
    """An order left the book, or never entered it; `status` is the reason."""

    market: int
    order: int
    status: str


class TransactionRow(NamedTuple):
    """What became of a transaction: its place in its block; `code` is empty when it executed."""

    source: bytes
    height: int
    position: int
    status: str
    code: str


class RejectionRow(NamedTuple):
    """Action number `action` of a transaction was refused with `code`."""

    source: bytes
    action: int
    code: str
    client_id: str


class KeyRow(NamedTuple):
    """From block time `time_ms` on, `key` has `scope` over `account` until `expires_ms`."""

    account: bytes
    key: bytes
    time_ms: int
    scope: int
    expires_ms: int


class RollupRow(NamedTuple):
    """A rollup block; `signatures` and `transaction` are empty until they are known."""

    number: int
    height: int
    root: bytes
    withdrawal_root: bytes
    deposits: int
    accumulator: bytes
    signatures: bytes = b""
    transaction: bytes = b""


class WithdrawalRow(NamedTuple):
    """Leaf number `leaf` (from 0) of a rollup block's withdrawal tree."""

    rollup: int
    leaf: int
    account: bytes
    token: int
    units: int


class CandleRow(NamedTuple):
    """Trades of one interval that begins at `start_ms`; prices in ticks, volume in lots.

    A volume beyond 2^63 - 1 stays at 2^63 - 1.
    """

    start_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int


class ChatRow(NamedTuple):
    """A chat message that is kept; its bytes are the block `cid`.

    `shown` is 0 while it waits for messages that it follows.
    """

    room: str
    cid: bytes
    account: bytes
    sequence: int
    time_ms: int
    shown: int


@dataclass(frozen=True, slots=True)
class ChainRecord:
    """Everything that one committed block adds to the index, in one transaction.

    Each trade also adds its size to both orders' fills, after `orders` were inserted and before
    `closed` is applied. `blocks` are (CID, bytes); `marks` are (name, value) that the caller
    wants to find again with exactly this height, such as a replica's position.
    """

    block: BlockRow
    blocks: Sequence[tuple[bytes, bytes]] = ()
    orders: Sequence[OrderRow] = ()
    trades: Sequence[TradeRow] = ()
    closed: Sequence[OrderClosed] = ()
    transactions: Sequence[TransactionRow] = ()
    rejections: Sequence[RejectionRow] = ()
    keys: Sequence[KeyRow] = ()
    rollups: Sequence[RollupRow] = ()
    withdrawals: Sequence[WithdrawalRow] = ()
    marks: Sequence[tuple[str, bytes]] = ()
