"""Signing rollup blocks: once per number, again after a restart, never for another root."""

import pytest

from exchange import Rollup
from node.anchor import ROLLUP_KIND, Anchor
from node.genesis import agreement
from node.keys import create_keys
from node.wire import RollupSignature
from primitives import codec
from primitives.faults import LocalFault
from primitives.secp256k1 import checksum_address
from settlement import Chain, Deployment, TokenDeployment, recover_rollup_signer, sign_rollup
from storage import Journal, SlotTaken
from tests.genesis import make_genesis

ROOT = b"\x07" * 32


class Posts:
    """What a network would be asked to send."""

    def __init__(self):
        self.sent = []

    def broadcast(self, kind, payload):
        self.sent.append((None, kind, payload))

    def send(self, to, kind, payload):
        self.sent.append((to, kind, payload))


@pytest.fixture
def house(tmp_path):
    keys = [create_keys() for _ in range(4)]
    genesis = make_genesis(keys=keys)
    journals = []

    def open_anchor(index=0):
        journal = Journal.open(
            tmp_path / f"{index}.db",
            keys[index].signing().public,
            genesis.network_id(),
            once=[ROLLUP_KIND],
        )
        journals.append(journal)
        tokens = [TokenDeployment("XOM", checksum_address(bytes(20)), 8, 1)]
        deployment = Deployment(1, checksum_address(genesis.vault), tokens, 0)
        anchor = Anchor(
            Chain(["http://127.0.0.1:9"], deployment),
            genesis,
            agreement(genesis).committee,
            index=index,
            secret=keys[index].evm,
            journal=journal,
            poll_ms=1_000,
            next_deposit=lambda: 0,
            on_committed=lambda *_: None,
        )
        anchor.network = Posts()
        return anchor, journal

    yield keys, open_anchor
    for journal in journals:
        journal.close()


def rollup(number=1, height=50):
    return Rollup(number, height, [], b"\x01" * 32, 0, bytes(32))


def certificate(height=50, root=ROOT):
    class Certificate:
        pass

    made = Certificate()
    made.height, made.root = height, root
    return made


def signatures_sent(anchor):
    return [codec.decode(RollupSignature, item[2], bytes_max=500) for item in anchor.network.sent]


def test_a_rollup_is_signed_when_its_height_is_certified_in_either_order(house):
    keys, open_anchor = house
    first, _ = open_anchor(0)
    first.cut(rollup(), ROOT)
    assert first.network.sent == []
    first.checkpoint(certificate())
    second, _ = open_anchor(1)
    second.checkpoint(certificate())
    second.cut(rollup(), ROOT)
    for anchor, key in ((first, keys[0]), (second, keys[1])):
        (signature,) = signatures_sent(anchor)
        statement = anchor._outstanding[1].statement
        assert recover_rollup_signer(statement, signature.signature) == key.evm_key().address


def test_a_restart_signs_again_what_the_journal_holds_and_nothing_else(house):
    _, open_anchor = house
    anchor, journal = open_anchor(0)
    anchor.cut(rollup(), ROOT)
    anchor.checkpoint(certificate())
    signed = journal.read(ROLLUP_KIND)
    journal.close()

    again, journal = open_anchor(0)
    again.cut(rollup(), ROOT)
    again.cut(rollup(2, 60), ROOT)
    assert again.uncertified() == [(50, ROOT), (60, ROOT)]
    again.resume(journal.read(ROLLUP_KIND))
    assert journal.read(ROLLUP_KIND) == signed
    assert [item.number for item in signatures_sent(again)] == [1]
    assert again.uncertified() == [(60, ROOT)]
    again.resend(3)
    assert again.network.sent[-1][0] == 3


def test_another_statement_for_a_signed_number_stops_the_node(house):
    _, open_anchor = house
    anchor, journal = open_anchor(0)
    anchor.cut(rollup(), ROOT)
    anchor.checkpoint(certificate())
    journal.close()
    again, _ = open_anchor(0)
    again.cut(rollup(), b"\x08" * 32)
    with pytest.raises(SlotTaken):
        again.checkpoint(certificate(root=b"\x08" * 32))


def test_a_checkpoint_that_contradicts_the_own_root_stops_the_node(house):
    _, open_anchor = house
    anchor, _ = open_anchor(0)
    anchor.cut(rollup(), ROOT)
    with pytest.raises(LocalFault):
        anchor.checkpoint(certificate(root=b"\x09" * 32))


def test_forged_and_borrowed_signatures_are_refused_and_counted(house):
    keys, open_anchor = house
    anchor, _ = open_anchor(0)
    anchor.cut(rollup(), ROOT)
    statement = anchor._outstanding[1].statement
    good = sign_rollup(keys[2].evm, statement)
    for sender, signature in ((1, good), (2, good[:-1] + b"\x00"), (2, bytes(65))):
        wire = codec.encode(RollupSignature(1, statement.digest(), signature))
        anchor.on_signature(wire, sender)
    assert anchor.statistics().signatures_refused == 3
    assert anchor._outstanding[1].signatures == {}
    anchor.on_signature(codec.encode(RollupSignature(1, statement.digest(), good)), 2)
    assert set(anchor._outstanding[1].signatures) == {2}


def test_signatures_that_come_early_wait_for_the_cut(house):
    keys, open_anchor = house
    anchor, _ = open_anchor(0)
    donor, _ = open_anchor(1)
    donor.cut(rollup(), ROOT)
    statement = donor._outstanding[1].statement
    wire = codec.encode(RollupSignature(1, statement.digest(), sign_rollup(keys[1].evm, statement)))
    anchor.on_signature(wire, 1)
    anchor.cut(rollup(), ROOT)
    assert set(anchor._outstanding[1].signatures) == {1}


def test_a_reorganisation_brings_rollups_back(house):
    _, open_anchor = house
    anchor, _ = open_anchor(0)
    for number in (1, 2):
        anchor.cut(rollup(number, 50 + number), ROOT)
        anchor.checkpoint(certificate(50 + number))
    anchor._note_committed(2, 52, None)
    assert anchor.committed == 2
    assert anchor.statistics().outstanding == 0
    anchor._reopen(1)
    assert anchor.committed == 1
    assert set(anchor._outstanding) == {2}
    assert anchor._outstanding[2].signatures
