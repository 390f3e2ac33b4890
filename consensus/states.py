"""States as tables: what this validator may sign next, and when it may sign at all.

The rules in `consensus._safety` and `consensus._state` walk these tables; the diagrams in
docs/consensus.md are made from them.
"""

from collections.abc import Mapping
from enum import Enum

from consensus.faults import ForbiddenStep


class Ballot(Enum):
    """Where a validator stands in one round."""

    OPEN = "open"
    VOTED = "voted"
    GIVEN_UP = "given up"


class Signed(Enum):
    """What it may sign in a round."""

    VOTE = "vote"
    TIMEOUT = "timeout"


class Voice(Enum):
    """Whether a validator signs anything.

    WATCHING  its journal was imported or begun anew: what it signed before is not known
    BEHIND    its journal knows of a later epoch than its blocks
    SPEAKING  it signs
    """

    WATCHING = "watching"
    BEHIND = "behind"
    SPEAKING = "speaking"


class EpochBegan(Enum):
    """What an epoch that begins is to this validator."""

    OF_JOURNAL = "the journal's epoch begins"
    FRESH = "an epoch younger than this process begins"


Ballots = Mapping[Ballot, Mapping[Signed, Ballot]]
Voices = Mapping[Voice, Mapping[EpochBegan, Voice]]

BALLOTS: Ballots = {
    Ballot.OPEN: {Signed.VOTE: Ballot.VOTED, Signed.TIMEOUT: Ballot.GIVEN_UP},
    Ballot.VOTED: {Signed.TIMEOUT: Ballot.GIVEN_UP},
    Ballot.GIVEN_UP: {},
}

VOICES: Voices = {
    Voice.WATCHING: {EpochBegan.FRESH: Voice.SPEAKING},
    Voice.BEHIND: {EpochBegan.OF_JOURNAL: Voice.SPEAKING},
    Voice.SPEAKING: {},
}


def signs(ballot: Ballot, signed: Signed) -> Ballot:
    """The ballot after signing. Errors: `ForbiddenStep` when the table has no such step."""
    after = BALLOTS[ballot].get(signed)
    if after is None:
        raise ForbiddenStep(f"a {signed.value} in a round that is {ballot.value}")
    return after
