"""A key whose journal was lost signs nothing until every slot is fresh, and notices its double."""

import pytest

from consensus import ChainArrived, Identity, Kind, Received, Replica
from consensus.faults import DoppelgangerSeen
from tests.consensus.test_agreement import contradictions
from tests.consensus.world import World

EPOCH_MS = 12_000
SIGNED = {Kind.PROPOSAL, Kind.VOTE, Kind.TIMEOUT, Kind.LINK, Kind.CHECKPOINT}


def sent_by(world, index):
    """Kinds of what a validator signed and sent, in order."""
    kinds = [kind for sender, kind, _ in world.signed if sender == index]
    return [kind for kind in kinds if kind in SIGNED]


def test_without_its_journal_a_validator_is_silent_until_an_epoch_begins():
    world = World(4, seed=61, epoch_ms=EPOCH_MS)
    world.run_for(2_000)
    world.crash(3)
    world.members[3].journal.clear()
    before = len(sent_by(world, 3))
    world.start(3, watch=True)
    statistics = world.members[3].replica.statistics
    world.run_until(lambda: statistics().epoch == 1 and statistics().height > 12)
    assert statistics().silent
    assert len(sent_by(world, 3)) == before
    world.run_until(lambda: not statistics().silent, ms=3 * EPOCH_MS)
    assert len(world.members[3].watched) == 1
    assert statistics().epoch >= 2
    world.run_for(3_000)
    assert Kind.VOTE in sent_by(world, 3)[before:]
    assert contradictions(world) == []
    world.assert_agreement()


def test_an_epoch_that_began_before_the_process_does_not_end_the_silence():
    world = World(4, seed=62, epoch_ms=EPOCH_MS)
    world.run_for(1_000)
    world.crash(3)
    world.run_for(2 * EPOCH_MS + 1_000)
    world.members[3].journal.clear()
    world.start(3, watch=True)
    statistics = world.members[3].replica.statistics
    world.run_until(lambda: statistics().epoch >= 3)
    assert statistics().silent


def test_a_plain_restart_does_not_wait():
    world = World(4, seed=63, epoch_ms=EPOCH_MS)
    world.run_for(2_000)
    world.crash(3)
    world.start(3)
    assert not world.members[3].replica.statistics().silent


def test_a_double_that_signs_with_the_same_key_stops_the_newcomer():
    """Two replicas with one key: the older one keeps voting, the younger watches."""
    world = World(4, seed=64, epoch_ms=60_000)
    world.run_for(2_000)
    double = Replica(world.genesis, Identity(world.keys[3], 3), lambda _: True, world.timing)
    assert double.resume({}, world.now, watch=True) == []
    with pytest.raises(DoppelgangerSeen):
        show_all(world, double)


def show_all(world, replica):
    """Let a replica look on: the chain so far, then every proposal."""
    tail, qc = world.members[0].replica.tail(len(world.members[0].stored))
    replica.handle(ChainArrived((*world.members[0].stored, *tail), qc), world.now)
    seen = len(world.signed)
    for _ in range(400):
        world.run_for(50)
        for sender, kind, payload in world.signed[seen:]:
            if kind == Kind.PROPOSAL:
                replica.handle(Received(kind, payload, sender), world.now)
        seen = len(world.signed)
