"""What must hold in every Twins scenario, judged from what leaves and enters the replicas.

Nothing here asks a replica for its opinion: statements are read from the messages that it sent,
commits from the effects that it returned.

agreement   no two honest replicas commit different blocks, or different batches, at one height
commit      a committed block and one on top of it, in the next round, were both voted for by a
            quorum of keys
signature   an honest validator signs one vote, one proposal and one timeout a round, and never
            votes in a round that it gave up
evidence    an honest replica that was shown two contradictory statements while their round was
            undecided holds a proof against their author; every proof is valid, none accuses an
            honest validator
liveness    soon after the script ends all honest replicas commit a block of a later round
contradiction, crash
            a replica stopped with a LocalFault, or with what is no fault at all
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from consensus import (
    Block,
    Commit,
    Committee,
    Evidence,
    Kind,
    ReplicaStatistics,
    decode_block,
)
from consensus.certificate import Timeout, TimeoutCertificate, Vote
from consensus.evidence import check_evidence
from primitives import codec
from primitives.faults import Fault

STATEMENT_BYTES_MAX = 1 << 20  # what a replica sent itself: larger is a crash


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise: the check's name, the slot of the replica (-1: all), a sentence."""

    check: str
    slot: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What a message says, as far as the script and the checks care. `subject` is the CID that
    a vote names, a proposal's bytes, the certificate's round that a timeout claims."""

    kind: int
    author: int
    round: int
    subject: bytes


def read(kind: int, payload: bytes, author: int, proposals: dict[bytes, int]) -> Statement | None:
    """What a replica of validator `author` says by `payload`; None for kinds without a round.

    `proposals` maps bytes of blocks to their rounds, known from the journal.
    """
    if kind == Kind.VOTE:
        vote = codec.decode(Vote, payload, bytes_max=STATEMENT_BYTES_MAX)
        return Statement(kind, vote.voter, vote.round, vote.block)
    if kind == Kind.PROPOSAL:
        round_ = proposals.get(payload)
        if round_ is None:
            raise LookupError("a proposal left that was not journaled")
        return Statement(kind, author, round_, payload)
    if kind == Kind.TIMEOUT:
        timeout = codec.decode(Timeout, payload, bytes_max=STATEMENT_BYTES_MAX)
        claimed = timeout.high_qc.round.to_bytes(8, "big")
        return Statement(kind, timeout.voter, timeout.round, claimed)
    if kind == Kind.TIMEOUT_CERTIFICATE:
        certificate = codec.decode(TimeoutCertificate, payload, bytes_max=STATEMENT_BYTES_MAX)
        return Statement(kind, author, certificate.round, b"")
    return None


class Checks:
    """The record of one scenario; the first violation ends it."""

    def __init__(self, honest: frozenset[int], committee: Committee) -> None:
        self._honest = honest
        self._committee = committee
        self._validators = len(committee)
        self._network = committee.network
        self._chain: list[tuple[bytes, tuple[bytes, ...]]] = []
        self._voters: dict[bytes, set[int]] = {}
        self._signed: dict[tuple[int, int, int], bytes] = {}
        self._given_up: set[tuple[int, int]] = set()
        self._blocks: dict[bytes, Block] = {}
        self._proposals: dict[int, list[bytes]] = {}
        self._shown: dict[tuple[int, int, int, int], bytes] = {}
        self._owed: list[tuple[int, Statement]] = []
        self._decided: list[tuple[int, Block]] = []
        self.violations: list[Violation] = []

    def fail(self, check: str, slot: int, sentence: str) -> None:
        self.violations.append(Violation(check, slot, sentence))

    # What replicas say

    def sent(self, slot: int, said: Statement) -> None:
        """A replica broadcast a statement."""
        if said.kind == Kind.VOTE:
            self._voters.setdefault(said.subject, set()).add(said.author)
        elif said.kind == Kind.PROPOSAL:
            self._proposals.setdefault(said.round, []).append(said.subject)
        if slot not in self._honest:
            return
        place = (said.kind, slot, said.round)
        if said.kind == Kind.TIMEOUT:
            self._given_up.add((slot, said.round))
        if said.kind != Kind.TIMEOUT_CERTIFICATE:
            first = self._signed.get(place)
            if first is None:
                self._signed[place] = said.subject
                if said.kind == Kind.VOTE and (slot, said.round) in self._given_up:
                    self.fail("signature", slot, f"voted in round {said.round} after giving it up")
            elif first != said.subject:
                name = Kind(said.kind).name.lower()
                self.fail("signature", slot, f"signed two {name}s in round {said.round}")

    def shown(self, slot: int, said: Statement, known: Callable[[], ReplicaStatistics]) -> None:
        """An honest replica is about to get a statement; `known` tells where it stands.

        With two contradictory ones it owes evidence, unless its round is over there (what came
        late may be dropped unread), or a proposal is no higher than what is final there.
        """
        if said.kind == Kind.TIMEOUT_CERTIFICATE:
            return
        place = (slot, said.kind, said.author, said.round)
        first = self._shown.setdefault(place, said.subject)
        if first == said.subject:
            return
        stands = known()
        if said.kind == Kind.VOTE:
            due = stands.high_qc_round < said.round
        else:
            due = stands.round <= said.round
        if due and said.kind == Kind.PROPOSAL:
            both = (decode_block(wire, self._network) for wire in (first, said.subject))
            due = min(block.height for block in both) > stands.height
        if due:
            self._owed.append((slot, said))

    # What replicas decide

    def committed(self, slot: int, commits: list[Commit]) -> None:
        """An honest replica made these blocks final, in this order."""
        for commit in commits:
            block = commit.block
            self._blocks[block.cid] = block
            entry = (block.cid, commit.batch)
            if block.height == len(self._chain) + 1:
                self._chain.append(entry)
            elif not 1 <= block.height <= len(self._chain):
                self.fail("agreement", slot, f"height {block.height} came out of order")
            elif self._chain[block.height - 1][0] != block.cid:
                self.fail("agreement", slot, f"another block is final at height {block.height}")
            elif self._chain[block.height - 1] != entry:
                self.fail("agreement", slot, f"another order at height {block.height}")
        self._decided.append((slot, commits[-1].block))

    @property
    def height(self) -> int:
        return len(self._chain)

    # At the end

    def finish(self, evidence: dict[int, list[Evidence]]) -> None:
        """Judge what can only be judged at the end. `evidence` is that of honest replicas."""
        judged: set[bytes] = set()
        for slot, block in self._decided:
            if block.cid not in judged and not self._is_decided(block):
                self.fail(
                    "commit",
                    slot,
                    f"no certified block of round {block.round + 1} is on top "
                    f"of block {block.height} of round {block.round}, nevertheless final",
                )
            judged.add(block.cid)
        for slot, proofs in evidence.items():
            self._judge_evidence(slot, proofs)

    def _is_decided(self, block: Block) -> bool:
        if not self._is_certified(block.cid):
            return False
        return any(
            above.parent == block.cid and self._is_certified(above.cid)
            for above in self._blocks_of(block.round + 1)
        )

    def _is_certified(self, cid: bytes) -> bool:
        return 3 * len(self._voters.get(cid, ())) > 2 * self._validators

    def _blocks_of(self, round_: int) -> Iterator[Block]:
        for block in self._blocks.values():
            if block.round == round_:
                yield block
        for wire in self._proposals.get(round_, []):
            yield decode_block(wire, self._network)

    def _judge_evidence(self, slot: int, proofs: list[Evidence]) -> None:
        accused = set()
        for proof in proofs:
            accused.add(proof.signer)
            try:
                check_evidence(proof, self._committee)
            except Fault as fault:
                self.fail("evidence", slot, f"holds evidence that proves nothing: {fault}")
            if proof.signer in self._honest:  # an honest validator's slot is its index
                self.fail("evidence", slot, f"accuses the honest validator {proof.signer}")
        for owing, said in self._owed:
            if owing == slot and said.author not in accused:
                name = Kind(said.kind).name.lower()
                self.fail(
                    "evidence",
                    slot,
                    f"was shown two {name}s of validator {said.author} in round {said.round} "
                    "and holds no evidence",
                )
