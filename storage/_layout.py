"""The tables of the index. A change here raises VERSION: an older file is then refused."""

from typing import Final

from storage.blockstore import BLOCK_TABLES

APPLICATION: Final = 0x4F544931  # "OTI1"
VERSION: Final = 1

LAYOUT: Final = (
    BLOCK_TABLES
    + """
CREATE TABLE network(id BLOB NOT NULL) STRICT;
CREATE TABLE marks(name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE heights(
    height INTEGER PRIMARY KEY, block BLOB NOT NULL UNIQUE, batch BLOB NOT NULL,
    time_ms INTEGER NOT NULL, root BLOB NOT NULL
) STRICT;

CREATE TABLE orders(
    position INTEGER PRIMARY KEY, market INTEGER NOT NULL, id INTEGER NOT NULL,
    account BLOB NOT NULL, side INTEGER NOT NULL, price INTEGER NOT NULL, size INTEGER NOT NULL,
    filled INTEGER NOT NULL, status TEXT NOT NULL, client_id TEXT NOT NULL,
    source BLOB NOT NULL, height INTEGER NOT NULL,
    UNIQUE(market, id), CHECK(filled BETWEEN 0 AND size)
) STRICT;
CREATE INDEX orders_of_account ON orders(account, position);
CREATE INDEX orders_open ON orders(account, position) WHERE status = 'open';

CREATE TABLE trades(
    market INTEGER NOT NULL, number INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    height INTEGER NOT NULL, price INTEGER NOT NULL, size INTEGER NOT NULL, side INTEGER NOT NULL,
    maker_account BLOB NOT NULL, taker_account BLOB NOT NULL,
    maker_order INTEGER NOT NULL, taker_order INTEGER NOT NULL,
    PRIMARY KEY(market, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX trades_of_maker ON trades(maker_account, market, number);
CREATE INDEX trades_of_taker ON trades(taker_account, market, number);

CREATE TABLE candles(
    market INTEGER NOT NULL, interval_ms INTEGER NOT NULL, start_ms INTEGER NOT NULL,
    open INTEGER NOT NULL, high INTEGER NOT NULL, low INTEGER NOT NULL, close INTEGER NOT NULL,
    volume INTEGER NOT NULL, trades INTEGER NOT NULL,
    PRIMARY KEY(market, interval_ms, start_ms)
) STRICT, WITHOUT ROWID;

CREATE TABLE transactions(
    source BLOB PRIMARY KEY, height INTEGER NOT NULL, position INTEGER NOT NULL,
    status TEXT NOT NULL, code TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX transactions_at ON transactions(height, position);
CREATE TABLE rejections(
    source BLOB NOT NULL, action INTEGER NOT NULL, code TEXT NOT NULL, client_id TEXT NOT NULL,
    PRIMARY KEY(source, action)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys(
    position INTEGER PRIMARY KEY, account BLOB NOT NULL, key BLOB NOT NULL,
    time_ms INTEGER NOT NULL, scope INTEGER NOT NULL, expires_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_in_time ON keys(account, key, time_ms, position);

CREATE TABLE rollups(
    number INTEGER PRIMARY KEY, height INTEGER NOT NULL, root BLOB NOT NULL,
    withdrawal_root BLOB NOT NULL, deposits INTEGER NOT NULL, accumulator BLOB NOT NULL,
    signatures BLOB NOT NULL, tx BLOB NOT NULL
) STRICT;
CREATE TABLE withdrawals(
    position INTEGER PRIMARY KEY, rollup INTEGER NOT NULL, leaf INTEGER NOT NULL,
    account BLOB NOT NULL, token INTEGER NOT NULL, units INTEGER NOT NULL,
    UNIQUE(rollup, leaf)
) STRICT;
CREATE INDEX withdrawals_of_account ON withdrawals(account, rollup, leaf);

CREATE TABLE chat(
    position INTEGER PRIMARY KEY, room TEXT NOT NULL, cid BLOB NOT NULL UNIQUE,
    account BLOB NOT NULL, sequence INTEGER NOT NULL, time_ms INTEGER NOT NULL,
    shown INTEGER NOT NULL
) STRICT;
CREATE INDEX chat_of_room ON chat(room, position);
"""
)
