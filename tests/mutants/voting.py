"""Mistakes in what may be voted for, what a quorum is, and what its certificate proves."""

from contextlib import AbstractContextManager
from dataclasses import replace

from consensus import Kind, Replica, certificate
from consensus._safety import Safety
from consensus._state import ReplicaState
from consensus._tree import BlockTree
from consensus._validity import Validity
from consensus.certificate import Vote
from consensus.committee import Committee
from consensus.evidence import statement
from consensus.faults import BadBlock
from consensus.states import BALLOTS, Ballot, Signed
from devnet.simulation import Disturbance, Liar, Weather, World
from primitives import codec
from tests.mutants.engines import Directed, Seeded, Twins, scenario
from tests.mutants.registry import Mutant, patched


def commit_by_parents_alone() -> AbstractContextManager[None]:
    def committable(self, qc):
        child = self.get(qc.block)
        parent = None if child is None else self.get(child.parent)
        known = parent is not None and parent.block is not None
        return parent if known and parent.height > self.tip.height else None

    return patched((BlockTree, "committable", committable))


def sign_votes_without_their_round() -> AbstractContextManager[None]:
    def vote_body(epoch, _round, block):
        return statement(epoch, 0, block)

    return patched((certificate, "_vote_body", vote_body))


def forget_the_last_vote() -> AbstractContextManager[None]:
    return patched((Safety, "ballot", lambda _self, _round: Ballot.OPEN))


def vote_in_a_round_given_up() -> AbstractContextManager[None]:
    return patched((BALLOTS, Ballot.GIVEN_UP, {Signed.VOTE: Ballot.VOTED}))


def take_half_for_a_quorum() -> AbstractContextManager[None]:
    return patched((Committee, "is_quorum", lambda self, power: 2 * power > self.total))


def take_a_third_for_a_quorum() -> AbstractContextManager[None]:
    return patched((Committee, "is_quorum", lambda self, power: 3 * power > self.total))


def count_heads() -> AbstractContextManager[None]:
    return patched(
        (Committee, "power", lambda _self, _index: 1),
        (Committee, "power_of", lambda _self, members: members.bit_count()),
        (Committee, "is_quorum", lambda self, heads: 3 * heads > 2 * len(self)),
        (Committee, "has_honest", lambda self, heads: 3 * heads > len(self)),
    )


def _rounds_ascend(block):
    if block.round <= block.qc.round:
        raise BadBlock("rounds do not ascend")


def _votes_upwards(self, block):
    return Signed.VOTE in BALLOTS[self.ballot(block.round)]


def build_below_what_was_reported() -> AbstractContextManager[None]:
    def may_vote(self, block):
        follows = block.round == block.qc.round + 1
        skips = block.tc is not None and block.round == block.tc.round + 1
        return _votes_upwards(self, block) and (follows or skips)

    return patched(
        (Validity, "_check_rounds", staticmethod(_rounds_ascend)), (Safety, "may_vote", may_vote)
    )


def vote_for_every_later_round() -> AbstractContextManager[None]:
    return patched(
        (Validity, "_check_rounds", staticmethod(_rounds_ascend)),
        (Safety, "may_vote", _votes_upwards),
    )


def count_a_signer_twice() -> AbstractContextManager[None]:
    return patched((certificate, "_check_distinct", lambda _voters: None))


def look_at_no_second_proposal() -> AbstractContextManager[None]:
    return patched((Replica, "_check_first", lambda _self, _block: None))


def lead_by_the_own_tip() -> AbstractContextManager[None]:
    insert = ReplicaState.insert

    def by_tip(self, parent):
        return replace(parent, settled=self.tree.tip.standing)

    def leader(self, round_, _parent):
        return self.committee.leader(round_, self.tree.tip.standing)

    def insert_by_tip(self, block, parent):
        return insert(self, block, by_tip(self, parent))

    return patched((ReplicaState, "leader", leader), (ReplicaState, "insert", insert_by_tip))


HALVES = scenario(
    Disturbance("partition", 300, 2_900, (0, 1)), weather=Weather(delay_ms=(1, 60)), heal_ms=3_000
)
HIDDEN_ROUND, LYING_ROUND, LIAR = 10, 11, 2
HIDING_MS = 2_000


def hide_a_certificate(world: World) -> None:
    """Only validator 0 gets the votes of a round; from then on nobody hears it for a while.

    So it commits what the others, who give the round up, do not know to be final.
    """
    send = world._send
    began_ms: list[int] = []

    def send_unless_hidden(sender: int, to: int, kind: int, payload: bytes) -> None:
        is_hidden = kind == Kind.VOTE and (
            codec.decode(Vote, payload, bytes_max=len(payload)).round == HIDDEN_ROUND
        )
        if is_hidden and not began_ms:
            began_ms.append(world.now_ms())
        hides = began_ms and world.now_ms() < began_ms[0] + HIDING_MS
        if (is_hidden and to != 0) or (hides and sender == 0):
            return
        send(sender, to, kind, payload)

    world._send = send_unless_hidden  # type: ignore[method-assign]


LOW_PROPOSAL = Directed(
    scenario(liars=(Liar(LIAR, ("low-proposals",)),), heal_ms=5_000),
    steps=((1, hide_a_certificate),),
    leaders=lambda round_: LIAR if round_ == LYING_ROUND else (1, 3)[round_ % 2],
)

MUTANTS = [
    Mutant(
        "commit-without-consecutive-rounds",
        "A block is final when two certified ones follow each other, whatever their rounds.",
        "relab/hotstuff #249",
        commit_by_parents_alone,
        Twins(4),
        "commit",
    ),
    Mutant(
        "qc-round-outside-signature",
        "A vote signs the block only; its round stands beside the signature.",
        "relab/hotstuff #289",
        sign_votes_without_their_round,
        Directed(scenario(liars=(Liar(2, ("move-certificates",)),))),
        "liveness-after-heal",
    ),
    Mutant(
        "last-vote-not-consulted",
        "The voting rule looks at certificates, not at what was signed in the round already.",
        "own",
        forget_the_last_vote,
        Twins(4),
        "signature",
    ),
    Mutant(
        "vote-after-timeout",
        "A round that was given up can still be voted in.",
        "own",
        vote_in_a_round_given_up,
        Twins(4),
        "signature",
    ),
    Mutant(
        "quorum-above-half",
        "More than half of the power makes a certificate.",
        "own",
        take_half_for_a_quorum,
        Twins(5),
        "commit",
    ),
    Mutant(
        "quorum-above-one-third",
        "More than a third of the power makes a certificate.",
        "own",
        take_a_third_for_a_quorum,
        Directed(HALVES),
        "agreement",
        "random seeds did not catch it; two halves that both go on do",
    ),
    Mutant(
        "quorum-by-heads",
        "A quorum counts validators, not their power.",
        "own",
        count_heads,
        Directed(
            scenario(powers=(108, 108, 108, 108, 60, 60, 60), dead=(4, 5, 6)),
        ),
        "liveness-after-heal",
    ),
    Mutant(
        "tc-high-qc-not-enforced",
        "After skipped rounds neither validity nor the voting rule asks for the highest "
        "certificate that the timeouts named.",
        "own",
        build_below_what_was_reported,
        LOW_PROPOSAL,
        "agreement",
        "validity repeats the voting rule: planted in both",
    ),
    Mutant(
        "vote-for-any-later-round",
        "The voting rule is reduced to: a later round than the last one voted in.",
        "own",
        vote_for_every_later_round,
        LOW_PROPOSAL,
        "agreement",
        "validity repeats the voting rule: planted in both",
    ),
    Mutant(
        "signer-counted-twice",
        "A certificate's signers are added up without looking whether they are different.",
        "own",
        count_a_signer_twice,
        Directed(scenario(liars=(Liar(1, ("forge-certificates",)),))),
        "liveness-after-heal",
    ),
    Mutant(
        "second-proposal-ignored",
        "Of two proposals of one leader the later one is dropped unread.",
        "own",
        look_at_no_second_proposal,
        Twins(4),
        "evidence",
    ),
    Mutant(
        "leader-by-own-unsettled-standing",
        "Who leads follows from what this validator has committed, not from the block's ancestors.",
        "own",
        lead_by_the_own_tip,
        Seeded(),
        "liveness-after-heal",
    ),
]
