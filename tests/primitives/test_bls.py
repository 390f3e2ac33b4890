"""BLS12-381 against py_ecc, an implementation that shares no code with ours."""

import pytest
from py_ecc.bls import G2ProofOfPossession as oracle  # noqa: N813 (it is used as a module)

from primitives import bls

SEEDS = [bytes([i]) * 32 for i in range(1, 4)]
MESSAGE = b"rollup block 7"
IDENTITY_KEY = bytes([0xC0]) + bytes(47)
IDENTITY_SIGNATURE = bytes([0xC0]) + bytes(95)


@pytest.fixture(scope="module")
def keys():
    return [bls.AnchorKey(seed) for seed in SEEDS]


def test_keys_and_signatures_equal_those_of_the_oracle(keys):
    secret = oracle.KeyGen(SEEDS[0])
    assert oracle.SkToPk(secret) == keys[0].public
    assert oracle.Sign(secret, MESSAGE) == keys[0].sign(MESSAGE)
    assert oracle.PopProve(secret) == keys[0].prove_possession()


def test_the_oracle_accepts_our_aggregate(keys):
    signature = bls.aggregate([key.sign(MESSAGE) for key in keys])
    assert bls.verify_aggregate([key.public for key in keys], MESSAGE, signature)
    assert oracle.FastAggregateVerify([key.public for key in keys], MESSAGE, signature)


def test_a_missing_signer_or_another_message_is_refused(keys):
    signature = bls.aggregate([key.sign(MESSAGE) for key in keys[:2]])
    assert not bls.verify_aggregate([key.public for key in keys], MESSAGE, signature)
    assert not bls.verify_aggregate([key.public for key in keys[:2]], b"other", signature)
    assert not bls.verify_aggregate([], MESSAGE, signature)


def test_possession_of_another_key_is_refused(keys):
    assert bls.verify_possession(keys[0].public, keys[0].prove_possession())
    assert not bls.verify_possession(keys[1].public, keys[0].prove_possession())
    assert not bls.verify_possession(keys[0].public, keys[0].sign(keys[0].public))


def test_the_identity_signs_nothing(keys):
    assert not bls.verify(IDENTITY_KEY, MESSAGE, IDENTITY_SIGNATURE)
    assert not bls.verify(keys[0].public, MESSAGE, IDENTITY_SIGNATURE)
    with pytest.raises(ValueError, match="canonical"):
        bls.aggregate([IDENTITY_SIGNATURE])


@pytest.mark.parametrize("damage", [0, 1, 47, 95])
def test_a_damaged_signature_is_refused_without_an_exception(keys, damage):
    signature = bytearray(keys[0].sign(MESSAGE))
    signature[damage] ^= 0x81
    assert not bls.verify(keys[0].public, MESSAGE, bytes(signature))
    assert not bls.verify(keys[0].public, MESSAGE, bytes(signature[:-1]))
