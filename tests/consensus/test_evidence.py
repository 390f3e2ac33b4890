"""Who signs twice is proved guilty in a block, once, and nobody else is."""

from contextlib import suppress

import pytest

from consensus import Kind
from consensus.block import decode_block
from consensus.certificate import sign_vote
from consensus.evidence import Evidence, Said, Slot, check_evidence
from consensus.faults import (
    BadBlock,
    BadEvidence,
    BadVoteSignature,
    ConsensusFault,
    Equivocation,
    UnknownValidator,
)
from consensus.report import sign_link
from primitives import codec
from tests.consensus.test_bad_messages import give, newest, proposal, quorum
from tests.consensus.world import GENESIS_CID, NETWORK, World

OTHER_CID = GENESIS_CID[:-1] + bytes([GENESIS_CID[-1] ^ 1])


def two_votes(world, signer=1, to=0, ahead=2):
    """Validator `signer` votes for two blocks in one round, and one node sees both."""
    round_ = world.members[to].replica.statistics().round + ahead
    for block in (GENESIS_CID, OTHER_CID):
        vote = sign_vote(world.keys[signer], NETWORK, 1, round_, block, signer)
        try:
            give(world, Kind.VOTE, vote, sender=signer, to=to)
        except Equivocation as fault:
            return fault.evidence
    raise AssertionError("nobody noticed")


@pytest.fixture
def world():
    made = World(5, seed=51)
    made.run_for(2_000)
    return made


def test_a_contradiction_ends_in_a_block_once_and_everybody_knows(world):
    evidence = two_votes(world)
    two_votes(world, ahead=3)
    world.run_for(10_000)
    chain = [decode_block(wire, NETWORK) for wire in world.members[2].stored]
    found = [item for block in chain for item in block.evidence]
    assert found == [evidence]
    assert all(member.replica.statistics().accused == 1 for member in world.members)
    assert all(member.replica.accused == (evidence.signer,) for member in world.members)


def test_a_vote_that_only_a_certificate_shows_is_compared_with_the_one_seen(world):
    """Each of two nodes sees one of the votes; a block's certificate brings them together."""
    _, high_qc = newest(world)
    round_ = high_qc.round + 1
    replica = world.members[0].replica
    block = proposal(world)
    lie = sign_vote(world.keys[1], NETWORK, 1, round_, OTHER_CID, 1)
    give(world, Kind.VOTE, lie, sender=1)
    assert replica.evidence == []
    following = proposal(
        world,
        round_=round_ + 1,
        height=block.height + 1,
        qc=quorum(world, round_, block.cid),
        author=0,
    )
    give(world, Kind.PROPOSAL, block.wire)
    with suppress(ConsensusFault):  # the rest of the block may be wrong
        give(world, Kind.PROPOSAL, following.wire)
    assert [(item.signer, item.number) for item in replica.evidence] == [(1, round_)]


def test_evidence_that_proves_nothing_is_refused(world):
    good = two_votes(world)
    committee = world.committee
    check_evidence(good, committee)
    swapped = Evidence(good.slot, good.epoch, good.number, good.signer, good.second, good.first)
    same = Evidence(good.slot, good.epoch, good.number, good.signer, good.first, good.first)
    later = Evidence(good.slot, 2, good.number, good.signer, good.first, good.second)
    for wrong in (swapped, same, later):
        with pytest.raises(BadEvidence):
            check_evidence(wrong, committee)
    for field in ("slot", "number", "signer"):
        values = {"slot": int(Slot.REPORT), "number": good.number + 1, "signer": 2}
        fields = {name: getattr(good, name) for name in good.__struct_fields__}
        with pytest.raises(BadVoteSignature):
            check_evidence(Evidence(**(fields | {field: values[field]})), committee)
    stranger = Evidence(good.slot, 1, good.number, 31, good.first, good.second)
    with pytest.raises(UnknownValidator):
        check_evidence(stranger, committee)


def test_a_block_with_false_or_repeated_evidence_is_refused(world):
    good = two_votes(world)
    forged = Evidence(
        good.slot, good.epoch, good.number, 3, good.first, Said(good.second.content, bytes(64))
    )
    with pytest.raises(BadVoteSignature):
        give(world, Kind.PROPOSAL, proposal(world, evidence=[forged]).wire)
    with pytest.raises(BadBlock):
        give(world, Kind.PROPOSAL, proposal(world, evidence=[good, good]).wire)


@pytest.mark.parametrize("slot", list(Slot))
def test_a_proof_is_small_whatever_it_is_about(slot):
    side = Said(bytes(36), bytes(64))
    evidence = Evidence(int(slot), 2**62, 2**62, 31, side, side)
    assert len(codec.encode(evidence)) < 300


def test_a_link_that_only_a_block_shows_is_compared_with_the_one_seen(world):
    """Each side is told another link; a block brings the two together."""
    state = world.members[0].replica._state
    tip = state.tree.get(newest(world)[1].block).frontier[2]
    seen, shown = (
        sign_link(world.keys[2], NETWORK, 1, 2, tip.sequence + 1, tip.hash, [], time, b"")
        for time in (tip.time_ms, tip.time_ms + 1)
    )
    if not state.links.of(2, tip.sequence + 1, 1):
        give(world, Kind.LINK, seen, sender=2)
    with suppress(ConsensusFault):  # whatever else is wrong with the block
        give(world, Kind.PROPOSAL, proposal(world, link_wires=[codec.encode(shown)]).wire)
    (evidence,) = world.members[0].replica.evidence
    assert (evidence.slot, evidence.signer) == (Slot.REPORT, 2)
    check_evidence(evidence, world.committee)
