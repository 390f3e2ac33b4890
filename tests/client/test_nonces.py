"""Nonces count up, never repeat inside a process, and get away from another program's."""

import pytest

from client.nonces import SKIP_NONCES_MAX, Nonces


def test_nonces_count_from_what_the_exchange_says() -> None:
    nonces = Nonces()
    nonces.learn(7)
    assert [nonces.take() for _ in range(3)] == [7, 8, 9]


def test_an_older_count_takes_nothing_back() -> None:
    nonces = Nonces()
    nonces.learn(7)
    nonces.take()
    nonces.learn(3)
    assert nonces.take() == 8


def test_nothing_is_signed_before_the_count_is_known() -> None:
    nonces = Nonces()
    assert not nonces.is_known
    with pytest.raises(RuntimeError):
        nonces.take()


def test_a_collision_leads_above_both_counts() -> None:
    for _ in range(50):
        nonces = Nonces()
        nonces.learn(0)
        taken = nonces.take()
        nonces.collided(taken, 40)
        assert 40 <= nonces.take() < 40 + SKIP_NONCES_MAX


def test_repeated_collisions_stay_within_the_bound() -> None:
    nonces = Nonces()
    nonces.learn(0)
    for number in range(30):
        before = nonces.take()
        nonces.collided(before, 0)
        assert before < nonces.take() <= before + SKIP_NONCES_MAX
        assert nonces.collisions == number + 1
