"""Bad networks, crashes of everybody and duties that fail: the agreement goes on from there."""

import pytest

from consensus import (
    SENDERS_FAULTS,
    Broadcast,
    ChainArrived,
    Kind,
    Persist,
    Received,
    Send,
    Timing,
    _links,
    decode_block,
)
from consensus.certificate import sign_timeout
from consensus.faults import BadReport
from primitives import codec
from tests.consensus.test_agreement import contradictions, votes_after_timeouts
from tests.consensus.world import NETWORK, World

BRISK = Timing(idle_interval_ms=25)
EAGER = Timing(block_interval_ms=5, idle_interval_ms=5)
LINKS_MAX = 24  # a small bound in place of the real one


class CarefulWorld(World):
    """Notes what a replica raises although nobody else's message is to blame."""

    def __init__(self, *arguments, **options):
        self.deaths = []
        super().__init__(*arguments, **options)

    def start(self, index, watch=False, from_epoch=True):
        super().start(index, watch, from_epoch)
        replica = self.members[index].replica
        plain = replica.handle

        def handle(event, now_ms):
            try:
                return plain(event, now_ms)
            except SENDERS_FAULTS as fault:
                if not isinstance(event, Received | ChainArrived):
                    self.deaths.append((index, event, fault))
                raise

        replica.handle = handle


def black_out(world, lag=0, back=(0, 1, 2, 3)):
    """Everybody dies, nothing in flight arrives; storage is `lag` blocks behind the journals."""
    shortest = min(len(member.stored) for member in world.members)
    for member in world.members:
        world.crash(member.index)
        if lag:
            del member.stored[shortest - lag :], member.batches[shortest - lag :]
        member.wake = None
    world._queue.clear()
    for index in back:
        world.start(index)


def heights(member):
    return [decode_block(wire, NETWORK).height for wire in member.stored]


def assert_whole(world):
    """What each ledger was handed has no hole, and is what its replica holds final."""
    for member in world.alive():
        assert heights(member) == list(range(1, member.replica.height + 1))
    world.assert_agreement()


# Own duties


def halted(monkeypatch):
    """Without a quorum, for as long as own links are made at all."""
    monkeypatch.setattr(_links, "LINKS_AHEAD_ITEMS_MAX", LINKS_MAX)
    timing = Timing(idle_interval_ms=25, report_idle_ms=20)
    world = CarefulWorld(4, seed=6, timing=timing, delay_ms=(3, 4))
    world.run_for(1_500)
    world.crash(1)
    world.crash(2)
    world.run_for(3_000)
    return world


def distances_of_links(member):
    """How far beyond the committed links each one is that this validator makes from now on."""
    state, found = member.replica._state, []
    plain = state.reporter.make

    def make(now_ms):
        made = plain(now_ms)
        committed = state.tree.tip.frontier[member.index].sequence
        found.append(state.reporter.sequence - committed)
        return made

    state.reporter.make = make
    return found


def test_own_links_beyond_the_bound_are_not_made(monkeypatch):
    world = halted(monkeypatch)
    black_out(world, lag=2)
    before = world.height()
    found = [distances_of_links(member) for member in world.members]
    world.run_until(lambda: world.height() > before + 40)
    assert all(found), "each made links"
    assert max(map(max, found)) <= LINKS_MAX


def test_after_a_halt_as_long_as_the_bound_on_links_everybody_returns_whole(monkeypatch):
    world = halted(monkeypatch)
    black_out(world, lag=2)
    before = world.height()
    world.run_until(lambda: world.height() > before + 40)
    assert world.deaths == []
    assert_whole(world)
    assert contradictions(world) == []


def fail_after(replica, count):
    """Whenever `count()` of a replica has grown, the duty that follows in that event fails."""
    plain, known = replica._on_time, [count()]

    def on_time(now_ms):
        if count() > known[0]:
            known[0] = count()
            raise BadReport("this duty fails")
        return plain(now_ms)

    replica._on_time = on_time


def test_a_duty_that_fails_after_a_commit_loses_no_block():
    world = World(4, seed=7, timing=BRISK, delay_ms=(3, 4))
    replica = world.members[0].replica
    fail_after(replica, lambda: replica.height)
    world.run_for(2_000)
    assert len(world.members[0].faults) > 20, "it did fail"
    assert_whole(world)


def test_a_duty_that_fails_after_a_vote_loses_no_vote():
    world = World(4, seed=8, timing=BRISK, delay_ms=(3, 4))
    for member in world.members:
        fail_after(member.replica, lambda replica=member.replica: replica.statistics().votes)
    world.run_for(2_000)
    assert world.height() > 20
    assert all(len(member.faults) > 20 for member in world.members), "it did fail"
    assert all(m.replica.statistics().rounds.timed_out == 0 for m in world.members)


def test_a_repeated_vote_comes_with_what_makes_it_durable():
    world = World(4, seed=9, timing=BRISK)
    world.run_for(500)
    world.drop = lambda _a, _b, kind: kind == Kind.VOTE
    safety = world.members[0].replica._state.safety
    world.run_until(lambda: safety.last_vote.round == safety.round, ms=1_000)
    world.run_for(30)
    vote = safety.last_vote
    proposals = [wire for _, kind, wire in world.signed if kind == Kind.PROPOSAL]
    (wire,) = {wire for wire in proposals if decode_block(wire, NETWORK).cid == vote.block}
    sender = decode_block(wire, NETWORK).author
    effects = world.members[0].replica.handle(Received(Kind.PROPOSAL, wire, sender), world.now)
    again = effects.index(Broadcast(Kind.VOTE, codec.encode(vote)))
    persisted = [entry for e in effects[:again] if isinstance(e, Persist) for entry in e.entries]
    assert any(entry.kind == "vote" and entry.value == vote.block for entry in persisted)
    assert any(entry.kind == "safety" for entry in persisted)


# Blackouts


def goes_on_after(world, lag):
    before = world.height()
    black_out(world, lag)
    world.run_until(lambda: world.height() > before + 10)
    assert_whole(world)
    assert contradictions(world) == []
    assert votes_after_timeouts(world) == []


def test_a_blackout_with_storage_three_hundred_blocks_behind_is_recovered_from():
    world = World(4, seed=7, timing=EAGER, delay_ms=(1, 2))
    world.run_until(lambda: world.height() > 320)
    goes_on_after(world, lag=300)


@pytest.mark.parametrize("lag", [3, 12, 300])
def test_a_blackout_while_each_block_is_late_at_somebody_is_recovered_from(lag):
    """Each proposal comes late to one validator in turn, never to the next leader: nothing is
    lost, nobody gives up, and every block was voted for by three of the four only."""
    world = World(4, seed=8, timing=BRISK, delay_ms=(2, 3))
    plain = world.send

    def send(sender, to, kind, payload):
        if kind == Kind.PROPOSAL:
            block = decode_block(payload, NETWORK)
            late = (block.round % 4, (block.round + 2) % 4)[block.round % 4 == sender]
            node = world.members[sender].replica._state.tree.get(block.cid)
            following = node and world.committee.leader(block.round + 1, node.settled)
            if to == late != following:
                world._later(40, to, Received(int(kind), payload, sender))
                return
        plain(sender, to, kind, payload)

    world.send = send
    world.run_until(lambda: world.height() > lag + 20)
    goes_on_after(world, lag)


@pytest.mark.parametrize("behind", [False, True])
def test_a_validator_whose_journal_is_ahead_of_its_blocks_repeats_its_timeout(behind):
    """Three of four had given up a round when everybody died: all three are needed to leave it,
    also the one whose blocks end in the epoch before."""
    world = World(4, seed=3, timing=BRISK, delay_ms=(4, 5), epoch_ms=1_000)
    world.run_until(lambda: {m.replica.statistics().epoch for m in world.members} == {2})
    world.run_for(300)
    world.crash(3)
    world.drop = lambda _a, _b, _kind: True
    world.run_for(2_500)
    assert all(member.replica.statistics().timeouts > 0 for member in world.alive())
    late = world.members[2]
    if behind:
        del late.stored[5:], late.batches[5:]
        late.journal["block"] = {}
        late.journal["epoch"] = {}
    world.drop = lambda _a, _b, _kind: False
    black_out(world, back=(0, 1, 2))
    assert late.replica.statistics().silent == behind
    before = max(len(member.stored) for member in world.members)
    world.run_until(lambda: world.height() > before + 5, ms=30_000)
    assert not late.replica.statistics().silent
    assert_whole(world)
    assert votes_after_timeouts(world) == []


# Networks


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("delay_ms", [(1, 8), (4, 5), (20, 40), (20, 80)])
def test_a_certificate_that_is_faster_than_its_block_costs_no_round(count, delay_ms):
    world = World(count, seed=5, delay_ms=delay_ms)
    for number in range(80):
        world.submit(b"order %d" % number)
        world.run_for(50)
    for member in world.members:
        assert member.replica.statistics().rounds.timed_out == 0
        assert member.replica.statistics().passed_over == ()
    assert world.height() > 25
    world.assert_agreement()


def test_a_block_that_comes_after_its_certificate_is_taken_at_once():
    world = World(4, seed=10, timing=BRISK)
    world.run_for(500)
    world.drop = lambda _a, to, kind: to == 0 and kind in (Kind.PROPOSAL, "chain")
    replica = world.members[0].replica
    world.run_until(lambda: replica.statistics().leader is None, ms=1_000)
    wanted = replica._state.safety.high_qc.block
    proposals = [wire for _, kind, wire in world.signed if kind == Kind.PROPOSAL]
    (wire,) = {wire for wire in proposals if decode_block(wire, NETWORK).cid == wanted}
    replica.handle(Received(Kind.PROPOSAL, wire, 1), world.now)
    assert replica.statistics().leader is not None


def test_who_gives_up_a_round_that_is_over_is_shown_its_certificate_now_and_then():
    world = World(4, seed=11, timing=BRISK)
    world.run_for(500)
    old_qc = decode_block(world.members[0].stored[5], NETWORK).qc
    timeout = codec.encode(
        sign_timeout(world.keys[1], NETWORK, old_qc.round + 1, old_qc, None, voter=1)
    )
    replica = world.members[0].replica
    shown = Send(1, Kind.CERTIFICATE, codec.encode(replica._state.safety.high_qc))
    answers = [replica.handle(Received(Kind.TIMEOUT, timeout, 1), world.now) for _ in range(3)]
    assert [shown in effects for effects in answers] == [True, False, False]


def test_an_epoch_ends_after_75_certified_blocks_without_two_consecutive_rounds():
    timing = Timing(
        block_interval_ms=5,
        idle_interval_ms=5,
        report_interval_ms=10,
        report_idle_ms=25,
        round_timeout_ms=40,
        resend_ms=30,
    )
    world = World(4, seed=2, timing=timing, delay_ms=(1, 2), epoch_ms=1_000)
    plain, bad = world.send, [True]

    def send(sender, to, kind, payload):
        """Once the end block is certified, a proposal right after a certified round is lost."""
        if bad[0] and kind == Kind.PROPOSAL:
            block = decode_block(payload, NETWORK)
            if block.end is not None and block.tc is None:
                return
        plain(sender, to, kind, payload)

    world.send = send
    replica = world.members[1].replica
    world.run_until(lambda: len(replica.tail(replica.height)[0]) >= 75)
    assert {member.replica.statistics().epoch for member in world.members} == {1}
    bad[0] = False
    world.run_until(lambda: {m.replica.statistics().epoch for m in world.members} == {2})
    world.run_for(200)
    black_out(world)
    before = world.height()
    world.run_until(lambda: world.height() > before + 5)
    assert_whole(world)
