"""Liars lie with their own keys, are found out, and change nothing for the honest."""

import random
from dataclasses import replace

import pytest

from consensus import Kind, decode_block
from consensus.certificate import sign_vote
from devnet.simulation import HABITS, AgreementFleet, Liar, World, generate
from devnet.simulation.agreement_node import NETWORK
from devnet.simulation.byzantine import Adversary
from devnet.simulation.scenario import Scenario, scenario_from, scenario_json
from primitives import codec
from primitives.cid import cid_of

PROVABLE = ("equivocate", "split-reports", "false-roots")


def with_liar(*habits: str, seed: int = 4, count: int = 4) -> Scenario:
    """A quiet scenario in which validator 2 lies."""
    base = generate(seed, count=count)
    load = tuple(
        replace(item, to=(0, 1), forged=False, at_ms=item.number * 50) for item in base.load
    )
    return replace(
        base, liars=(Liar(2, habits),), dead=(), disturbances=(), load=load, heal_ms=2_500
    )


@pytest.mark.parametrize("habit", HABITS)
def test_a_liar_harms_nobody(habit: str) -> None:
    outcome = World(with_liar(habit)).run()
    assert outcome.violation is None
    assert outcome.executed > 0


@pytest.mark.parametrize("habit", PROVABLE)
def test_a_liar_that_contradicts_itself_is_proved(habit: str) -> None:
    assert sum(World(with_liar(habit, seed=seed)).run().evidence for seed in (4, 5)) > 0


def test_all_habits_together_are_survived() -> None:
    assert World(with_liar(*HABITS, count=7)).run().violation is None


def adversary(*habits: str) -> tuple[Adversary, AgreementFleet]:
    fleet = AgreementFleet((1, 1, 1, 1))
    return Adversary(Liar(0, habits), fleet.keys[0], fleet.genesis, random.Random(1)), fleet


def vote(fleet: AgreementFleet, round_: int) -> bytes:
    return codec.encode(sign_vote(fleet.keys[0], NETWORK, 1, round_, cid_of(b"block"), 0))


def test_an_honest_message_passes_unchanged_without_habits() -> None:
    liar, fleet = adversary()
    assert liar.says(1, Kind.VOTE, vote(fleet, 1)) == [(Kind.VOTE, vote(fleet, 1))]


def test_an_equivocator_tells_two_sides_two_things() -> None:
    liar, fleet = adversary("equivocate")
    said = {liar.says(to, Kind.VOTE, vote(fleet, r))[0][1] for r in (1, 2, 3) for to in (1, 2, 3)}
    assert len(said) > 3


def test_one_that_withholds_says_less() -> None:
    liar, fleet = adversary("withhold")
    assert not all(liar.says(1, Kind.VOTE, vote(fleet, r)) for r in range(1, 30))


def test_a_spammer_says_more() -> None:
    liar, fleet = adversary("spam")
    assert any(len(liar.says(1, Kind.VOTE, vote(fleet, r))) > 1 for r in range(1, 30))


def test_a_twin_block_is_another_valid_one_of_the_same_round() -> None:
    world = World(with_liar("equivocate"), keep=True)
    found = []
    original = world._arrive

    def arrive(sender: int, to: int, kind: int, payload: bytes) -> None:
        if kind == Kind.PROPOSAL and sender == 2:
            found.append(decode_block(payload, NETWORK))
        original(sender, to, kind, payload)

    world._arrive = arrive  # type: ignore[method-assign]
    world.run()
    slots: dict[tuple[int, int], set[bytes]] = {}
    for block in found:
        slots.setdefault((block.epoch, block.round), set()).add(block.cid)
    assert any(len(cids) == 2 for cids in slots.values())
    codes = [p.node.replica.statistics().refused for p in world.processes if p.node.replica]
    assert not any("E307" in refused for refused in codes)  # the twins break no rule of blocks


def test_liars_and_dead_are_always_below_a_third_of_the_power() -> None:
    some = 0
    for seed in range(300):
        scenario = generate(seed)
        faulty = [liar.index for liar in scenario.liars] + list(scenario.dead)
        assert 3 * sum(scenario.powers[i] for i in faulty) < sum(scenario.powers)
        assert len(faulty) == len(set(faulty))
        some += bool(faulty)
    assert some > 100


def test_a_scenario_survives_json() -> None:
    for seed in range(50):
        scenario = generate(seed)
        assert scenario_from(scenario_json(scenario)) == scenario
