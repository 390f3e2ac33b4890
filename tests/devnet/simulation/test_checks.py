"""Every check holds in a good simulation and fails where its violation is planted."""

from dataclasses import replace

import pytest

from consensus import Broadcast, ChainArrived, Effect, Kind, QuorumCertificate
from consensus.certificate import sign_timeout, sign_vote
from consensus.report import sign_link
from devnet.simulation import (
    NAMES,
    AgreementFleet,
    AgreementNode,
    Disturbance,
    History,
    Outgoing,
    World,
    generate,
)
from devnet.simulation.agreement_node import NETWORK
from devnet.simulation.checks import Facts, all_checks
from primitives import codec
from primitives.cid import cid_of

SEED = 40
A, B = cid_of(b"a"), cid_of(b"b")
ROOT, OTHER = b"\x01" * 32, b"\x02" * 32


def audit(name: str, *histories: History, facts: Facts | None = None) -> list[str]:
    """What a fresh check of that name says of these histories, one after the other."""
    check = next(check for check in all_checks(NETWORK) if check.name == name)
    return list(check.audit(facts or Facts(NETWORK), dict(enumerate(histories))))


class Planted(AgreementNode):
    """What `plant` says is done by validator 1, some of it by everybody."""

    plant = ""

    def history(self) -> History:
        history = super().history()
        if not history.blocks or (self.index != 1 and self.plant != "twice"):
            return history
        match self.plant:
            case "another block":
                return replace(history, blocks=(B, *history.blocks[1:]))
            case "another batch":
                return replace(history, batches=((OTHER,), *history.batches[1:]))
            case "twice":
                twice = tuple(batch * 2 for batch in history.batches)
                return replace(history, batches=twice)
            case "another root":
                return replace(history, roots=(OTHER, *history.roots[1:]))
            case "another checkpoint":
                return replace(history, checkpoints={1: OTHER})
            case "money":
                return replace(history, imbalance="token 0 does not add up")
        return history

    def step(self, now_ms: int) -> Outgoing:
        outgoing = super().step(now_ms)
        if self.index == 1 and self.plant == "fault":
            raise KeyError("planted")
        if self.index == 1 and self.plant == "two votes":
            votes: list[Effect] = [self._vote(A), self._vote(B)]
            return replace(outgoing, effects=(*outgoing.effects, *votes))
        if self.plant == "silence":
            return replace(outgoing, effects=())
        return outgoing

    def start(self, now_ms: int) -> Outgoing:
        if self.plant == "amnesia":
            self._disk.journal.clear()
        return super().start(now_ms)

    def envelopes_of(self, ids: tuple[bytes, ...]) -> list[bytes]:
        return [] if self.plant == "silence" else super().envelopes_of(ids)

    def chain_above(self, height: int) -> ChainArrived | None:
        return None if self.plant == "silence" else super().chain_above(height)

    def _vote(self, block: bytes) -> Broadcast:
        vote = sign_vote(self._key, NETWORK, 1, 1_000_000, block, self.index)
        return Broadcast(Kind.VOTE, codec.encode(vote))


class PlantedFleet(AgreementFleet):
    plant = ""

    def node(self, index: int) -> Planted:
        node = Planted(index, self.genesis, self.keys[index], self._judge, self._timing)
        node.plant = self.plant
        return node


def planted(what: str, *disturbances: Disturbance) -> str:
    """The check that fails with that plant; empty when none does."""
    scenario = replace(
        generate(SEED, count=4),
        liars=(),
        dead=(),
        disturbances=disturbances,
        heal_ms=2_000,
        patience_ms=3_000,
        epoch_ms=0,
        load=tuple(replace(item, at_ms=item.number * 40) for item in generate(SEED).load),
    )
    scenario = replace(scenario, load=tuple(replace(item, to=(0, 2)) for item in scenario.load))
    fleet = PlantedFleet(scenario.powers, timing=scenario.timing)
    fleet.plant = what
    violation = World(scenario, fleet=fleet).run().violation
    return "" if violation is None else violation.check


def test_nothing_planted_is_nothing_found() -> None:
    assert planted("") == ""


@pytest.mark.parametrize(
    ("what", "check"),
    [
        ("another block", "agreement"),
        ("another batch", "agreement"),
        ("twice", "validity"),
        ("two votes", "one-signature-per-slot"),
        ("money", "conservation"),
        ("another root", "conservation"),
        ("another checkpoint", "equal-checkpoints"),
        ("fault", "no-local-fault"),
        ("silence", "liveness-after-heal"),
    ],
)
def test_a_check_catches_what_is_planted(what: str, check: str) -> None:
    assert planted(what) == check


def test_validators_that_forget_their_journals_sign_twice() -> None:
    everybody = Disturbance("blackout", 700, 750, (0, 1, 2, 3), 0, "now")
    assert planted("amnesia", everybody) in ("one-signature-per-slot", "no-local-fault")


def test_the_names_are_stable() -> None:
    assert NAMES == (
        "no-local-fault",
        "one-signature-per-slot",
        "agreement",
        "validity",
        "conservation",
        "equal-checkpoints",
        "block-time",
        "evidence-once",
        "handover-proof",
        "lock-named",
        "liveness-after-heal",
    )


def test_an_envelope_that_no_trader_signed_is_not_valid() -> None:
    history = History((A,), ((ROOT,),), (ROOT,))
    assert audit("validity", history)
    assert not audit("validity", history, facts=Facts(NETWORK, submitted={ROOT}))


def test_an_envelope_executed_in_two_batches_is_not_valid() -> None:
    history = History((A, B), ((ROOT,), (ROOT,)), (ROOT, ROOT))
    assert audit("validity", history, facts=Facts(NETWORK, submitted={ROOT}))


def test_a_shorter_history_is_no_disagreement() -> None:
    long, short = History((A, B), ((), ()), (ROOT, OTHER)), History((A,), ((),), (ROOT,))
    assert not audit("agreement", long, short)
    assert not audit("agreement", short, long)
    assert audit("agreement", short, replace(long, blocks=(B, A)))


def test_a_certified_root_that_nobody_computed_is_found() -> None:
    assert audit("equal-checkpoints", History((A,), ((),), (ROOT,), {1: OTHER}))
    assert audit("equal-checkpoints", History(checkpoints={1: ROOT}), History(checkpoints={1: B}))
    assert not audit("equal-checkpoints", History((A,), ((),), (ROOT,), {1: ROOT}))


def _signatures() -> list[tuple[int, bytes, bytes]]:
    """(kind, one message, another for the same slot), all of validator 0."""
    fleet = AgreementFleet((1, 1, 1, 1))
    key, zero = fleet.keys[0], bytes(32)
    votes = [codec.encode(sign_vote(key, NETWORK, 1, 5, block, 0)) for block in (A, B)]
    links = [
        codec.encode(sign_link(key, NETWORK, 1, 0, 3, zero, [], time_ms, b""))
        for time_ms in (10, 11)
    ]
    timeouts = [
        codec.encode(sign_timeout(key, NETWORK, 9, QuorumCertificate(1, r, A, []), None, 0))
        for r in (3, 4)
    ]
    return [
        (Kind.VOTE, votes[0], votes[1]),
        (Kind.LINK, links[0], links[1]),
        (Kind.TIMEOUT, timeouts[0], timeouts[1]),
    ]


@pytest.mark.parametrize(("kind", "one", "other"), _signatures())
def test_a_second_statement_for_a_slot_is_found(kind: int, one: bytes, other: bytes) -> None:
    check = next(c for c in all_checks(NETWORK) if c.name == "one-signature-per-slot")
    assert not list(check.sent(0, kind, one))
    assert not list(check.sent(0, kind, one))  # said again, not said anew
    assert not list(check.sent(2, kind, other))  # passes on what another one signed
    assert list(check.sent(0, kind, other))
