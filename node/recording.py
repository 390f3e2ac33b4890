"""From what a block did to the rows that the index keeps of it."""

from collections.abc import Sequence

from consensus import Block
from exchange import Admitted, BlockResult, Refused
from exchange.events import (
    ActionRejected,
    Authorized,
    Closed,
    Filled,
    Placed,
    Rejected,
)
from node.batch import Batch
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

EXECUTED = "executed"
REJECTED = "rejected"


def chain_record(
    block: Block,
    batch: Batch,
    network: bytes,
    transactions: Sequence[Admitted | Refused],
    result: BlockResult,
) -> ChainRecord:
    """Everything that one executed block adds to the index."""
    data = batch.encode(network)
    batch_cid = cid_of(data)
    events = result.events
    codes = {event.source: event.code for event in events if isinstance(event, Rejected)}
    height = block.height
    return ChainRecord(
        block=BlockRow(height, block.cid, batch_cid, block.time_ms, result.root),
        blocks=[(block.cid, block.wire), (batch_cid, data)],
        orders=[_order(event, height) for event in events if isinstance(event, Placed)],
        trades=[
            _trade(event, height, block.time_ms) for event in events if isinstance(event, Filled)
        ],
        closed=[
            OrderClosed(event.market, event.order, event.reason)
            for event in events
            if isinstance(event, Closed)
        ],
        transactions=[
            TransactionRow(
                item.id,
                height,
                position,
                REJECTED if item.id in codes else EXECUTED,
                codes.get(item.id, ""),
            )
            for position, item in enumerate(transactions)
        ],
        rejections=[
            RejectionRow(event.source, event.position, event.code, event.client_id)
            for event in events
            if isinstance(event, ActionRejected)
        ],
        keys=[
            KeyRow(event.account, event.key, block.time_ms, event.scope, event.expires_ms)
            for event in events
            if isinstance(event, Authorized)
        ],
        rollups=_rollups(result),
        withdrawals=_withdrawals(result),
    )


def stored_wires(index: Index, first: int, count: int, *, batches: bool) -> list[bytes]:
    """The bytes of up to `count` stored blocks (or their batches) from height `first` on."""
    rows = index.heights(first, first + count - 1, count)
    wires = [index.blocks.get(row.batch if batches else row.block) for row in rows]
    return [wire for wire in wires if wire is not None]


def _order(event: Placed, height: int) -> OrderRow:
    return OrderRow(
        order=event.order,
        account=event.account,
        market=event.market,
        side=int(event.side),
        price=event.price,
        size=event.size,
        filled=0,
        status="open",
        client_id=event.client_id,
        source=event.source,
        height=height,
    )


def _trade(event: Filled, height: int, time_ms: int) -> TradeRow:
    return TradeRow(
        market=event.market,
        number=event.trade,
        time_ms=time_ms,
        height=height,
        price=event.price,
        size=event.size,
        side=int(event.side),
        maker_account=event.maker_account,
        taker_account=event.taker_account,
        maker_order=event.maker,
        taker_order=event.taker,
    )


def _rollups(result: BlockResult) -> list[RollupRow]:
    rollup = result.rollup
    if rollup is None:
        return []
    return [
        RollupRow(
            rollup.number,
            rollup.height,
            result.root,
            rollup.withdrawal_root,
            rollup.deposits,
            rollup.accumulator,
        )
    ]


def _withdrawals(result: BlockResult) -> list[WithdrawalRow]:
    rollup = result.rollup
    if rollup is None:
        return []
    return [
        WithdrawalRow(rollup.number, leaf, item.account, item.token, item.units)
        for leaf, item in enumerate(rollup.withdrawals)
    ]
