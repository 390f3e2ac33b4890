"""What a validator must never forget, and the two rules that depend on it (PROTOCOL 1).

An honest validator signs at most one vote or timeout per round, never votes for a block that
could conflict with one that may be final, and never claims in a timeout less than it has seen.
All of it is durable before a signature leaves, so a restart changes nothing.
"""

from consensus.block import Block
from consensus.certificate import QuorumCertificate, Timeout, TimeoutCertificate, Vote
from consensus.effects import Entry
from consensus.states import BALLOTS, Ballot, Signed, signs
from primitives import codec
from primitives.codec import Record, Unsigned

SAFETY_BYTES_MAX = 65_536  # a larger journal entry was not written by us: E351 at start
SAFETY_KIND = "safety"
SAFETY_KEY = b""


class SafetyState(Record):
    """The durable record; its fields are those of PROTOCOL 1."""

    epoch: Unsigned
    last_voted_round: Unsigned
    one_chain_round: Unsigned
    last_vote: Vote | None
    last_timeout: Timeout | None
    high_qc: QuorumCertificate
    high_tc: TimeoutCertificate | None


class Safety:
    """The state and the rules. `high_qc` and `high_tc` only ever grow."""

    def __init__(self, state: SafetyState) -> None:
        self.epoch = state.epoch
        self.last_voted_round = state.last_voted_round
        self.one_chain_round = state.one_chain_round
        self.last_vote = state.last_vote
        self.last_timeout = state.last_timeout
        self.high_qc = state.high_qc
        self.high_tc = state.high_tc

    @property
    def tc_round(self) -> int:
        return 0 if self.high_tc is None else self.high_tc.round

    @property
    def round(self) -> int:
        """The round to be in: one beyond the highest certificate of either kind."""
        return max(self.high_qc.round, self.tc_round) + 1

    def ballot(self, round_: int) -> Ballot:
        """What was signed in a round. In rounds before the last one everything is settled."""
        if round_ > self.last_voted_round:
            return Ballot.OPEN
        gave_up = self.last_timeout is not None and self.last_timeout.round >= round_
        return Ballot.GIVEN_UP if gave_up or round_ < self.last_voted_round else Ballot.VOTED

    def may_vote(self, block: Block) -> bool:
        """The voting rule."""
        if Signed.VOTE not in BALLOTS[self.ballot(block.round)]:
            return False
        if block.round == block.qc.round + 1:
            return True
        return (
            block.tc is not None
            and block.round == block.tc.round + 1
            and block.qc.round >= block.tc.high_qc.round
        )

    def may_time_out(self, round_: int) -> bool:
        """The timeout rule."""
        return (
            Signed.TIMEOUT in BALLOTS[self.ballot(round_)]
            and round_ in (self.high_qc.round + 1, self.tc_round + 1)
            and self.high_qc.round >= self.one_chain_round
        )

    def voted(self, vote: Vote, qc_round: int) -> None:
        """Note a vote before it leaves. Errors: `ForbiddenStep`."""
        signs(self.ballot(vote.round), Signed.VOTE)
        self.last_voted_round = vote.round
        self.one_chain_round = max(self.one_chain_round, qc_round)
        self.last_vote = vote

    def timed_out(self, timeout: Timeout) -> None:
        """Note a timeout before it leaves. Errors: `ForbiddenStep`."""
        signs(self.ballot(timeout.round), Signed.TIMEOUT)
        self.last_voted_round = timeout.round
        self.last_timeout = timeout

    def entry(self) -> Entry:
        """The journal entry that makes the present state durable."""
        state = SafetyState(
            self.epoch,
            self.last_voted_round,
            self.one_chain_round,
            self.last_vote,
            self.last_timeout,
            self.high_qc,
            self.high_tc,
        )
        return Entry(SAFETY_KIND, SAFETY_KEY, codec.encode(state))


def slot_key(epoch: int, number: int) -> bytes:
    """The journal key of a round or sequence: sorts as (epoch, number)."""
    return epoch.to_bytes(8, "big") + number.to_bytes(8, "big")
