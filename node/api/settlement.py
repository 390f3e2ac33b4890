"""Routes about settlement: rollup blocks, and where the money lives on the EVM chain."""

from typing import Final

import msgspec

from node.api.markets import Limit, TokenView, token_views
from node.api.route import Call, Nothing, Route
from node.api.texts import Hex, Hex20, Hex32, Number, hexed
from node.faults import NotFound
from node.status import EvmView
from storage import RollupRow

ROLLUPS: Final = 50
LEAVES: Final = 1_000


class RollupView(msgspec.Struct, frozen=True):
    """A rollup block; `signatures` is empty and `transaction` null until they are known here."""

    number: Number
    height: Number
    root: Hex32
    withdrawal_root: Hex32
    deposits: Number
    accumulator: Hex32
    signatures: Hex
    transaction: Hex32 | None


class Rollups(msgspec.Struct, frozen=True):
    """Newest first; go on with `before` = the last number."""

    rollups: list[RollupView]


class LeafView(msgspec.Struct, frozen=True):
    """A leaf of the withdrawal tree; `account` is who may claim it on chain."""

    leaf: Number
    account: Hex20
    token: Number
    units: Number


class RollupDetail(msgspec.Struct, frozen=True):
    """A rollup block and its withdrawals; go on with `after` = the last leaf."""

    rollup: RollupView
    withdrawals: list[LeafView]


class SettlementView(msgspec.Struct, frozen=True):
    """The chain and the vault; `vault_block` is the EVM block with the vault's creation."""

    chain_id: Number
    vault: Hex20
    vault_block: Number
    tokens: list[TokenView]
    last_rollup: RollupView | None
    evm: EvmView


class RollupsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: Limit = ROLLUPS
    before: Number | None = None


class RollupQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: Number
    after: Number | None = None
    limit: Limit = LEAVES


def rollup_view(row: RollupRow) -> RollupView:
    return RollupView(
        number=row.number,
        height=row.height,
        root=hexed(row.root),
        withdrawal_root=hexed(row.withdrawal_root),
        deposits=row.deposits,
        accumulator=hexed(row.accumulator),
        signatures=hexed(row.signatures),
        transaction=hexed(row.transaction) if row.transaction else None,
    )


async def list_rollups(call: Call[RollupsQuery, Nothing]) -> Rollups:
    query = call.parameters
    rows = await call.services.read(call.node.index.rollups, query.limit, query.before)
    return Rollups([rollup_view(row) for row in rows])


async def read_rollup(call: Call[RollupQuery, Nothing]) -> RollupDetail:
    """Errors: `NotFound`."""
    query, index = call.parameters, call.node.index
    row = await call.services.read(index.rollup, query.number)
    if row is None:
        raise NotFound(f"there is no rollup block {query.number} yet; see /v1/rollups")
    leaves = await call.services.read(
        index.rollup_withdrawals, query.number, query.limit, query.after
    )
    return RollupDetail(
        rollup_view(row),
        [LeafView(leaf.leaf, hexed(leaf.account), leaf.token, leaf.units) for leaf in leaves],
    )


async def read_settlement(call: Call[Nothing, Nothing]) -> SettlementView:
    genesis = call.node.genesis
    rows = await call.services.read(call.node.index.rollups, 1)
    return SettlementView(
        chain_id=genesis.exchange.chain_id,
        vault=hexed(genesis.vault),
        vault_block=genesis.vault_block,
        tokens=token_views(genesis),
        last_rollup=rollup_view(rows[0]) if rows else None,
        evm=call.node.status().evm,
    )


SETTLEMENT_ROUTES = [
    Route("GET", "/v1/rollups", "Rollup blocks, newest first", list_rollups, Rollups, RollupsQuery),
    Route(
        "GET",
        "/v1/rollups/{number}",
        "A rollup block and its withdrawals",
        read_rollup,
        RollupDetail,
        RollupQuery,
    ),
    Route("GET", "/v1/settlement", "The chain and the vault", read_settlement, SettlementView),
]
