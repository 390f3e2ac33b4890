"""What a liar among the validators sends stops nobody, loses nothing and accuses no one else."""

import hashlib

import pytest
from nacl.bindings import (
    crypto_core_ed25519_scalar_add,
    crypto_core_ed25519_scalar_mul,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
)

from consensus import (
    SENDERS_FAULTS,
    ChainArrived,
    CheckpointCertificate,
    CheckpointReached,
    Commit,
    Identity,
    Kind,
    QuorumCertificate,
    Received,
    Replica,
    Slot,
    Tick,
    Timing,
    _tree,
    decode_block,
)
from consensus.block import make_block
from consensus.certificate import Vote
from consensus.checkpoint import CheckpointSignature, sign_checkpoint
from consensus.faults import BadBlock, BadChain, BadVoteSignature, DoppelgangerSeen, WrongEpoch
from consensus.report import LINK_DOMAIN, ReportLink, sign_link
from primitives import codec
from primitives.ed25519 import verify
from primitives.hashing import digest
from tests.consensus.test_agreement import contradictions
from tests.consensus.world import NETWORK, World

BRISK = Timing(idle_interval_ms=25)
TREE_ITEMS_MAX = 48  # a small bound in place of the real one
COPIES = 80  # more than it has room for
LIAR = 0


def signed_again(index, message, nonce):
    """Validator `index`'s signature of `message` with a nonce of its choice: valid as well."""
    seed = bytes([index + 1]) * 32
    secret = bytearray(hashlib.sha512(seed).digest()[:32])
    secret[0] &= 0b1111_1000
    secret[31] = secret[31] & 0b0011_1111 | 0b0100_0000
    scalar = crypto_core_ed25519_scalar_reduce(bytes(secret) + bytes(32))
    public = crypto_scalarmult_ed25519_base_noclamp(scalar)
    random = crypto_core_ed25519_scalar_reduce(hashlib.sha512(nonce).digest())
    point = crypto_scalarmult_ed25519_base_noclamp(random)
    hashed = hashlib.sha512(point + public + message).digest()
    product = crypto_core_ed25519_scalar_mul(crypto_core_ed25519_scalar_reduce(hashed), scalar)
    return point + crypto_core_ed25519_scalar_add(random, product)


def test_one_key_has_many_valid_signatures_of_one_message():
    key = World(1).keys[0]
    others = {signed_again(0, b"said once", bytes([nonce])) for nonce in range(3)}
    assert len(others | {key.sign(b"said once")}) == 4
    assert all(verify(key.public, b"said once", signature) for signature in others)


# Two signatures of one report link


def link_signed_twice(world, author):
    """The next link of a validator that has just died, in two encodings."""
    reporter = world.members[author].replica._state.reporter
    world.crash(author)
    sequence, previous = reporter.sequence + 1, reporter._previous
    key, seen = world.keys[author], b"seen"
    one = sign_link(key, NETWORK, 1, author, sequence, previous, [], world.now, seen)
    again = signed_again(author, digest(LINK_DOMAIN, NETWORK, one.body(NETWORK)), b"again")
    other = ReportLink(1, author, sequence, previous, [], one.time_ms, seen, again)
    return sequence, codec.encode(one), codec.encode(other)


def show(world, sender, kind, payload, to):
    world._later(1, to, Received(int(kind), payload, sender))


@pytest.mark.parametrize("order", ["everybody alike", "each another first"])
def test_one_link_signed_in_two_ways_is_no_contradiction_and_halts_nothing(order):
    world = World(4, seed=1, timing=BRISK)
    world.run_for(500)
    sequence, one, other = link_signed_twice(world, 3)
    world.run_for(20)
    for to in range(3):
        turned = order == "each another first" and to % 2
        for wire in (other, one) if turned else (one, other):
            show(world, 3, Kind.LINK, wire, to)
    world.run_for(15_000)
    assert world.members[0].replica._state.tree.tip.frontier[3].sequence == sequence
    for member in world.alive():
        assert member.replica.statistics().refused == {}
        assert member.replica.evidence == []
    before = world.height()
    world.run_until(lambda: world.height() > before + 10)
    world.assert_agreement()


# Many signatures of one proposal


def flood_with_signatures(world):
    """The liar's next proposal goes out signed in `COPIES` ways; then it falls silent."""
    plain, sent = world.send, []

    def send(sender, to, kind, payload):
        if sender != LIAR:
            plain(sender, to, kind, payload)
        elif kind == Kind.PROPOSAL and not sent:
            block = decode_block(payload, NETWORK)
            message = digest(Slot.PROPOSAL.domain, NETWORK, block.body())
            signatures = [signed_again(LIAR, message, b"%d" % n) for n in range(COPIES)]
            sent.extend([payload, *(payload[:-64] + signature for signature in signatures)])
            for receiver in (1, 2, 3):
                for wire in sent[receiver:]:  # each gets another one first
                    show(world, LIAR, Kind.PROPOSAL, wire, receiver)
        elif not sent:
            plain(sender, to, kind, payload)

    world.send = send
    world.run_until(lambda: sent)


def flooded(monkeypatch):
    monkeypatch.setattr(_tree, "BLOCKS_ITEMS_MAX", TREE_ITEMS_MAX)
    world = World(4, seed=11, timing=BRISK, delay_ms=(3, 4))
    world.run_for(500)
    flood_with_signatures(world)
    world.run_for(10)
    return world


def test_many_signatures_of_one_proposal_fill_no_tree(monkeypatch):
    world = flooded(monkeypatch)
    for member in world.members[1:]:
        assert any(isinstance(fault, BadBlock) for fault in member.faults), "they did arrive"
        assert member.replica.statistics().tree_blocks <= 6


def test_after_many_signatures_of_one_proposal_the_others_go_on(monkeypatch):
    world = flooded(monkeypatch)
    before = world.height()
    world.crash(LIAR)
    world.run_until(lambda: world.height() > before + 10, ms=30_000)
    world.assert_agreement()


# A leader that shows its block and its vote to some only


def show_selectively(world):
    """The liar keeps its block from the next leader and shows its own vote for it to one other;
    nobody sees it give up a round."""
    plain, shown_to = world.send, {}

    def send(sender, to, kind, payload):
        if sender == LIAR and kind == Kind.PROPOSAL:
            block = decode_block(payload, NETWORK)
            node = world.members[LIAR].replica._state.tree.get(block.cid)
            following = None
            if node is not None:
                following = world.committee.leader(block.round + 1, node.settled)
            shown_to[block.cid] = min({1, 2, 3} - {following})
            if to == following:
                return
        elif sender == LIAR and kind == Kind.VOTE:
            vote = codec.decode(Vote, payload, bytes_max=1_000)
            if shown_to.get(vote.block, to) != to:
                return
        elif sender == LIAR and kind in (Kind.TIMEOUT, Kind.TIMEOUT_CERTIFICATE):
            return
        plain(sender, to, kind, payload)

    world.send = send
    return shown_to


def run_busily(world, ms):
    """Orders come all the time; whoever was passed over at any instant."""
    passed = set()
    for number in range(ms // 50):
        world.submit(b"order %d" % number)
        world.run_for(50)
        for member in world.alive():
            passed.update(member.replica.statistics().passed_over)
    return passed


def test_a_leader_that_shows_itself_selectively_stalls_nobody():
    world = World(4, seed=1, delay_ms=(4, 5))
    shown = show_selectively(world)
    run_busily(world, 8_000)
    assert len(shown) > 20, "it led often"
    assert world.height() > 150
    assert all(member.replica.statistics().rounds.timed_out == 0 for member in world.members)
    world.assert_agreement()


def test_a_leader_that_shows_itself_selectively_gets_no_honest_leader_passed_over():
    world = World(4, seed=2, delay_ms=(4, 5))
    show_selectively(world)
    assert run_busily(world, 8_000) <= {LIAR}
    assert contradictions(world) == []


# Answers to somebody who catches up


def behind(seed):
    """A world, its validator 0 long gone and started anew outside it, and an honest answer."""
    world = World(4, seed=seed, timing=BRISK, delay_ms=(3, 4))
    world.run_for(500)
    world.crash(0)
    world.run_for(2_000)
    member = world.members[0]
    replica = Replica(world.genesis, Identity(world.keys[0], 0), lambda _: True, world.timing)
    for wire in member.stored:
        replica.replay(wire)
    replica.resume(member.journal, world.now)
    peer = world.members[1]
    tail, high_qc = peer.replica.tail(len(peer.stored))
    return world, replica, (*peer.stored[replica.height :], *tail), high_qc


def test_checkpoints_reached_survive_a_wrong_later_block_in_one_answer():
    world, replica, good, high_qc = behind(seed=5)
    top = decode_block(good[-1], NETWORK)
    forged = make_block(
        world.keys[2],
        NETWORK,
        round_=high_qc.round + 1,
        height=top.height + 1,
        author=1,
        time_ms=top.time_ms,
        qc=high_qc,
        tc=None,
        link_wires=[],
        checkpoint=None,
    )
    unfounded = QuorumCertificate(1, forged.round, forged.cid, [])
    with pytest.raises(BadVoteSignature):
        replica.handle(ChainArrived((*good, forged.wire), unfounded), world.now)
    effects = replica.handle(Tick(), world.now)
    newest = max(e.certificate.height for e in effects if isinstance(e, CheckpointReached))
    assert newest == replica.newest_checkpoint.height > 0
    assert [e.block.height for e in effects if isinstance(e, Commit)][-1] == replica.height


def test_a_chain_answer_with_siblings_is_refused_whole():
    world, replica, good, high_qc = behind(seed=6)
    first = decode_block(good[0], NETWORK)
    message = digest(Slot.PROPOSAL.domain, NETWORK, first.body())
    sibling = good[0][:-64] + signed_again(first.author, message, b"sibling")
    assert decode_block(sibling, NETWORK).parent == first.parent
    before = replica.statistics()
    with pytest.raises(BadChain):
        replica.handle(ChainArrived((sibling, *good), high_qc), world.now)
    after = replica.statistics()
    assert (after.tree_blocks, after.height) == (before.tree_blocks, before.height)


# Signatures of epochs that are over


def epochs(world):
    return {member.replica.statistics().epoch for member in world.members}


def in_epoch(number):
    """A world in that epoch; its validator 3 knows the epochs before from its journal only."""
    world = World(4, seed=5, timing=BRISK, delay_ms=(3, 4), epoch_ms=1_000)
    world.run_until(lambda: epochs(world) == {number})
    world.run_for(200)
    world.crash(3)
    world.start(3)
    world.run_for(200)
    assert epochs(world) == {number}
    return world


def with_checkpoint(world, epoch):
    """A block of the present epoch that carries a real certificate of `epoch`."""
    replica = world.members[0].replica
    tail, high_qc = replica.tail(0)
    top = decode_block(tail[-1], NETWORK)
    root = bytes(32)
    votes = [sign_checkpoint(world.keys[i], NETWORK, epoch, 1, root, i) for i in range(3)]
    signatures = [CheckpointSignature(vote.voter, vote.signature) for vote in votes]
    return make_block(
        world.keys[1],
        NETWORK,
        round_=high_qc.round + 1,
        height=top.height + 1,
        author=1,
        time_ms=top.time_ms,
        qc=high_qc,
        tc=None,
        link_wires=[],
        checkpoint=CheckpointCertificate(epoch, 1, root, signatures),
    )


@pytest.mark.parametrize(("age", "refused"), [(1, False), (2, True), (3, True)])
def test_checkpoints_of_older_epochs_are_judged_alike_by_old_and_restarted_replicas(age, refused):
    world = in_epoch(4)
    block = with_checkpoint(world, 4 - age)
    for member in world.members:
        assert isinstance(answer_to(member.replica, block, world.now), WrongEpoch) == refused


def answer_to(replica, block, now_ms):
    """The fault with which a replica refuses a block, if it does."""
    try:
        replica.handle(Received(Kind.PROPOSAL, block.wire, block.author), now_ms)
    except SENDERS_FAULTS as fault:
        return fault
    return None


def test_late_signatures_of_the_epoch_before_last_part_nobody_from_the_others():
    world = World(4, seed=5, timing=BRISK, delay_ms=(3, 4), epoch_ms=1_000)
    plain, held = world.send, []

    def send(sender, to, kind, payload):
        if kind == Kind.CHECKPOINT:
            held.append((sender, to, kind, payload))
        else:
            plain(sender, to, kind, payload)

    world.send = send
    world.run_until(lambda: epochs(world) == {2})
    late = tuple(held)
    world.run_until(lambda: epochs(world) == {4})
    world.crash(3)
    world.start(3)
    for item in late:
        plain(*item)
    before = len(world.members[3].stored)
    world.run_until(lambda: len(world.members[3].stored) > before + 20, ms=5_000)
    world.assert_agreement()


# Another process with the same key


def test_report_links_of_a_double_end_the_watch_with_a_fault():
    """Nothing else of the double reaches anybody: no vote, no proposal."""
    world = World(4, seed=64, timing=BRISK)
    world.drop = lambda sender, _to, kind: sender == 3 and kind != Kind.LINK
    world.run_for(1_000)
    newcomer = Replica(world.genesis, Identity(world.keys[3], 3), lambda _: True, world.timing)
    assert newcomer.resume({}, world.now, watch=True) == []
    with pytest.raises(DoppelgangerSeen):
        look_on(world, newcomer, ms=10_000)


def look_on(world, newcomer, ms):
    """Let a replica see what is final; only links can show that another one has its key."""
    for _ in range(ms // 500):
        peer = world.members[1]
        tail, high_qc = peer.replica.tail(len(peer.stored))
        answer = (*peer.stored[newcomer.height :], *tail)
        blocks = [decode_block(wire, NETWORK) for wire in answer]
        assert all(block.author != 3 for block in blocks)
        assert all(vote.voter != 3 for block in blocks for vote in block.qc.signatures)
        newcomer.handle(ChainArrived(answer, high_qc), world.now)
        world.run_for(500)
