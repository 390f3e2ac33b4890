"""No moment of a crash makes a validator contradict itself; a broken journal would."""

from dataclasses import replace

import pytest

from devnet.simulation.crashes import run_crash_points
from devnet.simulation.full_files import open_journal

POINTS = 200
LONG_POINTS = 10_000


def unsynced(disk, owner, network, watch):
    """A journal that says that it wrote before the disk did."""
    journal = open_journal(disk, owner, network, watch)
    journal._writer._connection.pragma("synchronous", "OFF")
    return journal


def on_a_lying_disk(disk, owner, network, watch):
    journal = open_journal(disk, owner, network, watch)
    disk.ignores_syncs = True
    return journal


def test_crashes_anywhere_never_make_a_validator_contradict_itself():
    report = run_crash_points(seed=5, count=POINTS)
    assert report.contradictions == ()
    assert report.points == POINTS
    assert report.restarts > POINTS // 2
    assert report.torn > 0
    assert report.lost > 0
    assert report.heights > POINTS // 10, "the network goes on in spite of the crashes"


@pytest.mark.parametrize("journal", [unsynced, on_a_lying_disk])
def test_a_journal_whose_writes_are_not_synced_is_caught(journal):
    report = run_crash_points(seed=1, count=40, journal=journal)
    assert any("signed two" in sentence for sentence in report.contradictions)


def test_the_same_seed_finds_the_same():
    one, other = (run_crash_points(seed=9, count=30) for _ in range(2))
    assert replace(one, seconds=0) == replace(other, seconds=0)


def test_real_signatures_change_nothing():
    report = run_crash_points(seed=3, count=20, signatures="ed25519")
    assert report.contradictions == ()
    assert report.points == 20


def test_progress_is_told():
    heard = []
    run_crash_points(seed=4, count=25, progress=heard.append)
    assert heard[-1] == 25


@pytest.mark.long
def test_ten_thousand_crash_points_leave_no_contradiction():
    report = run_crash_points(seed=2026, count=LONG_POINTS)
    assert report.contradictions == ()
    assert report.points == LONG_POINTS
    assert report.torn > LONG_POINTS // 10
