"""Records blocks into the index at the path given until it is killed; prints each height."""

import sys
from pathlib import Path

from primitives import dagcbor
from primitives.cid import cid_of
from storage import (
    BlockRow,
    ChainRecord,
    Index,
    KeyRow,
    OrderClosed,
    OrderRow,
    RejectionRow,
    RollupRow,
    TradeRow,
    TransactionRow,
    WithdrawalRow,
)

NETWORK = b"n" * 32
ORDERS = 20
TRADES = 10


def account(number: int) -> bytes:
    return number.to_bytes(20, "big")


def source(height: int, position: int) -> bytes:
    return height.to_bytes(16, "big") + position.to_bytes(16, "big")


def record_of(height: int) -> ChainRecord:
    """A block with 20 orders in pairs: 10 makers that rest, 10 takers that fill them by half."""
    time_ms = 1_000_000_000 + height * 10_000
    batch = dagcbor.encode(["batch", height, b"e" * 4_000])
    block = dagcbor.encode(["block", height, dagcbor.Link(cid_of(batch))])
    first = height * ORDERS
    orders = [
        OrderRow(
            first + at, account(at), 0, 1 + at % 2, 100 + at, 4 - 2 * (at % 2), 0, "open",
            f"c{first + at}", source(height, at), height,
        )
        for at in range(ORDERS)
    ]  # fmt: skip
    trades = [
        TradeRow(
            0, height * TRADES + at, time_ms, height, 100 + at, 2, 2,
            account(2 * at), account(2 * at + 1), first + 2 * at, first + 2 * at + 1,
        )
        for at in range(TRADES)
    ]  # fmt: skip
    return ChainRecord(
        BlockRow(height, cid_of(block), cid_of(batch), time_ms, height.to_bytes(32, "big")),
        blocks=[(cid_of(batch), batch), (cid_of(block), block)],
        orders=orders,
        trades=trades,
        closed=[OrderClosed(0, first + 2 * at + 1, "filled") for at in range(TRADES)],
        transactions=[
            TransactionRow(source(height, at), height, at, "executed", "") for at in range(ORDERS)
        ],
        rejections=[RejectionRow(source(height, 0), 1, "E205", "late")],
        keys=[KeyRow(account(height), b"k" * 32, time_ms, 9, time_ms + 50_000)],
        rollups=[RollupRow(height, height, b"r" * 32, b"w" * 32, height, b"a" * 32)],
        withdrawals=[WithdrawalRow(height, leaf, account(leaf), 1, 5 + leaf) for leaf in range(3)],
        marks=[("height", str(height).encode())],
    )


def main() -> None:
    index = Index.open(Path(sys.argv[1]), NETWORK)
    newest = index.newest()
    height = 0 if newest is None else newest.height + 1
    while True:
        index.record_block(record_of(height))
        sys.stdout.write(f"{height}\n")
        sys.stdout.flush()
        height += 1


if __name__ == "__main__":
    main()
