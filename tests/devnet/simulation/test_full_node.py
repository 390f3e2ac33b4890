"""Whole validators, with real storage and a real exchange, on virtual time."""

import pytest

from consensus import Broadcast, FetchChain, FetchEnvelopes, LinkUp, Received, Send, Timing
from devnet.simulation.disk import SYNC_MS
from devnet.simulation.full_audit import imbalance
from devnet.simulation.full_fleet import START_MS, TRADERS, FullFleet
from devnet.simulation.node import DiskFault, FaultyDisk, ProcessEnded
from exchange import envelope_id
from node.mempool import Mempool

STEP_MS = 2
TIMING = Timing(10, 60, 5, 40, 200, 100)


class Cluster:
    """Nodes in lockstep: what one sends is there at the next step of the others."""

    def __init__(self, count=4, **options):
        self.fleet = FullFleet([1] * count, timing=TIMING, **options)
        self.nodes = [self.fleet.node(index) for index in range(count)]
        self.now = START_MS
        self.cut = set()
        self.flushes = 0
        for node in self.nodes:
            self.carry_out(node, node.start(self.now))

    def run_for(self, ms):
        for _ in range(ms // STEP_MS):
            self.now += STEP_MS
            for node in self.nodes:
                if node.replica is not None and node.wake_ms() <= self.now:
                    self.carry_out(node, node.step(self.now))

    def run_until(self, condition, ms=20_000):
        for _ in range(ms // 50):
            if condition():
                return
            self.run_for(50)
        assert condition(), "the condition was not reached in virtual time"

    def restart(self, node):
        self.carry_out(node, node.start(self.now))
        for other in self.nodes:
            if other is not node and other.replica is not None:
                other.post(LinkUp(node.index))
                node.post(LinkUp(other.index))
                other.submit(node.waiting())
                node.submit(other.waiting())

    def carry_out(self, node, out):
        self.flushes += out.fsync_ms > 0
        for other in self.nodes:
            if other is not node and not {node.index, other.index} & self.cut:
                other.submit(list(out.envelopes))
        for effect in out.effects:
            match effect:
                case Broadcast(kind, payload):
                    for other in self.nodes:
                        if other is not node:
                            self.send(node, other, kind, payload)
                case Send(to, kind, payload):
                    self.send(node, self.nodes[to], kind, payload)
                case FetchEnvelopes(ids, reporters):
                    for reporter in reporters:
                        node.submit(self.nodes[reporter].envelopes_of(ids))
                case FetchChain(peer, height):
                    answer = self.nodes[peer].chain_above(height)
                    if answer is not None:
                        node.post(answer)

    def send(self, node, other, kind, payload):
        if not {node.index, other.index} & self.cut:
            other.post(Received(int(kind), payload, node.index))

    def trade(self, first, last, to=0):
        for number in range(first, last):
            self.nodes[to].submit([self.fleet.envelope(number)[1]])

    def fund(self):
        """Deposits are credited and the traders' keys authorised."""
        accounts = TRADERS * 2
        self.run_until(lambda: all(self.credited(node) == accounts for node in self.nodes))
        self.trade(0, TRADERS)
        self.run_until(lambda: self.executed() >= TRADERS)

    def credited(self, node):
        return node.exchange.deposits.next_index

    def executed(self):
        return min(sum(map(len, node.history().batches)) for node in self.nodes)

    def heights(self):
        return [node.height for node in self.nodes]

    def assert_equal(self):
        histories = [node.history() for node in self.nodes]
        shortest = min(len(history.blocks) for history in histories)
        assert shortest > 0
        for history in histories:
            assert history.imbalance == ""
            assert history.blocks[:shortest] == histories[0].blocks[:shortest]
            assert history.batches[:shortest] == histories[0].batches[:shortest]
            assert history.roots[:shortest] == histories[0].roots[:shortest]


@pytest.fixture
def cluster():
    made = Cluster()
    made.fund()
    return made


def test_traders_trade_on_every_validator_alike(cluster):
    cluster.trade(TRADERS, 60)
    cluster.run_until(lambda: cluster.executed() == 60)
    cluster.assert_equal()
    node = cluster.nodes[2]
    assert node.stored.trades(0, limit=10), "orders matched"


def test_withdrawals_are_cut_into_equal_rollup_blocks_and_money_adds_up(cluster):
    cluster.trade(TRADERS, 60)
    cluster.run_until(lambda: all(node.rollups for node in cluster.nodes))
    first = cluster.nodes[0].rollups[0]
    assert all(node.rollups[0] == first for node in cluster.nodes)
    assert first.withdrawals
    cluster.assert_equal()


def test_money_that_comes_from_nowhere_is_noticed(cluster):
    exchange, deposits = cluster.nodes[1].exchange, cluster.fleet.full_genesis.deposits
    assert imbalance(exchange, deposits, [0, 0]) == ""
    assert "token 1" in imbalance(exchange, deposits[:-1], [0, 0])
    assert "token 0" in imbalance(exchange, deposits, [5, 0])
    exchange.accounts.by_index[1].wallets[0].free += 1
    assert "token 0" in imbalance(exchange, deposits, [0, 0])


def test_a_restart_brings_back_what_was_executed(cluster):
    cluster.trade(TRADERS, 20)
    cluster.run_until(lambda: cluster.executed() == 20)
    node = cluster.nodes[3]
    before = node.history()
    node.crash()
    assert node.replica is None
    assert node.history() == before
    cluster.run_for(300)
    cluster.restart(node)
    after = node.history()
    assert after.blocks == before.blocks
    assert after.roots == before.roots
    height = max(cluster.heights())
    cluster.run_until(lambda: min(cluster.heights()) > height)
    cluster.assert_equal()


def test_a_blackout_of_everybody_loses_no_envelope(cluster):
    cluster.trade(TRADERS, 12, to=1)
    cluster.run_for(STEP_MS)
    for node in cluster.nodes:
        node.crash()
    for node in cluster.nodes:
        cluster.restart(node)
    cluster.run_until(lambda: cluster.executed() == 12)
    cluster.assert_equal()


def test_who_was_away_fetches_blocks_and_the_envelopes_in_them(cluster):
    cluster.cut.add(3)
    cluster.trade(TRADERS, 30)
    cluster.run_until(lambda: sum(map(len, cluster.nodes[0].history().batches)) == 30)
    cluster.cut.clear()
    cluster.run_until(lambda: cluster.executed() == 30)
    cluster.assert_equal()


def test_executed_envelopes_are_served_out_of_stored_batches(cluster):
    name, wire = cluster.fleet.envelope(1)
    node = cluster.nodes[0]
    assert node.envelopes_of((name,)) == [wire]
    node._process.mempool = Mempool()
    assert node.envelopes_of((name, bytes(32))) == [wire]
    assert node.waiting() == []


@pytest.mark.parametrize("kind", ["lost", "torn", "behind"])
def test_a_power_failure_in_a_write_ends_the_process_and_it_comes_back(cluster, kind):
    node = cluster.nodes[2]
    assert isinstance(node, FaultyDisk)
    node.disk_fault(DiskFault(kind, 500))
    with pytest.raises(ProcessEnded):
        cluster.run_for(2_000)
    assert node.replica is None
    node.disk_fault(DiskFault("none"))
    cluster.restart(node)
    cluster.trade(TRADERS, 16)
    cluster.run_until(lambda: cluster.executed() == 16)
    cluster.assert_equal()


def test_a_full_disk_ends_the_process_until_there_is_room(cluster):
    node = cluster.nodes[1]
    node.disk_fault(DiskFault("full"))
    with pytest.raises(ProcessEnded):
        cluster.run_for(5_000)
    assert node.replica is None
    node.disk_fault(DiskFault("none"))
    cluster.restart(node)
    height = max(cluster.heights())
    cluster.run_until(lambda: min(cluster.heights()) > height)
    cluster.assert_equal()


def test_a_slow_disk_makes_flushes_long(cluster):
    node = cluster.nodes[0]
    node.disk_fault(DiskFault("slow", 300))
    node.submit([cluster.fleet.envelope(TRADERS)[1]])
    assert node.step(cluster.now).fsync_ms >= SYNC_MS[0] + 300


def test_an_envelope_leaves_only_after_it_is_durable(cluster):
    node = cluster.nodes[0]
    _, wire = cluster.fleet.envelope(TRADERS)
    node.submit([wire])
    out = node.step(cluster.now)
    assert out.envelopes == (wire,)
    node.crash()
    node.start(cluster.now)
    assert node.waiting()[-1:] == [wire]


def test_forgeries_are_dropped(cluster):
    node = cluster.nodes[0]
    before = node.waiting()
    node.submit([cluster.fleet.forgery(5), b"nonsense"])
    assert node.waiting() == before


def test_nonsense_that_was_asked_for_is_taken_because_a_batch_holds_it(cluster):
    node = cluster.nodes[0]
    wire = b"nobody could sign this"
    name = envelope_id(wire, cluster.fleet.genesis.committee.network)
    node.submit([wire])
    assert node.envelopes_of((name,)) == []
    node._want(node._process, (name,))
    node.submit([wire])
    assert node.envelopes_of((name,)) == [wire]


def test_epochs_end_and_the_network_goes_on():
    made = Cluster(epoch_ms=300)
    made.fund()
    made.trade(TRADERS, 24)
    made.run_until(lambda: made.executed() == 24)
    made.run_for(800)
    epochs = [node.replica.statistics().epoch for node in made.nodes]
    assert min(epochs) >= 3
    made.nodes[0].crash()
    made.restart(made.nodes[0])
    height = max(made.heights())
    made.run_until(lambda: min(made.heights()) > height)
    made.assert_equal()


@pytest.mark.parametrize("options", [{"templates": False}, {"signatures": "ed25519"}])
def test_other_beginnings_and_signatures_give_the_same_trades(options):
    made = Cluster(**options)
    made.fund()
    made.trade(TRADERS, 20)
    made.run_until(lambda: made.executed() == 20)
    made.assert_equal()
