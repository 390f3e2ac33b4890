"""Batches that a node missed: fetched many at a time, believed only as far as ids agree."""

from types import SimpleNamespace

import pytest

from exchange import envelope_id
from node.batch import Batch
from node.sync import BATCHES_AHEAD_ITEMS_MAX, Sync
from node.wire import PROTOCOL_BATCHES, BatchesAnswer, BatchesWanted
from primitives import codec
from primitives.cid import cid_of

NETWORK = bytes(32)
BLOCK = cid_of(b"\xa0")


def envelope(height):
    return b"envelope of height %d" % height


def batch(height, wire=None):
    return Batch(height, BLOCK, None, bytes(32), (wire or envelope(height),)).encode(NETWORK)


class Peers:
    """One connected validator that has executed `heights`; it answers requests by protocol."""

    def __init__(self, heights, batches=batch):
        self.heights = heights
        self.batches = batches
        self.asked = []

    def peers(self):
        return [SimpleNamespace(connected=True, validator=0)]

    async def request(self, _peer, protocol, payload, *, deadline_ms, response_bytes_max):
        self.asked.append(protocol)
        if protocol != PROTOCOL_BATCHES:
            return codec.encode([envelope(height) for height in self.heights])
        wanted = codec.decode(BatchesWanted, payload, bytes_max=len(payload))
        heights = [h for h in self.heights if wanted.first <= h < wanted.first + wanted.count]
        answer = codec.encode(BatchesAnswer([self.batches(height) for height in heights]))
        assert len(answer) <= response_bytes_max
        assert deadline_ms > 0
        return answer


def sync_with(peers):
    return Sync(peers, None, None, None, ["a peer"], NETWORK)


async def test_a_node_that_was_away_asks_once_for_many_blocks():
    peers = Peers(range(1, 200))
    sync = sync_with(peers)
    for height in range(1, BATCHES_AHEAD_ITEMS_MAX + 1):
        wire = envelope(height)
        name = envelope_id(wire, NETWORK)
        assert await sync.fetch_batch(height, {name}) == {name: wire}
    assert peers.asked == [PROTOCOL_BATCHES]
    assert sync.statistics().batches_fetched == BATCHES_AHEAD_ITEMS_MAX


@pytest.mark.parametrize(
    "wrong", [lambda _: b"\xff", lambda height: batch(height, b"another envelope")]
)
async def test_a_wrong_batch_is_not_believed_and_the_envelope_is_asked_for(wrong):
    sync = sync_with(Peers(range(1, 4), wrong))
    for height in (1, 2, 3):
        wire = envelope(height)
        name = envelope_id(wire, NETWORK)
        assert await sync.fetch_batch(height, {name}) == {name: wire}
