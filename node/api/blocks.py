"""Routes about committed blocks: lists, one block, raw bytes, and archives for replay."""

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec
import trio
from starlette.responses import Response, StreamingResponse

from node.api.markets import Limit
from node.api.route import Call, Media, Nothing, Route
from node.api.texts import Cid, GivenCid, Hex32, Number, cid_bytes, hexed
from node.faults import BadRequest, NotFound
from primitives.cid import to_text
from storage import BlockRow, Index, TransactionRow, export_heights

BLOCKS: Final = 100
TRANSACTIONS: Final = 1_000
EXPORT_HEIGHTS_MAX: Final = 2_000  # more heights in one archive: E401
EXPORT_DEADLINE_S: Final = 120.0  # an archive that takes longer to make: E491
EXPORTS_MAX: Final = 2  # archives made at once; further ones wait
EXPORT_CHUNK_BYTES: Final = 65_536
RAW_MEDIA: Final = "application/vnd.ipld.raw"
CAR_MEDIA: Final = "application/vnd.ipld.car"


class BlockView(msgspec.Struct, frozen=True):
    """A committed and executed block; `root` is the state root after it."""

    height: Number
    cid: Cid
    batch: Cid
    time_ms: Number
    root: Hex32


class Blocks(msgspec.Struct, frozen=True):
    """Oldest first."""

    blocks: list[BlockView]


class TransactionView(msgspec.Struct, frozen=True):
    """A transaction of a block; `code` is empty when it was executed."""

    id: Hex32
    position: Number
    status: Literal["executed", "rejected"]
    code: str


class BlockDetail(msgspec.Struct, frozen=True):
    """A block and its transactions in sequence; go on with `after` = the last position."""

    height: Number
    cid: Cid
    batch: Cid
    time_ms: Number
    root: Hex32
    transactions: list[TransactionView]


class BlocksQuery(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"first": "from", "last": "to"},
):
    """Heights, both included; without `from` the newest."""

    first: Number | None = None
    last: Number | None = None
    limit: Limit = BLOCKS


class BlockQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    height: Number
    after: Number | None = None
    limit: Limit = TRANSACTIONS


class RawQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cid: GivenCid


class ExportQuery(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    rename={"first": "from", "last": "to"},
):
    """Heights, both included."""

    first: Number
    last: Number


def block_view(row: BlockRow) -> BlockView:
    return BlockView(
        row.height, to_text(row.block), to_text(row.batch), row.time_ms, hexed(row.root)
    )


def transaction_view(row: TransactionRow) -> TransactionView:
    status: Literal["executed", "rejected"] = "rejected" if row.code else "executed"
    return TransactionView(hexed(row.source), row.position, status, row.code)


def newest_blocks(index: Index, last: int | None, limit: int) -> list[BlockRow]:
    """The last `limit` recorded blocks up to height `last`, oldest first."""
    newest = index.newest()
    if newest is None:
        return []
    last = newest.height if last is None else min(last, newest.height)
    return index.heights(max(0, last - limit + 1), last, limit)


async def list_blocks(call: Call[BlocksQuery, Nothing]) -> Blocks:
    query, index = call.parameters, call.node.index
    if query.first is None:
        rows = await call.services.read(newest_blocks, index, query.last, query.limit)
    else:
        last = query.first + query.limit - 1 if query.last is None else query.last
        rows = await call.services.read(index.heights, query.first, last, query.limit)
    return Blocks([block_view(row) for row in rows])


async def read_block(call: Call[BlockQuery, Nothing]) -> BlockDetail:
    """Errors: `NotFound`."""
    query, index = call.parameters, call.node.index
    row = await call.services.read(index.block, query.height)
    if row is None:
        raise NotFound(f"no block of height {query.height} is recorded here; see /v1/blocks")
    transactions = await call.services.read(
        index.transactions_at, query.height, query.limit, query.after
    )
    view = block_view(row)
    return BlockDetail(
        view.height,
        view.cid,
        view.batch,
        view.time_ms,
        view.root,
        [transaction_view(item) for item in transactions],
    )


async def read_raw(call: Call[RawQuery, Nothing]) -> Response:
    """The bytes that a CID names: of a block, a batch, or a chat message.

    Errors: `BadRequest`, `NotFound`.
    """
    cid = cid_bytes(call.parameters.cid)
    data = await call.services.read(call.node.index.blocks.get, cid)
    if data is None:
        raise NotFound("no block with this CID is stored here; ask another node")
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(data, media_type=RAW_MEDIA, headers=headers)


async def read_export(call: Call[ExportQuery, Nothing]) -> Response:
    """A CARv1 file with the blocks and batches of a range of heights.

    Errors: `BadRequest`, `QueryInvalid` when a height is not recorded.
    """
    query = call.parameters
    if not query.first <= query.last < query.first + EXPORT_HEIGHTS_MAX:
        raise BadRequest(
            f"`from` to `to` are 1 to {EXPORT_HEIGHTS_MAX} heights; ask for several archives"
        )
    file: BinaryIO = await trio.to_thread.run_sync(  # type: ignore[call-arg]
        _export,
        call.node.index,
        query.first,
        query.last,
        limiter=call.services.exports,
        abandon_on_cancel=True,
    )
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    name = f"{call.node.genesis.name}-{query.first}-{query.last}.car"
    return StreamingResponse(
        _chunks(file),
        media_type=CAR_MEDIA,
        headers={
            "content-length": str(size),
            "content-disposition": f'attachment; filename="{name}"',
        },
    )


def _export(index: Index, first: int, last: int) -> BinaryIO:
    """An open archive whose name is gone already: closing it is all that is left to do."""
    with tempfile.TemporaryDirectory(prefix="outcry-export-") as directory:
        path = Path(directory, "archive.car")
        export_heights(index, path, first, last)
        return path.open("rb")


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await trio.to_thread.run_sync(file.read, EXPORT_CHUNK_BYTES):
            yield chunk


BLOCK_ROUTES = [
    Route("GET", "/v1/blocks", "Blocks, oldest first", list_blocks, Blocks, BlocksQuery),
    Route(
        "GET",
        "/v1/blocks/{height}",
        "A block and its transactions",
        read_block,
        BlockDetail,
        BlockQuery,
    ),
    Route(
        "GET",
        "/v1/blocks/{cid}/raw",
        "The bytes that a CID names",
        read_raw,
        Media(RAW_MEDIA),
        RawQuery,
    ),
    Route(
        "GET",
        "/v1/export",
        "An archive of blocks and batches, for replay",
        read_export,
        Media(CAR_MEDIA),
        ExportQuery,
        deadline_s=EXPORT_DEADLINE_S,
    ),
]
