"""Twins: no scenario breaks agreement, and replicas that are broken on purpose are caught."""

import itertools
from collections import Counter

import pytest
from typer.testing import CliRunner

from cli.devnet import app
from consensus import Replica
from consensus._collectors import TimeoutCollector
from consensus._safety import Safety
from consensus._tree import BlockTree
from consensus.certificate import TimeoutCertificate, TimeoutSignature, check_quorum
from consensus.committee import Committee
from devnet.faults import NoSuchScenario, TwinsFailed, TwinsFileUnreadable
from devnet.simulation.twins import (
    Plan,
    describe,
    guarded,
    load_failure,
    sweep,
    write_failure,
)
from devnet.simulation.twins_space import Move, Shape, Space, Votes
from devnet.simulation.twins_world import Case, play

# The space


@pytest.mark.parametrize(("validators", "twinned"), [(4, 1), (5, 1), (7, 2)])
def test_a_third_runs_twice_and_every_script_is_whole(validators, twinned):
    space = Space(validators, 5)
    assert space.shape.twinned == twinned
    for place in range(50):
        script = space.script(space.shuffled_at(3, place))
        assert len(script) == 5
        for move in script:
            assert 0 <= move.leader < validators
            slots = [slot for connected in move.sets for slot in connected]
            assert sorted(slots) == list(range(validators + twinned))
            assert any(map(space.shape.is_quorum, move.sets))


def test_partitions_are_all_there_once():
    """Against counting them one by one: 5 replicas, at most 3 sets, a quorum of 3 keys."""
    shape = Shape(4)
    wanted = set()
    for labels in itertools.product(range(3), repeat=shape.slots):
        sets = [tuple(s for s in range(5) if labels[s] == label) for label in range(3)]
        sets = [connected for connected in sets if connected]
        if any(shape.is_quorum(connected) for connected in sets):
            wanted.add(frozenset(sets))
    space = Space(4, 2)
    seen = [frozenset(space.script(index)[1].sets) for index in range(space.size)]
    assert set(seen) == wanted
    assert set(Counter(seen).values()) == {space.size // len(wanted)}


def test_a_set_of_twins_is_no_quorum():
    shape = Shape(7)
    assert not shape.is_quorum((0, 1, 2, 3, 7, 8))
    assert shape.is_quorum((0, 1, 2, 3, 4))


def test_every_index_is_another_scenario():
    space = Space(4, 2)
    scripts = {space.script(index) for index in range(space.size)}
    assert len(scripts) == space.size


def test_a_seed_orders_all_indexes_once():
    space = Space(4, 2)
    orders = [[space.shuffled_at(seed, place) for place in range(space.size)] for seed in (1, 2)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(space.size))
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


def test_first_rounds_have_one_of_every_class_under_renaming():
    """By trying all renamings: 3 honest replicas, two twins, of 4 validators."""
    space = Space(4, 1)
    firsts = [space.script(index)[0] for index in range(space.size)]

    def renamed(move):
        for honest in itertools.permutations((1, 2, 3)):
            for twins in ((0, 4), (4, 0)):
                names = dict(zip((1, 2, 3), honest, strict=True)) | {0: twins[0], 4: twins[1]}
                sets = frozenset(frozenset(names[s] for s in slots) for slots in move.sets)
                leader = 0 if move.leader == 0 else names[move.leader]
                yield leader, sets, move.votes

    classes = {frozenset(renamed(move)) for move in firsts}
    assert len(classes) == len(firsts), "none twice"
    every = {
        frozenset(renamed(Move(leader, move.sets, votes)))
        for move in (space.script(0)[0], *(s for s in _all_second_moves()))
        for leader in range(4)
        for votes in Votes
    }
    assert classes == every, "none is missing"


def _all_second_moves():
    space = Space(4, 2)
    return {space.script(index)[1] for index in range(space.size)}


def test_low_indexes_have_faults_in_the_first_rounds_only():
    space = Space(4, 4)
    first = Space(4, 1).size
    for index in range(first):
        calm = space.script(index)[1:]
        assert all(len(move.sets) == 1 and move.votes == Votes.ALL for move in calm)


def test_there_is_nothing_outside_the_space():
    with pytest.raises(IndexError):
        Space(4, 2).script(Space(4, 2).size)
    with pytest.raises(NoSuchScenario):
        describe(Case(4, 2, 10**9))
    with pytest.raises(NoSuchScenario):
        sweep(Plan(4, 1, scenarios=1_000, seed=None))
    with pytest.raises(NoSuchScenario):
        sweep(Plan(3))


# Playing


def test_without_faults_every_round_is_decided():
    outcome = play(Case(4, 5, 0))
    assert outcome.violations == ()
    for history in outcome.history[1:4]:
        assert [round_ for round_, _, _ in history][:5] == [1, 2, 3, 4, 5]


def test_a_case_is_its_own_replay():
    for case in Plan(4, scenarios=20, seed=11).cases():
        assert play(case, traced=True) == play(case, traced=True)


def test_twins_contradict_themselves_and_are_convicted():
    outcomes = [play(case) for case in Plan(4, scenarios=60, seed=2).cases()]
    convicted = sum(any(outcome.evidence[1:4]) for outcome in outcomes)
    assert convicted > 10, "scenarios in which nobody lies test little"


def test_envelopes_are_ordered_alike_by_all_honest_replicas():
    for case in Plan(4, scenarios=10, seed=4, envelopes_every=1).cases():
        outcome = play(case)
        assert outcome.violations == ()
        for history in outcome.history[1:4]:
            assert sum(batch for _, _, batch in history) == 6


@pytest.mark.parametrize(("validators", "count"), [(4, 1_000), (5, 400), (7, 200)])
def test_no_scenario_of_a_seeded_batch_breaks_a_promise(validators, count):
    report = sweep(Plan(validators, scenarios=count, seed=1))
    assert report.violations == ()
    assert report.scenarios == count
    assert report.with_envelopes == count // 16


def test_no_scenario_with_faults_in_two_rounds_breaks_a_promise():
    report = sweep(Plan(4, 6, scenarios=200, seed=None))
    assert report.violations == ()


@pytest.mark.long
@pytest.mark.parametrize(("validators", "count"), [(4, 150_000), (5, 80_000), (7, 40_000)])
def test_no_scenario_of_an_hour_breaks_a_promise(validators, count):
    report = sweep(Plan(validators, scenarios=count, seed=2), workers=1)
    assert report.violations == ()


# Broken on purpose


def forget_the_last_vote(monkeypatch):
    def may_vote(_self, block):
        if block.round == block.qc.round + 1:
            return True
        tc = block.tc
        return tc is not None and block.round == tc.round + 1 and block.qc.round >= tc.high_qc.round

    monkeypatch.setattr(Safety, "may_vote", may_vote)


def commit_by_parents_alone(monkeypatch):
    def committable(self, certificate):
        child = self.get(certificate.block)
        parent = None if child is None else self.get(child.parent)
        known = parent is not None and parent.block is not None
        return parent if known and parent.height > self.tip.height else None

    monkeypatch.setattr(BlockTree, "committable", committable)


def let_timeouts_hide_the_highest_certificate(monkeypatch):
    """The certificate takes the lowest that was reported, nobody compares, leaders build on it."""

    def certificate(self, round_):
        timeouts = sorted(self._rounds[round_].values(), key=lambda timeout: timeout.voter)
        low = min((timeout.high_qc for timeout in timeouts), key=lambda qc: qc.round)
        signed = [TimeoutSignature(t.voter, t.high_qc.round, t.signature) for t in timeouts]
        return TimeoutCertificate(timeouts[0].epoch, round_, signed, low)

    def check(found, committee, genesis, known):
        check_quorum(found.high_qc, committee, genesis, known)

    propose = Replica._propose

    def propose_low(self, now_ms):
        safety = self._state.safety
        high, tc = safety.high_qc, safety.high_tc
        came_by = tc is not None and tc.round + 1 == safety.round != high.round + 1
        if came_by and self._state.tree.get(tc.high_qc.block) is not None:
            safety.high_qc = tc.high_qc
        try:
            return propose(self, now_ms)
        finally:
            if high.round > safety.high_qc.round:
                safety.high_qc = high

    monkeypatch.setattr(TimeoutCollector, "certificate", certificate)
    monkeypatch.setattr("consensus._agreement.check_timeout_certificate", check)
    monkeypatch.setattr("consensus._validity.check_timeout_certificate", check)
    monkeypatch.setattr(Replica, "_propose", propose_low)


def take_half_for_a_quorum(monkeypatch):
    monkeypatch.setattr(Committee, "is_quorum", lambda self, power: 2 * power > self.total)


def look_at_no_second_proposal(monkeypatch):
    monkeypatch.setattr(Replica, "_check_first", lambda _self, _block: None)


def first_caught(plan):
    for case in plan.cases():
        outcome = guarded(case)
        if outcome.violations:
            return outcome
    return None


def hear_no_certificate_from_those_who_give_up(monkeypatch):
    """Timeouts bring nobody forward, and their certificate takes the lowest reported."""
    let_timeouts_hide_the_highest_certificate(monkeypatch)
    adopt, on_timeout = Replica._adopt, Replica._on_timeout
    deaf = set()

    def on_timeout_deaf(self, payload, sender, now_ms):
        deaf.add(id(self))
        try:
            return on_timeout(self, payload, sender, now_ms)
        finally:
            deaf.discard(id(self))

    def adopt_unless_deaf(self, qc, now_ms):
        return [] if id(self) in deaf else adopt(self, qc, now_ms)

    monkeypatch.setattr(Replica, "_on_timeout", on_timeout_deaf)
    monkeypatch.setattr(Replica, "_adopt", adopt_unless_deaf)


@pytest.mark.parametrize(
    ("broken", "validators", "checks"),
    [
        (forget_the_last_vote, 4, {"signature", "contradiction"}),
        (commit_by_parents_alone, 4, {"commit", "agreement", "contradiction"}),
        (hear_no_certificate_from_those_who_give_up, 4, {"liveness", "agreement"}),
        (take_half_for_a_quorum, 5, {"commit", "agreement", "contradiction"}),
        (look_at_no_second_proposal, 4, {"evidence", "signature"}),
    ],
)
def test_a_broken_replica_is_caught(monkeypatch, broken, validators, checks):
    broken(monkeypatch)
    assert play(Case(validators, 6, 0)).violations == (), "nothing shows without faults"
    outcome = first_caught(Plan(validators, 6, scenarios=300, seed=1))
    assert outcome is not None
    assert outcome.violations[0].check in checks
    monkeypatch.undo()
    assert play(outcome.case).violations == (), "the same scenario passes where nothing is broken"


ALL = ((0, 1, 2, 3, 4),)
APART = ((0, 2), (1, 3, 4))
HIDDEN_CERTIFICATE = (
    Move(1, ALL, Votes.NEXT_LEADER_LATE),  # 1 learns of its certificate when all gave up
    Move(
        1, ((0, 1, 2), (3, 4)), Votes.NEXT_LEADER
    ),  # its next one is certified too: only twin 0 knows
    Move(0, APART, Votes.ALL),  # 2 learns it and commits; the other twin leads 1 and 3 past it
    Move(3, APART, Votes.ALL),
    Move(3, APART, Votes.ALL),
)


def test_a_script_written_by_hand_has_an_index_and_passes():
    case = Case(4, 5, Space(4, 5).index_of(HIDDEN_CERTIFICATE))
    assert Space(4, 5).script(case.index) == HIDDEN_CERTIFICATE
    assert play(case).violations == ()


# Files and the command


def test_a_failure_becomes_a_file_that_replays_it(monkeypatch, tmp_path):
    commit_by_parents_alone(monkeypatch)
    case = first_caught(Plan(4, 6, scenarios=50, seed=1)).case
    path = write_failure(tmp_path / "failures", case)
    kept = load_failure(path)
    assert kept.case == case
    assert len(kept.script) == 6
    assert kept.trace
    assert tuple(kept.violations) == play(kept.case).violations
    with pytest.raises(TwinsFailed):
        CliRunner().invoke(app, ["twins", "--replay", str(path)], catch_exceptions=False)


def test_what_is_no_failure_is_refused(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"case": 1}')
    for wrong in (path, tmp_path / "missing.json"):
        with pytest.raises(TwinsFileUnreadable):
            load_failure(wrong)


def test_a_crash_of_a_replica_is_a_violation(monkeypatch):
    def crash(_self, _block):
        raise KeyError("lost")

    monkeypatch.setattr(Safety, "may_vote", crash)
    assert guarded(Case(4, 6, 0)).violations[0].check == "crash"


def test_the_command_sweeps_tells_and_writes(tmp_path):
    report = tmp_path / "report.json"
    arguments = ["twins", "--n", "4", "--scenarios", "40", "--seed", "3", "--json", str(report)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "40 of" in result.output
    assert b'"failed": 0' in report.read_bytes()


def test_the_command_plays_one_scenario_step_by_step():
    result = CliRunner().invoke(app, ["twins", "--n", "4", "--index", "77"])
    assert result.exit_code == 0, result.output
    assert "round 1:" in result.output
    assert "commits heights" in result.output


def test_workers_find_what_one_process_finds():
    plan = Plan(4, scenarios=200, seed=9)
    one, two = sweep(plan), sweep(plan, workers=2)
    assert (one.events, one.commits, one.with_evidence) == (
        two.events,
        two.commits,
        two.with_evidence,
    )
