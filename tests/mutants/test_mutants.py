"""Planted bugs are caught, and nothing else is taken for one."""

from dataclasses import replace

import pytest

from devnet.simulation import NAMES
from devnet.simulation.byzantine import DIRECTED_HABITS, HABITS
from devnet.simulation.twins_checks import __doc__ as twins_checks
from tests.mutants.__main__ import main
from tests.mutants.engines import Directed, Seeded, Twins, scenario
from tests.mutants.registry import Mutant, all_mutants, judge, patched, read_places

QUICK = (
    "commit-without-consecutive-rounds",
    "qc-round-outside-signature",
    "handover-without-consecutive-certificates",
    "evidence-in-every-block",
    "block-time-of-the-newest-clock",
    "timeout-names-old-certificate",
    "last-vote-not-persisted",
    "replay-skips-root-check",
    "state-sync-without-fallback",
    "fee-rounded-up-per-fill",
)
OTHER_CHECKS = {"fees", "catches-up", "contradiction"}
MUTANTS = {mutant.name: mutant for mutant in all_mutants()}


class Noisy(Directed):
    """Its calm run is the faulty one."""

    def calm(self):
        return self.run()


def harmless(**changes) -> Mutant:
    """A mutant that changes nothing."""
    return replace(
        Mutant("nothing", "", "own", lambda: patched(), Directed(scenario()), "agreement"),
        **changes,
    )


@pytest.mark.parametrize("name", QUICK)
def test_a_mutant_is_caught_by_its_check(name):
    assert judge(MUTANTS[name]).problem == ""


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_every_mutant_is_caught_by_its_check(name):
    assert judge(MUTANTS[name]).problem == ""


def test_what_changes_nothing_escapes():
    assert judge(harmless()).problem == "escapes"


def test_another_check_than_the_named_one_does_not_count():
    wrong = replace(MUTANTS["evidence-in-every-block"], check="agreement")
    assert "is caught by evidence-once, not by agreement" in judge(wrong).problem


def test_a_mutant_that_fails_without_faults_does_not_count():
    both = MUTANTS["block-time-of-the-newest-clock"]
    noisy = replace(both, engine=Noisy(both.engine.script, both.engine.steps))
    assert "fails without faults" in judge(noisy).problem


def test_a_scenario_that_fails_by_itself_does_not_count():
    dead = Directed(scenario(dead=(1, 2)))
    assert "fails without the mutant" in judge(harmless(engine=dead)).problem


def test_the_code_is_whole_again_afterwards():
    for mutant in MUTANTS.values():
        with mutant.plant():
            pass
    assert Twins(4).run() is None
    assert Seeded(3).run() is None


def test_every_mutant_says_what_it_is_and_where_it_is_from():
    for mutant in MUTANTS.values():
        assert mutant.name == mutant.name.lower()
        assert mutant.mistake.endswith(".")
        assert mutant.source
        known = mutant.check in NAMES or mutant.check in OTHER_CHECKS
        assert known or f"\n{mutant.check} " in twins_checks, mutant.check
    assert read_places().keys() <= MUTANTS.keys()


def test_seeds_draw_no_directed_habit():
    assert not set(HABITS) & set(DIRECTED_HABITS)


@pytest.mark.parametrize("check", ["block-time", "evidence-once", "handover-proof", "lock-named"])
def test_checks_written_for_mutants_have_one(check):
    assert any(mutant.check == check for mutant in MUTANTS.values())


def test_the_command_names_them_and_refuses_others(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["mutants", "--list"])
    assert main() == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in MUTANTS)
    monkeypatch.setattr("sys.argv", ["mutants", "--only", "no-such"])
    assert main() == 2


def test_the_command_writes_its_verdicts(monkeypatch, tmp_path):
    path = tmp_path / "verdicts.json"
    arguments = ["mutants", "--only", "fee-rounded-up-per-fill", "--json", str(path)]
    monkeypatch.setattr("sys.argv", arguments)
    assert main() == 0
    assert b'"caught": 1' in path.read_bytes()
