"""Deposits: the running hash, and every way to be refused."""

from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primitives import anchors
from primitives.secp256k1 import checksum_address
from settlement import artifacts

VAULT = artifacts.load("Vault")
ACCOUNT = checksum_address(b"\x11" * 20)
ZERO = checksum_address(bytes(20))

deposits = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(1, 10**5),
        st.binary(min_size=20, max_size=20).filter(any),
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(made=deposits)
def test_the_running_hash_on_chain_is_the_formula(shared, made):
    count, accumulator = shared.ask("deposit_head")
    for token, units, account in made:
        shared.send("deposit", token, units, checksum_address(account))
        accumulator = anchors.deposit_accumulator(accumulator, count, account, token, units)
        count += 1
        assert shared.ask("accumulator_at", count) == accumulator
    assert shared.ask("deposit_count") == count
    assert shared.ask("deposit_head") == [count, accumulator]


def test_the_running_hash_of_no_deposits_is_zero(shared):
    assert shared.ask("accumulator_at", 0) == anchors.EMPTY_ACCUMULATOR


def test_a_deposit_moves_units_times_scale_and_is_logged(bench):
    token, plan = bench.tokens[1], bench.deployment.tokens[1]
    receipt = bench.send("deposit", 1, 7, ACCOUNT)
    assert token.functions.balanceOf(bench.vault.address).call() == 7 * plan.scale
    [event] = bench.vault.events.Deposit.get_logs(from_block=receipt.block)
    assert event["args"] == {
        "index": 0,
        "account": ACCOUNT,
        "token": 1,
        "units": 7,
        "accumulator": bench.ask("accumulator_at", 1),
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((2, 1, ACCOUNT), "unknown token"),
        ((0, 0, ACCOUNT), "zero units"),
        ((0, 2**63, ACCOUNT), "units too large"),
        ((0, 1, ZERO), "zero account"),
        ((0, 2**62, ACCOUNT), "allowance too small"),
    ],
)
def test_a_wrong_deposit_is_refused_with_its_reason(shared, arguments, reason):
    assert shared.refusal("deposit", *arguments) == reason


def test_a_deposit_beyond_the_balance_is_refused(bench):
    bench.send("approve", bench.vault.address, 2**200, contract=bench.tokens[0])
    assert bench.refusal("deposit", 0, 10**12, ACCOUNT) == "balance too small"


def test_the_hash_of_deposits_that_do_not_exist_is_refused(shared):
    assert shared.refusal("accumulator_at", shared.ask("deposit_count") + 1) == "deposits unknown"


@pytest.fixture
def odd(bench, odd_contract):
    """A vault over one odd token, by the token's contract name."""

    def make(name):
        token = bench.create(odd_contract(name), 10**9)
        validators = [checksum_address(key.address) for key in bench.keys]
        artifact = SimpleNamespace(abi=bench.vault.abi, bytecode=VAULT.bytecode)
        bench.vault = bench.create(artifact, validators, [token.address], [1])
        bench.deployment = type(bench.deployment)(
            bench.deployment.chain_id, bench.vault.address, [], bench.deployment.block
        )
        return token

    return make


def test_a_token_that_returns_nothing_is_served(bench, odd):
    token = odd("SilentToken")
    bench.send("deposit", 0, 5, ACCOUNT)
    assert token.functions.balanceOf(bench.vault.address).call() == 5
    leaf = anchors.withdrawal_leaf(1, 0, b"\x11" * 20, 0, 5)
    bench.commit(bench.statement(withdrawal_root=leaf))
    bench.send("claim", 1, 0, ACCOUNT, 0, 5, [])
    assert token.functions.balanceOf(ACCOUNT).call() == 5


def test_a_token_that_takes_a_fee_is_refused(bench, odd):
    token = odd("CrookedToken")
    bench.send("behave", 1, contract=token)
    assert bench.refusal("deposit", 0, 5, ACCOUNT) == "amount differs"


def test_a_token_that_answers_false_is_refused(bench, odd):
    token = odd("CrookedToken")
    bench.send("behave", 2, contract=token)
    assert bench.refusal("deposit", 0, 5, ACCOUNT) == "transfer refused"


@pytest.mark.parametrize("mode", [3, 4])
def test_a_token_cannot_call_back_into_the_vault(bench, odd, mode):
    token = odd("CrookedToken")
    leaf = anchors.withdrawal_leaf(1, 0, bytes.fromhex(bench.vault.address[2:]), 0, 1)
    bench.send("deposit", 0, 5, ACCOUNT)
    bench.commit(bench.statement(withdrawal_root=leaf))
    bench.send("behave", mode, contract=token)
    assert bench.refusal("deposit", 0, 5, ACCOUNT) == ""
    bench.send("behave", 0, contract=token)
    assert bench.ask("deposit_count") == 1
    assert bench.ask("is_claimed", 1, 0) is False
    bench.send("deposit", 0, 5, ACCOUNT)
