"""Rollup blocks and withdrawals: signatures, proofs, and every way to be refused."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primitives import anchors, keccak_tree
from primitives.secp256k1 import EvmKey, checksum_address
from settlement import RollupStatement, recover_rollup_signer, sign_rollup
from settlement.faults import BadRollupSignature

ORDER = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
ACCOUNT = b"\x11" * 20
words = st.binary(min_size=32, max_size=32)
EXAMPLES = settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def high_s(signature: bytes) -> bytes:
    """The other signature of the same message, which anybody can compute."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


@EXAMPLES
@given(st.integers(1, 2**62), words, words)
def test_the_digest_on_chain_is_the_formula(shared, rise, state_root, withdrawal_root):
    last = shared.ask("rollups", shared.ask("last_number"))
    statement = shared.statement(
        height=last[0] + rise // 64 + 1, state_root=state_root, withdrawal_root=withdrawal_root
    )
    shared.commit(statement)
    height, state, withdrawals, deposits, accumulator = shared.ask("rollups", statement.number)
    assert (height, state, withdrawals) == (statement.height, state_root, withdrawal_root)
    assert (deposits, accumulator) == (statement.deposits, statement.accumulator)


@pytest.mark.parametrize(("validators", "enough"), [(1, 1), (3, 3), (4, 3), (5, 4), (32, 22)])
def test_more_than_two_thirds_of_the_validators_must_sign(make_bench, validators, enough):
    bench = make_bench(validators)
    statement = bench.statement()
    few = bench.sign(statement, range(enough - 1))
    assert bench.refusal("commit", *bench.arguments(statement, few)) == "too few signatures"
    bench.send("commit", *bench.arguments(statement, bench.sign(statement, range(enough))))
    assert bench.ask("last_number") == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"number": 0}, "wrong number"),
        ({"number": 1}, "wrong number"),
        ({"number": 3}, "wrong number"),
        ({"height": 10}, "height not above"),
        ({"deposits": 0, "accumulator": bytes(32)}, "deposits shrink"),
        ({"deposits": 3}, "deposits unknown"),
        ({"accumulator": bytes(32)}, "wrong accumulator"),
    ],
)
def test_a_rollup_that_does_not_continue_the_last_is_refused(continued, changes, reason):
    statement = continued.statement(**changes)
    refusal = continued.refusal(
        "commit", *continued.arguments(statement, continued.sign(statement))
    )
    assert refusal == reason


@pytest.fixture(scope="module")
def continued(make_bench):
    """A vault with one rollup block at height 10 over one deposit of two."""
    bench = make_bench()
    bench.fund()
    bench.send("deposit", 0, 5, checksum_address(ACCOUNT))
    bench.commit(bench.statement())
    bench.send("deposit", 0, 5, checksum_address(ACCOUNT))
    return bench


@pytest.mark.parametrize(
    "change",
    [
        {"chain_id": 1},
        {"vault": b"\x22" * 20},
        {"state_root": bytes(32)},
        {"withdrawal_root": b"\x01" * 32},
    ],
)
def test_signatures_of_another_statement_do_not_count(shared, change):
    statement = shared.statement()
    signatures = shared.sign(shared.statement(**change))
    refusal = shared.refusal("commit", *shared.arguments(statement, signatures))
    assert refusal in ("not a validator", "bad signature")


def forged(signatures, statement):
    return [*signatures[:3], sign_rollup(anchors.keccak(b"stranger"), statement)]


def with_wrong_length(signatures, _statement):
    return [signatures[0][:64], *signatures[1:]]


def with_high_s(signatures, _statement):
    return [high_s(signatures[0]), *signatures[1:]]


def with_v_of_another_kind(signatures, _statement):
    return [signatures[0][:64] + bytes([signatures[0][64] - 27]), *signatures[1:]]


def with_a_point_that_is_none(signatures, _statement):
    return [bytes(32) + signatures[0][32:], *signatures[1:]]


def one_signer_twice(signatures, _statement):
    return [signatures[0], signatures[0], signatures[1]]


def in_another_order(signatures, _statement):
    return signatures[::-1]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (forged, "not a validator"),
        (with_wrong_length, "signature length"),
        (with_high_s, "signature s"),
        (with_v_of_another_kind, "signature v"),
        (with_a_point_that_is_none, "bad signature"),
        (one_signer_twice, "signer order"),
        (in_another_order, "signer order"),
    ],
)
def test_a_bad_signature_is_refused_with_its_reason(shared, spoil, reason):
    statement = shared.statement()
    signatures = spoil(shared.sign(statement), statement)
    assert shared.refusal("commit", *shared.arguments(statement, signatures)) == reason


def withdrawals(bench, number, size):
    """A committed tree of `size` withdrawals: (account, token, units) and the leaves."""
    made = [(bytes([i % 250 + 1]) * 20, i % 2, i + 1) for i in range(size)]
    leaves = [anchors.withdrawal_leaf(number, i, *one) for i, one in enumerate(made)]
    bench.commit(bench.statement(withdrawal_root=keccak_tree.root(leaves)))
    return made, leaves


@pytest.mark.parametrize("size", [1, 2, 3, 33, 255, 256])
def test_every_proof_of_the_tree_is_paid_and_no_other(bench, size):
    bench.send("deposit", 0, 10**5, checksum_address(ACCOUNT))
    bench.send("deposit", 1, 10**5, checksum_address(ACCOUNT))
    made, leaves = withdrawals(bench, 1, size)
    for index in sorted({0, size // 2, size - 1}):
        account, token, units = made[index]
        proof = keccak_tree.proof(leaves, index)
        owner = checksum_address(account)
        claim = (1, index, owner, token, units, proof)
        beyond = index + (1 << len(proof))
        longer_or_shorter = [*proof, bytes(32)] if len(proof) < 8 else proof[1:]
        with_another_sibling = [b"\x09" * 32, *proof[1:]]
        for wrong in (
            (1, beyond, owner, token, units, proof),
            (1, index, checksum_address(b"\x77" * 20), token, units, proof),
            (1, index, owner, 1 - token, units, proof),
            (1, index, owner, token, units + 1, proof),
            (1, index, owner, token, units, longer_or_shorter),
            (1, index, owner, token, units, with_another_sibling),
        ):
            assert bench.refusal("claim", *wrong) == "wrong proof"
        contract, scale = bench.tokens[token], bench.deployment.tokens[token].scale
        before = contract.functions.balanceOf(owner).call()
        bench.send("claim", *claim)
        assert contract.functions.balanceOf(owner).call() == before + units * scale
        assert bench.ask("is_claimed", 1, index) is True
        assert bench.refusal("claim", *claim) == "already claimed"


def test_an_inner_node_is_no_withdrawal(bench):
    bench.send("deposit", 0, 10**5, checksum_address(ACCOUNT))
    made, leaves = withdrawals(bench, 1, 4)
    assert bench.refusal("claim", 1, 0, checksum_address(made[0][0]), *made[0][1:], [
        keccak_tree.proof(leaves, 0)[1]
    ]) == "wrong proof"  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((0, 0, 0, 1), "unknown rollup"),
        ((2, 0, 0, 1), "unknown rollup"),
        ((1, 0, 2, 1), "unknown token"),
        ((1, 0, 0, 0), "zero units"),
        ((1, 0, 0, 2**63), "units too large"),
        ((1, 0, 0, 2), "wrong proof"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_reason(continued, arguments, reason):
    number, index, token, units = arguments
    claim = (number, index, checksum_address(ACCOUNT), token, units, [])
    assert continued.refusal("claim", *claim) == reason


def test_the_vault_never_pays_more_than_it_holds(bench):
    bench.send("deposit", 0, 4, checksum_address(ACCOUNT))
    leaf = anchors.withdrawal_leaf(1, 0, ACCOUNT, 0, 5)
    bench.commit(bench.statement(withdrawal_root=leaf))
    claim = (1, 0, checksum_address(ACCOUNT), 0, 5, [])
    assert bench.refusal("claim", *claim) == "balance too small"
    assert bench.ask("is_claimed", 1, 0) is False
    bench.send("deposit", 0, 1, checksum_address(ACCOUNT))
    bench.send("claim", *claim)


def address(number):
    return checksum_address(number.to_bytes(20, "big"))


@pytest.mark.parametrize(
    ("validators", "tokens", "scales", "reason"),
    [
        ([], [1], [1], "no validators"),
        ([1], [], [], "no tokens"),
        ([1], [1], [1, 1], "scales differ"),
        ([0], [1], [1], "zero validator"),
        ([1, 2, 1], [1], [1], "validator twice"),
        ([1], [0], [1], "zero token"),
        ([1], [1, 1], [1, 1], "token twice"),
        ([1], [1], [0], "zero scale"),
        ([1], [1], [2**128 + 1], "scale too large"),
    ],
)
def test_a_vault_that_makes_no_sense_is_not_deployed(
    shared, vault_artifact, refused_with, validators, tokens, scales, reason
):
    arguments = ([address(v) for v in validators], [address(t) for t in tokens], scales)
    assert refused_with(lambda: shared.create(vault_artifact, *arguments)) == reason


def test_the_vault_tells_its_validators_tokens_and_scales(shared):
    assert shared.ask("validators") == [checksum_address(key.address) for key in shared.keys]
    assert shared.ask("tokens") == [token.address for token in shared.deployment.tokens]
    assert shared.ask("scales") == [token.scale for token in shared.deployment.tokens]
    assert shared.ask("is_validator", checksum_address(shared.keys[0].address)) is True
    assert shared.ask("is_validator", checksum_address(ACCOUNT)) is False


def test_only_its_deployer_mints_a_token(bench, refused_with):
    bench.sender.submit(bench.keys[0].address, b"", 10**18)
    stranger = type(bench.sender)(bench.endpoints, bench.keys[0].secret, bench.deployment.chain_id)
    token = bench.tokens[0]
    data = token.encode_abi("mint", [checksum_address(ACCOUNT), 1])
    to = bench.deployment.tokens[0].address_bytes
    assert refused_with(lambda: stranger.submit(to, bytes.fromhex(data[2:]))) == "not the minter"


@EXAMPLES
@given(words, st.integers(0, 2**62), words)
def test_who_signed_a_statement_is_recovered(secret, number, root):
    key = EvmKey(anchors.keccak(secret))
    statement = RollupStatement(1, bytes(20), number, 1, root, root, 0, bytes(32))
    signature = sign_rollup(key.secret, statement)
    assert recover_rollup_signer(statement, signature) == key.address
    for broken in (signature[:64], high_s(signature), signature[:64] + b"\x01", bytes(65)):
        with pytest.raises(BadRollupSignature):
            recover_rollup_signer(statement, broken)
