"""Replicas agree, go on without the dead, and never contradict themselves."""

import pytest

from consensus import Broadcast, ChainArrived, Kind, Received, Replica
from consensus.certificate import Timeout, Vote
from primitives import codec
from tests.consensus.world import World


def submit_some(world, count, tag=b""):
    return [world.submit(tag + b"order %d" % number) for number in range(count)]


def contradictions(world):
    """Signers that signed two different votes in one round, over everything that was sent."""
    seen, out = {}, []
    for _, kind, payload in world.signed:
        if kind == Kind.VOTE:
            vote = codec.decode(Vote, payload, bytes_max=1_000)
            if seen.setdefault((vote.voter, vote.epoch, vote.round), vote.block) != vote.block:
                out.append((vote.voter, vote.round))
    return out


def votes_after_timeouts(world):
    """Signers that voted in a round after they had given it up."""
    given_up, out = set(), []
    known = set()
    for _, kind, payload in world.signed:
        if kind == Kind.TIMEOUT:
            timeout = codec.decode(Timeout, payload, bytes_max=100_000)
            given_up.add((timeout.voter, timeout.epoch, timeout.round))
        if kind == Kind.VOTE:
            vote = codec.decode(Vote, payload, bytes_max=1_000)
            slot = (vote.voter, vote.epoch, vote.round)
            if slot not in known and slot in given_up:
                out.append(slot)
            known.add(slot)
    return out


@pytest.mark.parametrize("count", [1, 2, 4, 5, 7])
def test_orders_are_sequenced_once_and_alike(count):
    world = World(count, seed=count)
    names = submit_some(world, 40)
    world.run_until(lambda: min(map(len, world.sequences())) == 40)
    world.run_for(2_000)
    world.assert_agreement()
    assert sorted(world.sequences()[0]) == sorted(names)


def test_a_block_that_waited_for_envelopes_is_voted_for_after_a_restart():
    world = World(4, seed=77)
    world.drop = lambda _a, to, kind: to == 0 and kind == "fetch"
    world.run_for(500)
    name = world.submit(b"late", to=[1, 2, 3])
    member = world.members[0]
    world.run_until(lambda: member.replica._held is not None)
    held = member.replica._held
    world.crash(0)
    member.envelopes[name] = b"late"
    effects = []
    world._carry_out = lambda _member, done: effects.extend(done)
    world.start(0)
    effects += member.replica.handle(Received(Kind.PROPOSAL, held.wire, held.author), world.now)
    votes = [e for e in effects if isinstance(e, Broadcast) and e.kind == Kind.VOTE]
    assert [codec.decode(Vote, e.payload, bytes_max=1_000).block for e in votes] == [held.cid]


def test_a_validator_whose_journal_is_empty_serves_what_it_can_prove():
    world = World(4, seed=78)
    world.run_for(3_000)
    world.crash(0)
    world.members[0].journal.clear()
    world.start(0)
    blocks, qc = world.members[0].replica.tail(0)
    assert blocks
    observer = Replica(world.genesis, None, lambda _: True)
    observer.handle(ChainArrived(tuple(blocks), qc), world.now)
    assert observer.statistics().height >= len(blocks) - 2


def test_an_idle_network_goes_on_slowly():
    world = World(seed=1)
    world.run_for(10_000)
    assert 10 <= world.height() <= 40
    world.assert_agreement()


def test_a_dead_validator_costs_time_but_not_progress():
    world = World(seed=2)
    world.run_for(500)
    world.crash(3)
    submit_some(world, 30)
    world.run_until(lambda: min(map(len, world.sequences())) == 30)
    world.assert_agreement()


def test_without_a_quorum_nothing_is_committed_and_nothing_breaks():
    world = World(seed=3)
    world.run_for(500)
    world.crash(0)
    world.crash(1)
    world.run_for(1_000)
    before = world.height()
    submit_some(world, 5)
    world.run_for(20_000)
    assert world.height() == before
    world.start(0)
    world.run_until(lambda: min(map(len, world.sequences())) == 5)
    world.assert_agreement()


@pytest.mark.parametrize("seed", range(6))
def test_a_restarted_validator_catches_up_and_signs_no_slot_twice(seed):
    world = World(seed=seed)
    submit_some(world, 10, b"a")
    world.run_for(300)
    world.crash(2)
    submit_some(world, 20, b"b")
    world.run_for(4_000)
    world.start(2)
    names = submit_some(world, 10, b"c")
    world.run_until(lambda: min(map(len, world.sequences())) == 40)
    world.run_for(3_000)
    assert set(names) <= set(world.sequences()[2])
    world.assert_agreement()
    assert contradictions(world) == []
    assert votes_after_timeouts(world) == []


@pytest.mark.parametrize("seed", range(6))
def test_everybody_may_restart_at_once(seed):
    world = World(seed=seed)
    for step in range(5):
        submit_some(world, 4, b"%d" % step)
        world.run_for(world.random.randint(10, 900))
        for index in range(5):
            world.crash(index)
        for index in range(5):
            world.start(index)
    heights = world.height()
    world.run_until(lambda: world.height() > heights + 5)
    world.assert_agreement()
    assert contradictions(world) == []
    assert votes_after_timeouts(world) == []


@pytest.mark.parametrize("seed", range(8))
def test_a_lossy_network_delays_but_never_divides(seed):
    world = World(seed=seed, delay_ms=(1, 120))
    world.drop = lambda _a, _b, _kind: world.random.random() < 0.15
    names = submit_some(world, 25)
    world.run_for(25_000)
    world.drop = lambda _a, _b, _kind: False
    world.run_until(lambda: min(map(len, world.sequences())) == len(names))
    world.assert_agreement()
    assert contradictions(world) == []


@pytest.mark.parametrize("seed", range(4))
def test_two_halves_do_not_commit_apart_and_agree_after_healing(seed):
    world = World(seed=seed)
    world.run_for(400)
    side = {0, 1}
    world.drop = lambda a, b, _kind: (a in side) != (b in side)
    submit_some(world, 10)
    world.run_for(8_000)
    world.drop = lambda _a, _b, _kind: False
    world.run_until(lambda: min(map(len, world.sequences())) == 10)
    world.assert_agreement()


def test_votes_wait_for_the_envelopes_of_a_batch():
    world = World(seed=9)
    world.run_for(200)
    name = world.submit(b"only two have it", to=[0, 1])
    world.run_for(3_000)
    assert all(name in member.envelopes for member in world.members), "F + 1 reported it: fetched"
    world.run_until(lambda: min(map(len, world.sequences())) == 1)
    world.assert_agreement()


def test_an_envelope_that_one_liar_reports_stops_nobody():
    world = World(seed=10)
    name = world.submit(b"nobody else ever sees it", to=[4])
    world.drop = lambda a, _b, kind: a == 4 and kind == "fetch"
    submit_some(world, 5)
    world.run_until(lambda: min(map(len, world.sequences())) == 5)
    world.run_for(2_000)
    assert all(name not in sequence for sequence in world.sequences())


def test_checkpoints_are_certified_and_carried_by_blocks():
    world = World(seed=11)
    submit_some(world, 10)
    world.run_for(4_000)
    for member in world.members:
        assert member.checkpoints[-1].height >= world.height() - 4
        assert member.replica.statistics().checkpoint_height >= world.height() - 4
    world.crash(1)
    world.start(1)
    assert world.members[1].replica.statistics().checkpoint_height > 0, "learnt from its blocks"


def test_power_counts_not_heads():
    world = World(4, seed=12, powers=[10, 1, 1, 1])
    world.crash(0)
    world.run_for(5_000)
    assert world.height() == 0
    world = World(4, seed=12, powers=[10, 1, 1, 1])
    world.crash(3)
    submit_some(world, 5)
    world.run_until(lambda: min(map(len, world.sequences())) == 5)


def test_a_leader_cannot_reorder_what_everybody_saw_in_one_order():
    world = World(seed=13, delay_ms=(1, 3))
    world.run_for(100)
    names = []
    for number in range(12):
        names.append(world.submit(b"spaced %d" % number))
        world.run_for(40)
    world.run_until(lambda: min(map(len, world.sequences())) == 12)
    assert world.sequences()[0] == names
