"""Executing, recording and replaying committed blocks, without a network."""

import msgspec
import pytest
import trio

from consensus import Identity, Replica
from consensus.block import make_block
from consensus.certificate import genesis_certificate
from consensus.report import link_hash, sign_link
from exchange import Deposit, Exchange, Observation, admit, envelope_id
from exchange.envelope import Scope, sign_authorization
from node.batch import Batch, NotABatch, decode_batch
from node.faults import StorageMismatch
from node.feed import Feed
from node.genesis import agreement
from node.keys import create_keys
from node.ledger import Ledger
from node.mempool import Mempool
from primitives import codec, dagcbor
from primitives.anchors import EMPTY_ACCUMULATOR, deposit_accumulator
from primitives.cid import cid_of
from primitives.secp256k1 import EvmKey
from storage import Index
from tests.genesis import make_genesis

OWNER = EvmKey(b"\x05" * 32)


class House:
    """One validator that is a quorum by itself: its blocks are committed by hand."""

    def __init__(self, path):
        self.keys = create_keys()
        self.genesis = make_genesis(keys=[self.keys])
        self.agreed = agreement(self.genesis)
        self.network = self.genesis.network_id()
        self.index = Index.open(path, self.network)
        self.mempool = Mempool()
        self.refetched = {}
        self.ledger = self.make_ledger()

    def make_ledger(self, genesis=None):
        async def no_keys(_changed):
            return None

        exchange = Exchange(genesis or self.genesis.exchange, self.network)
        ledger = Ledger(
            exchange,
            self.index,
            self.mempool,
            Feed(),
            self.genesis.domain(),
            on_rollup=lambda *_: None,
            on_keys=no_keys,
        )
        ledger.fetch = self.fetch
        return ledger

    async def fetch(self, _height, missing):
        return {name: self.refetched[name] for name in missing}

    def commits(self, count, envelopes):
        """`count` commits of one chain; the envelopes are in the first block's report."""
        signing = self.keys.signing()
        replica = Replica(self.agreed, Identity(signing, 0), lambda _: True)
        qc, out, previous = genesis_certificate(1, self.agreed.cid), [], bytes(32)
        for height in range(1, count + 1):
            items = envelopes if height == 1 else []
            observation = codec.encode(self.observation()) if height == 1 else b"\xff"
            link = sign_link(
                signing, self.network, 1, 0, height, previous, items, 1_000 * height, observation
            )
            wire = codec.encode(link)
            previous = link_hash(self.network, wire)
            block = make_block(
                signing,
                self.network,
                round_=height,
                height=height,
                author=0,
                time_ms=1_000 * height,
                qc=qc,
                tc=None,
                link_wires=[wire],
                checkpoint=None,
            )
            out.append(replica.replay(block.wire))
            qc = type(qc)(1, height, block.cid, [])
        return out

    def observation(self):
        accumulator = deposit_accumulator(EMPTY_ACCUMULATOR, 0, OWNER.address, 1, 500)
        deposit = Deposit(0, OWNER.address, 1, 500, accumulator)
        return Observation(9, bytes(32), 1, accumulator, [deposit])

    async def run(self, commits):
        send, receive = trio.open_memory_channel(len(commits))
        for commit in commits:
            send.send_nowait(commit)
        send.close()
        await self.ledger.run(receive)


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path / "index.db")
    yield made
    made.index.close()


def authorization(house):
    wire = sign_authorization(OWNER, house.genesis.domain(), b"\x09" * 32, Scope.TRADE, 10**9, 0)
    return wire, admit(wire, house.genesis.domain())


async def test_a_block_is_executed_recorded_and_replayed_to_the_same_root(house):
    wire, admitted = authorization(house)
    house.mempool.add(wire, admitted, 0)
    await house.run(house.commits(3, [admitted.id]))
    assert house.ledger.height == 3
    assert house.index.transaction(admitted.id).status == "executed"
    assert house.ledger.exchange.accounts.known(OWNER.address).wallets[1].free == 500
    assert house.ledger.statistics().observations_refused == 2, "0xff is no observation"

    again = house.make_ledger()
    seen = []
    assert again.replay(seen.append) == 3
    assert [block.height for block in seen] == [1, 2, 3]
    assert again.exchange.root == house.ledger.exchange.root


async def test_envelopes_that_are_not_at_hand_are_fetched(house):
    wire, admitted = authorization(house)
    house.refetched[admitted.id] = wire
    await house.run(house.commits(2, [admitted.id]))
    assert house.ledger.statistics().fetched == 1
    assert house.index.transaction(admitted.id).status == "executed"


async def test_a_batch_may_hold_nonsense_that_a_quorum_reported(house):
    nonsense = b"nobody could sign this"
    name = envelope_id(nonsense, house.network)
    house.refetched[name] = nonsense
    await house.run(house.commits(2, [name]))
    assert house.index.transaction(name).code == "E101"


async def test_storage_that_gives_another_root_stops_the_node(house):
    await house.run(house.commits(2, []))
    other = msgspec.structs.replace(house.genesis.exchange, fee_account=b"\x0e" * 20)
    again = house.make_ledger(other)
    with pytest.raises(StorageMismatch, match="another root"):
        again.replay(lambda _: None)


async def test_a_stored_batch_that_is_another_stops_the_node(house):
    wire, admitted = authorization(house)
    house.mempool.add(wire, admitted, 0)
    await house.run(house.commits(2, [admitted.id]))
    (row,) = [
        row for row in house.index.heights(1, 2, 2) if house.index.transactions_at(row.height, 9)
    ]
    empty = Batch(row.height, row.block, None, row.root, ()).encode(house.network)
    house.index.blocks.put(cid_of(empty), empty)
    with house.index._writer.transaction() as connection:
        change = "UPDATE heights SET batch = ? WHERE height = ?"
        connection.execute(change, (cid_of(empty), row.height))
    with pytest.raises(StorageMismatch, match="another root"):
        house.make_ledger().replay(lambda _: None)


def test_a_batch_survives_its_encoding(house):
    batch = Batch(5, cid_of(b"block"), None, bytes(32), (b"one", b"two"))
    assert decode_batch(batch.encode(house.network), house.network) == batch
    linked = Batch(6, cid_of(b"block"), batch.cid(house.network), bytes(32), ())
    assert decode_batch(linked.encode(house.network), house.network) == linked


@pytest.mark.parametrize(
    "value", [[], {}, 5, ["outcry/batch/1"], ["outcry/block/1", bytes(32), 1, None, None, b"", []]]
)
def test_other_blocks_are_not_batches(house, value):
    with pytest.raises(NotABatch):
        decode_batch(dagcbor.encode(value), house.network)
    shape = ["outcry/batch/1", house.network, "1", None, None, b"", [1]]
    with pytest.raises(NotABatch):
        decode_batch(dagcbor.encode(shape), house.network)
