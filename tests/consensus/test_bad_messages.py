"""Whatever other validators send: it costs them, and the replica goes on unharmed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus import (
    SENDERS_FAULTS,
    ChainArrived,
    Commit,
    Executed,
    FetchChain,
    Kind,
    LinkUp,
    Received,
    Slot,
    Tick,
)
from consensus._collectors import ROUNDS_AHEAD_MAX
from consensus.block import decode_block, make_block
from consensus.certificate import (
    QuorumCertificate,
    TimeoutCertificate,
    TimeoutSignature,
    Vote,
    VoteSignature,
    sign_timeout,
    sign_vote,
)
from consensus.checkpoint import sign_checkpoint
from consensus.evidence import check_evidence
from consensus.faults import (
    BadBlock,
    BadCertificate,
    BadChain,
    BadReport,
    BadVoteSignature,
    ConsensusFault,
    Equivocation,
    JournalContradiction,
    NotTheLeader,
    RootMismatch,
    RoundTooFar,
    UnknownValidator,
    WrongEpoch,
)
from consensus.report import sign_link
from consensus.sequencer import BATCH_ITEMS_MAX
from primitives import codec
from primitives.codec import Malformed, Oversized
from tests.consensus.world import GENESIS_CID, NETWORK, World


@pytest.fixture
def world():
    made = World(seed=5)
    made.run_for(3_000)
    return made


def quorum(world, round_, block, voters=(0, 1, 2, 3)):
    """A real certificate, made by whoever holds all keys."""
    votes = [sign_vote(world.keys[i], NETWORK, 1, round_, block, i) for i in voters]
    return QuorumCertificate(1, round_, block, [VoteSignature(v.voter, v.signature) for v in votes])


def give(world, kind, record, sender=1, to=0):
    payload = record if isinstance(record, bytes) else codec.encode(record)
    return world.members[to].replica.handle(Received(kind, payload, sender), world.now)


def newest(world):
    replica = world.members[0].replica
    tail, high_qc = replica.tail(0)
    return decode_block(tail[-1], NETWORK), high_qc


def leader(world, round_):
    replica = world.members[0].replica
    parent = replica._state.tree.get(replica.tail(0)[1].block)
    return world.committee.leader(round_, parent.settled)


def proposal(world, author=None, **changes):
    """A block for the next round by its leader, with changes."""
    parent, high_qc = newest(world)
    round_ = changes.pop("round_", high_qc.round + 1)
    author = leader(world, round_) if author is None else author
    fields = {
        "round_": round_,
        "height": parent.height + 1,
        "author": author,
        "time_ms": parent.time_ms,
        "qc": high_qc,
        "tc": None,
        "link_wires": [],
        "checkpoint": None,
    }
    return make_block(world.keys[author], NETWORK, **(fields | changes))


@given(st.sampled_from(list(Kind)), st.binary(max_size=300))
@settings(max_examples=200)
def test_garbage_of_any_kind_raises_only_a_senders_fault(kind, payload):
    world = World(seed=1)
    with pytest.raises(SENDERS_FAULTS):
        give(world, kind, payload)
    assert sum(world.members[0].replica.statistics().refused.values()) == 1


def test_an_unknown_kind_and_oversized_messages_are_refused(world):
    with pytest.raises(ConsensusFault):
        give(world, 99, b"")
    with pytest.raises(Oversized):
        give(world, Kind.VOTE, bytes(1_000))
    with pytest.raises(Malformed):
        give(world, Kind.LINKS_WANTED, b"\xff")


def test_votes_of_strangers_forgers_and_other_epochs_are_refused(world):
    _, high_qc = newest(world)
    good = sign_vote(world.keys[1], NETWORK, 1, high_qc.round + 1, GENESIS_CID, 1)
    with pytest.raises(UnknownValidator):
        give(world, Kind.VOTE, Vote(1, good.round, good.block, 9, good.signature))
    with pytest.raises(BadVoteSignature):
        give(world, Kind.VOTE, Vote(1, good.round, good.block, 2, good.signature))
    ahead = give(world, Kind.VOTE, sign_vote(world.keys[1], NETWORK, 2, good.round, good.block, 1))
    assert FetchChain(1, world.members[0].replica.statistics().height) in ahead
    far = high_qc.round + ROUNDS_AHEAD_MAX + 5
    with pytest.raises(RoundTooFar):
        give(world, Kind.VOTE, sign_vote(world.keys[1], NETWORK, 1, far, good.block, 1))


def test_two_votes_in_one_round_are_evidence(world):
    _, high_qc = newest(world)
    round_ = high_qc.round + 3
    first = sign_vote(world.keys[1], NETWORK, 1, round_, GENESIS_CID, 1)
    other = sign_vote(world.keys[1], NETWORK, 1, round_, high_qc.block, 1)
    give(world, Kind.VOTE, first)
    with pytest.raises(Equivocation):
        give(world, Kind.VOTE, other)
    replica = world.members[0].replica
    (evidence,) = replica.evidence
    assert (evidence.slot, evidence.number, evidence.signer) == (Slot.VOTE, round_, 1)
    check_evidence(evidence, world.committee)


def test_only_the_leader_proposes(world):
    block = proposal(world)
    wrong = (block.author + 1) % 5
    with pytest.raises(NotTheLeader):
        give(world, Kind.PROPOSAL, proposal(world, author=wrong).wire)


@pytest.mark.parametrize("wrong", ["height", "time_ms", "round_", "link_wires"])
def test_a_block_that_breaks_a_rule_is_refused(world, wrong):
    parent, high_qc = newest(world)
    changes = {
        "height": parent.height + 2,
        "time_ms": parent.time_ms + 1,
        "round_": high_qc.round + 2,
        "link_wires": [b"not a link"],
    }
    with pytest.raises((BadBlock, Malformed)):
        give(world, Kind.PROPOSAL, proposal(world, **{wrong: changes[wrong]}).wire)


def test_a_forged_block_is_refused(world):
    block = proposal(world)
    wire = bytearray(block.wire)
    wire[-1] ^= 1
    with pytest.raises(BadVoteSignature):
        give(world, Kind.PROPOSAL, bytes(wire))


@pytest.mark.parametrize("voters", [(), (0, 1, 2), (0, 0, 1, 2, 3), (3, 2, 1, 0)])
def test_a_certificate_needs_distinct_voters_in_order_and_a_quorum(world, voters):
    _parent, high_qc = newest(world)
    qc = quorum(world, high_qc.round, high_qc.block, voters)
    with pytest.raises(BadCertificate):
        give(world, Kind.PROPOSAL, proposal(world, qc=qc).wire)


def test_a_certificate_moved_to_another_round_is_refused(world):
    _, high_qc = newest(world)
    moved = QuorumCertificate(1, high_qc.round + 1, high_qc.block, high_qc.signatures)
    with pytest.raises(BadVoteSignature):
        give(world, Kind.PROPOSAL, proposal(world, qc=moved, round_=high_qc.round + 2).wire)


def test_a_timeout_certificate_that_hides_the_highest_certificate_is_refused(world):
    _, high_qc = newest(world)
    round_ = high_qc.round + 1
    timeouts = [sign_timeout(world.keys[i], NETWORK, round_, high_qc, None, i) for i in range(4)]
    signatures = [TimeoutSignature(t.voter, t.high_qc.round, t.signature) for t in timeouts]
    older = quorum(world, 1, GENESIS_CID)
    with pytest.raises(BadCertificate):
        give(world, Kind.TIMEOUT_CERTIFICATE, TimeoutCertificate(1, round_, signatures, older))
    give(world, Kind.TIMEOUT_CERTIFICATE, TimeoutCertificate(1, round_, signatures, high_qc))
    assert world.members[0].replica.statistics().round == round_ + 1


def test_links_that_do_not_follow_are_refused_in_a_block(world):
    link = sign_link(world.keys[2], NETWORK, 1, 2, 900, bytes(32), [], 1, b"")
    with pytest.raises(BadReport):
        give(world, Kind.PROPOSAL, proposal(world, link_wires=[codec.encode(link)]).wire)


def test_two_links_with_one_sequence_are_evidence(world):
    far = world.members[0].replica.statistics().height + 50
    one, two = (
        codec.encode(sign_link(world.keys[2], NETWORK, 1, 2, far, bytes(32), [], time, b""))
        for time in (1, 2)
    )
    give(world, Kind.LINK, one, sender=2)
    with pytest.raises(Equivocation):
        give(world, Kind.LINK, two, sender=2)
    too_far = sign_link(world.keys[2], NETWORK, 1, 2, 10**9, bytes(32), [], 1, b"")
    with pytest.raises(BadReport):
        give(world, Kind.LINK, too_far, sender=2)


def test_a_wrong_proposal_does_not_swallow_what_its_certificate_commits(world):
    """The certificate in it is real; the block around it is not."""
    replica = world.members[0].replica
    first = proposal(world)
    give(world, Kind.PROPOSAL, first.wire)
    height = replica.statistics().height
    qc = quorum(world, first.round, first.cid)
    bad = make_block(
        world.keys[leader(world, first.round + 1)],
        NETWORK,
        round_=first.round + 1,
        height=first.height + 7,
        author=leader(world, first.round + 1),
        time_ms=first.time_ms,
        qc=qc,
        tc=None,
        link_wires=[],
        checkpoint=None,
    )
    with pytest.raises(BadBlock):
        give(world, Kind.PROPOSAL, bad.wire)
    effects = replica.handle(Tick(), world.now)
    commits = [effect for effect in effects if isinstance(effect, Commit)]
    assert [commit.block.height for commit in commits] == [height + 1]


def test_a_chain_with_a_hole_is_refused(world):
    fresh = World(seed=6)
    fresh.crash(0)
    fresh.members[0].journal.clear()
    fresh.start(0)
    stored = world.members[0].stored
    _, high_qc = newest(world)
    with pytest.raises(BadChain):
        fresh.members[0].replica.handle(ChainArrived(tuple(stored[3:5]), high_qc), fresh.now)


def test_two_roots_at_one_height_are_evidence_and_another_root_than_ours_stops_us(world):
    replica = world.members[0].replica
    height = replica.statistics().height + 100
    first = sign_checkpoint(world.keys[1], NETWORK, 1, height, b"\x01" * 32, 1)
    give(world, Kind.CHECKPOINT, first)
    with pytest.raises(Equivocation):
        give(
            world,
            Kind.CHECKPOINT,
            sign_checkpoint(world.keys[1], NETWORK, 1, height, b"\x02" * 32, 1),
        )
    replica.handle(Executed(height, b"\x09" * 32, False), world.now)
    for voter in (2, 3):
        vote = sign_checkpoint(world.keys[voter], NETWORK, 1, height, b"\x01" * 32, voter)
        give(world, Kind.CHECKPOINT, vote)
    last = sign_checkpoint(world.keys[4], NETWORK, 1, height, b"\x01" * 32, 4)
    with pytest.raises(RootMismatch):
        give(world, Kind.CHECKPOINT, last)


def test_a_journal_of_another_validator_is_refused(world):
    donor = world.members[1].journal
    world.crash(0)
    world.members[0].journal = {"safety": {b"": b"nonsense"}}
    with pytest.raises(JournalContradiction):
        world.start(0)
    world.members[0].journal = {"report": dict(donor["report"])}
    world.members[0].stored = []
    wire = next(iter(donor["report"].values()))
    world.members[0].journal = {"report": {b"x": wire[:-1] + bytes([wire[-1] ^ 1])}}
    with pytest.raises(JournalContradiction):
        world.start(0)


def test_stored_blocks_must_follow_each_other(world):
    world.crash(0)
    del world.members[0].stored[2]
    with pytest.raises(JournalContradiction):
        world.start(0)


def test_votes_for_checkpoints_of_far_heights_push_nothing_out(world):
    replica = world.members[0].replica
    tip = replica.statistics().height
    with pytest.raises(RoundTooFar):
        give(
            world,
            Kind.CHECKPOINT,
            sign_checkpoint(world.keys[1], NETWORK, 1, tip + 10_000, bytes(32), 1),
        )
    for ahead in range(250):
        vote = sign_checkpoint(world.keys[1], NETWORK, 1, tip + ahead, bytes(32), 1)
        try:
            give(world, Kind.CHECKPOINT, vote)
        except Equivocation:
            continue
    world.run_for(5_000)
    assert replica.statistics().checkpoint_height > tip, "honest votes still count"


def test_a_leader_that_proposes_twice_in_a_round_leaves_evidence_and_fills_nothing(world):
    replica = world.members[0].replica
    first = proposal(world)
    give(world, Kind.PROPOSAL, first.wire)
    blocks = replica.statistics().tree_blocks
    link = sign_link(
        world.keys[first.author], NETWORK, 1, first.author, 10**6, bytes(32), [], 1, b""
    )
    second = proposal(world, round_=first.round, link_wires=[codec.encode(link)])
    with pytest.raises((Equivocation, BadBlock, BadReport)) as caught:
        give(world, Kind.PROPOSAL, second.wire)
    assert caught.type is Equivocation
    assert replica.statistics().tree_blocks == blocks
    assert len(replica.evidence) == 1


def test_an_old_block_sent_again_and_again_delays_no_proposal():
    world = World(seed=21)
    world.run_for(2_000)
    author = world.committee.leader(2, world.committee.leaders.first())
    old = make_block(
        world.keys[author],
        NETWORK,
        round_=2,
        height=10**12,
        author=author,
        time_ms=0,
        qc=quorum(world, 1, decode_block(world.members[0].stored[0], NETWORK).cid),
        tc=None,
        link_wires=[],
        checkpoint=None,
    )
    height = world.height()
    for _ in range(200):
        for member in world.members:
            member.replica.handle(Received(Kind.PROPOSAL, old.wire, 4), world.now)
        world.run_for(20)
    assert world.height() > height + 3


def test_a_flood_of_reports_by_one_author_crowds_nobody_out():
    world = World(seed=22)
    flood = [
        [bytes([1, n]) + bytes(22) + i.to_bytes(8, "big") for i in range(2_000)] for n in range(20)
    ]
    for items in flood:
        world.members[0].replica._state.reporter.see(tuple(items))
    names = [world.submit(b"honest %d" % number) for number in range(10)]
    world.run_until(lambda: all(set(names) <= set(seq) for seq in world.sequences()), ms=20_000)


@pytest.mark.parametrize(("count", "liars"), [(4, 1), (7, 2)])
def test_liars_who_report_what_nobody_has_stop_no_votes(count, liars):
    world = World(count, seed=23)
    for index in range(liars):
        world.members[index].replica._state.reporter.see((b"\xaa" * 32,))
    world.run_for(8_000)
    assert world.height() > 5


def test_a_gap_in_reports_is_asked_for_at_a_bounded_rate():
    world = World(seed=24)
    world.run_for(500)
    side = {0}
    world.drop = lambda a, b, _kind: (a in side) != (b in side)
    for number in range(150):
        world.submit(b"steady %d" % number)
        world.run_for(20)
    world.drop = lambda _a, _b, _kind: False
    world.signed.clear()
    world.run_for(2_000)
    asked = sum(kind == Kind.LINKS_WANTED for _, kind, _ in world.signed)
    assert asked < 200
    world.run_until(lambda: min(map(len, world.sequences())) == 150)
    world.assert_agreement()


def test_a_batch_is_bounded_and_the_rest_comes_with_the_next_block():
    world = World(seed=25)
    names = {world.submit(b"many %d" % number) for number in range(1_200)}
    world.run_until(lambda: min(map(len, world.sequences())) == 1_200)
    world.assert_agreement()
    assert set(world.sequences()[0]) == names
    assert max(len(batch) for batch in world.members[0].batches) == BATCH_ITEMS_MAX


def test_checkpoint_signatures_are_repeated_to_who_comes_back():
    world = World(seed=26)
    world.run_for(1_000)
    world.drop = lambda _a, _b, kind: kind == Kind.CHECKPOINT
    world.run_for(1_500)
    lost = world.height()
    world.drop = lambda _a, _b, _kind: False
    for index in range(5):
        for other in range(5):
            if index != other:
                world._later(1, index, LinkUp(other))
    world.run_for(500)
    certified = {c.height for member in world.members for c in member.checkpoints}
    assert lost in certified or lost - 1 in certified


def test_what_is_signed_for_an_epoch_that_nobody_knows_is_refused(world):
    link = sign_link(world.keys[2], NETWORK, 7, 2, 1, bytes(32), [], 1, b"")
    with pytest.raises(WrongEpoch):
        give(world, Kind.PROPOSAL, proposal(world, link_wires=[codec.encode(link)]).wire)
