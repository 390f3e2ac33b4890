"""The tables hold for whatever a validator is asked to sign, and the rules walk them."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus._safety import Safety, SafetyState
from consensus.certificate import Timeout, Vote, genesis_certificate
from consensus.faults import ForbiddenStep
from consensus.states import BALLOTS, VOICES, Ballot, EpochBegan, Signed, Voice, signs
from tests.consensus.world import GENESIS_CID

START = genesis_certificate(1, GENESIS_CID)


def fresh():
    return Safety(SafetyState(1, 0, 0, None, None, START, None))


def vote(round_):
    return Vote(1, round_, GENESIS_CID, 0, bytes(64))


def timeout(round_):
    return Timeout(1, round_, START, None, 0, bytes(64))


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(Signed)), max_size=20))
def test_whatever_is_asked_no_round_gets_two_votes_or_a_vote_after_a_timeout(asked):
    safety, done = fresh(), {}
    for round_, signed in asked:
        before = safety.ballot(round_)
        try:
            if signed is Signed.VOTE:
                safety.voted(vote(round_), 0)
            else:
                safety.timed_out(timeout(round_))
        except ForbiddenStep:
            assert signed not in BALLOTS[before]
            continue
        assert safety.ballot(round_) is BALLOTS[before][signed]
        done.setdefault(round_, []).append(signed)
        assert round_ == max(done), "an older round is settled"
    for acts in done.values():
        assert acts in ([Signed.VOTE], [Signed.TIMEOUT], [Signed.VOTE, Signed.TIMEOUT])


@pytest.mark.parametrize("ballot", list(Ballot))
@pytest.mark.parametrize("signed", list(Signed))
def test_a_step_that_the_table_lacks_is_a_fault_of_ours(ballot, signed):
    if signed in BALLOTS[ballot]:
        assert signs(ballot, signed) is BALLOTS[ballot][signed]
    else:
        with pytest.raises(ForbiddenStep):
            signs(ballot, signed)


def test_every_state_has_a_row_and_only_a_fresh_epoch_ends_the_watch():
    assert set(BALLOTS) == set(Ballot)
    assert set(VOICES) == set(Voice)
    assert VOICES[Voice.WATCHING] == {EpochBegan.FRESH: Voice.SPEAKING}
    assert VOICES[Voice.SPEAKING] == {}


def test_nobody_gives_up_a_round_twice_or_one_that_is_over():
    safety = fresh()
    assert safety.may_time_out(1)
    safety.timed_out(timeout(1))
    assert not safety.may_time_out(1)


def test_the_page_shows_the_tables_that_the_code_uses():
    script = Path(__file__).parents[2] / "scripts" / "consensus_tables.py"
    spec = importlib.util.spec_from_file_location("consensus_tables", script)
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = tables.PAGE.read_text()
    assert tables.page_with_section(text) == text, "run: scripts/consensus_tables.py"
    for table in (BALLOTS, VOICES):
        for steps in table.values():
            assert all(f": {step.value}" in text for step in steps)
