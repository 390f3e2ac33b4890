"""Epochs end by certificates of the old set, and everybody finds the next one."""

from itertools import pairwise

import pytest

from consensus import ChainArrived, Commit, Kind, LinkUp, Received, Replica
from consensus.block import decode_block
from consensus.faults import BadHandover, JournalContradiction
from consensus.handover import Handover, check_handover, decode_handover
from primitives import codec
from tests.consensus.world import NETWORK, World

EPOCH_MS = 3_000


def epochs(world):
    return [member.replica.statistics().epoch for member in world.alive()]


def blocks(world, index=0):
    return [decode_block(wire, NETWORK) for wire in world.members[index].stored]


@pytest.mark.parametrize("count", [1, 4, 5])
def test_epochs_follow_each_other_and_the_chain_goes_on(count):
    world = World(count, seed=31, epoch_ms=EPOCH_MS)
    names = []
    for number in range(200):
        names.append(world.submit(b"order %d" % number))
        world.run_for(60)
    world.run_until(lambda: min(map(len, world.sequences())) == len(names))
    world.assert_agreement()
    assert min(epochs(world)) >= 4
    chain = blocks(world)
    assert [block.height for block in chain] == list(range(1, len(chain) + 1))
    for below, block in pairwise(chain):
        assert block.parent == below.cid
        assert block.epoch in (below.epoch, below.epoch + 1)
        assert (block.handover is not None) == (block.epoch > below.epoch)


def test_the_end_block_is_the_last_and_what_follows_it_is_not_part_of_the_chain():
    world = World(4, seed=32, epoch_ms=EPOCH_MS)
    world.run_for(4 * EPOCH_MS)
    chain = blocks(world)
    starts = [i for i, block in enumerate(chain) if block.handover is not None]
    assert len(starts) >= 2
    began_ms = world.genesis.time_ms
    for start in starts:
        end = chain[start - 1]
        assert end.time_ms >= began_ms + EPOCH_MS
        assert all(b.time_ms < began_ms + EPOCH_MS for b in chain[: start - 1])
        handover = decode_handover(chain[start].handover)
        assert handover.end == end.cid
        assert decode_block(handover.block, NETWORK).is_empty
        began_ms = end.time_ms


def test_a_validator_that_slept_over_several_epochs_finds_the_present_one():
    world = World(5, seed=33, epoch_ms=EPOCH_MS)
    world.run_for(1_000)
    world.crash(4)
    world.run_for(5 * EPOCH_MS)
    world.start(4)
    world.run_until(lambda: min(epochs(world)) == max(epochs(world)) >= 4)
    height = world.height()
    world.run_until(lambda: world.height() > height + 5)
    world.assert_agreement()
    assert world.members[4].replica.statistics().votes > 0


def test_one_that_was_cut_off_at_the_end_of_an_epoch_is_handed_the_proof():
    world = World(5, seed=34, epoch_ms=EPOCH_MS)
    world.run_for(EPOCH_MS - 300)
    world.drop = lambda a, b, _kind: (a == 2) != (b == 2)
    world.run_until(lambda: max(epochs(world)) == 2)
    proofs = []
    for number in range(2):
        world.drop = lambda a, b, kind: (a == 2) != (b == 2) and kind in (Kind.PROPOSAL, "chain")
        world.run_for(1_500)
        proofs += [kind for _, kind, _ in world.signed if kind == Kind.HANDOVER]
        assert number == 0 or proofs
    world.drop = lambda _a, _b, _kind: False
    world.run_until(lambda: min(epochs(world)) == max(epochs(world)))
    world.assert_agreement()


@pytest.mark.parametrize("seed", range(6))
def test_a_blackout_of_everybody_around_an_epochs_end_loses_nothing(seed):
    """Also when storage is behind the journal: the proof and the blocks are in the journal."""
    world = World(4, seed=seed, epoch_ms=EPOCH_MS)
    world.run_until(lambda: max(epochs(world)) == 2)
    world.run_for(seed * 7)
    before = max(len(member.stored) for member in world.members)
    for member in world.members:
        world.crash(member.index)
        if seed % 2:
            del member.stored[max(0, len(member.stored) - 3) :]
    for member in world.members:
        world.start(member.index)
    assert all(member.replica.statistics().epoch >= 1 for member in world.members)
    world.run_until(lambda: world.height() > before + 5)
    world.assert_agreement()
    assert min(epochs(world)) >= 2


def test_an_observer_that_is_given_the_chain_follows_through_all_epochs():
    world = World(4, seed=36, epoch_ms=EPOCH_MS)
    world.run_for(5 * EPOCH_MS)
    observer = Replica(world.genesis, None, lambda _: True)
    tail, qc = world.members[0].replica.tail(len(world.members[0].stored))
    effects = observer.handle(ChainArrived((*world.members[0].stored, *tail), qc), world.now)
    commits = [effect for effect in effects if isinstance(effect, Commit)]
    assert len(commits) >= len(world.members[0].stored)
    assert [commit.batch for commit in commits[: len(world.members[0].batches)]] == (
        world.members[0].batches
    )


def test_a_proof_needs_the_old_sets_certificates_in_consecutive_rounds():
    world = World(4, seed=37, epoch_ms=EPOCH_MS)
    world.run_until(lambda: min(epochs(world)) == 2 and world.height() > 8)
    chain = blocks(world)
    start = next(block for block in chain if block.handover is not None)
    end = chain[start.height - 2]
    good = decode_handover(start.handover)
    committee = world.committee
    unknown = lambda *_: False  # noqa: E731
    check_handover(good, end.cid, committee, unknown)
    block = decode_block(good.block, NETWORK)
    for wrong in (
        Handover(2, good.end, good.block, good.qc),
        Handover(1, good.end, good.block, block.qc),
        Handover(1, chain[0].cid, good.block, good.qc),
        Handover(1, good.end, end.wire, block.qc),
        Handover(1, good.end, end.wire, end.qc),
    ):
        with pytest.raises(BadHandover):
            check_handover(wrong, end.cid, committee, unknown)
    with pytest.raises(BadHandover):
        check_handover(good, chain[0].cid, committee, unknown)


def test_a_false_proof_moves_nobody():
    world = World(4, seed=38, epoch_ms=10 * EPOCH_MS)
    world.run_for(2_000)
    replica = world.members[0].replica
    tail, qc = replica.tail(0)
    false = codec.encode(Handover(1, decode_block(tail[-1], NETWORK).parent, tail[-1], qc))
    with pytest.raises(BadHandover):
        replica.handle(Received(Kind.HANDOVER, false, 1), world.now)
    assert replica.statistics().epoch == 1


def test_checkpoints_of_an_epoch_that_is_over_are_still_certified():
    world = World(4, seed=39, epoch_ms=EPOCH_MS)
    world.drop = lambda _a, _b, kind: kind == Kind.CHECKPOINT
    world.run_until(lambda: any(b.handover is not None for b in blocks(world)))
    last = next(b.height for b in blocks(world) if b.handover is not None) - 1
    world.drop = lambda _a, _b, _kind: False
    for member in world.members:
        for other in world.members:
            if member is not other:
                world._later(1, member.index, LinkUp(other.index))
    world.run_for(1_000)
    certified = {c.height: c.epoch for m in world.members for c in m.checkpoints}
    assert certified[last] == 1


def test_a_stored_chain_with_a_hole_at_an_epochs_start_is_refused():
    world = World(4, seed=40, epoch_ms=EPOCH_MS)
    world.run_until(lambda: min(epochs(world)) == 2 and world.height() > 8)
    chain = blocks(world)
    start = next(block for block in chain if block.handover is not None)
    replica = Replica(world.genesis, None, lambda _: True)
    for wire in world.members[0].stored[: start.height - 2]:
        replica.replay(wire)
    with pytest.raises(JournalContradiction):
        replica.replay(start.wire)


def inner(replica):
    """All of a replica's state that other validators must have alike, the proof of the epoch's
    start aside: its certificate may have other signers."""
    state = replica._state
    sequencer = state.sequencer
    return (
        state.tree.tip,
        (state.beginning.cid, state.beginning.time_ms),
        state.epochs.current.epoch,
        state.epochs.before,
        sequencer._pending,
        list(sequencer._queue),
        sequencer._sequenced,
        sequencer._positions,
    )


@pytest.mark.parametrize("seed", range(4))
def test_beginning_at_an_epochs_start_gives_what_the_whole_history_gives(seed):
    world = World(4, seed=50 + seed, epoch_ms=EPOCH_MS)
    world.run_for(600)
    world.crash(3)  # failures, so that leaders do not all stand alike
    for number in range(150):
        world.submit(b"order %d" % number)
        world.run_for(40 + seed)
    world.start(3)
    world.run_for(3_000 + seed * 100)
    for number in range(20):
        world.submit(b"late %d" % number)
        world.run_for(7)
    found = []
    for from_epoch in (True, False):
        world.crash(0)
        world.start(0, from_epoch=from_epoch)
        found.append((inner(world.members[0].replica), [*world.members[0].batches]))
    assert found[0] == found[1]
    assert found[0][0][2] >= 3


def test_a_damaged_epoch_start_is_refused():
    world = World(4, seed=60, epoch_ms=EPOCH_MS)
    with pytest.raises(JournalContradiction):
        world.members[0].replica.begin_at(b"\xff", [])
