"""The stand-in for signatures refuses what Ed25519 would refuse, and changes nothing else."""

import pytest

from consensus import Validator
from devnet.simulation import standin
from devnet.simulation.standin import SIGNATURE_BYTES, StandInKey, verify
from devnet.simulation.twins import Plan
from devnet.simulation.twins_world import ED25519, STAND_IN, play
from primitives import ed25519
from primitives.ed25519 import SigningKey

MESSAGE = b"round 7, block 3"


@pytest.fixture(params=["stand-in", "ed25519"])
def scheme(request):
    """(key maker, verify) of each scheme: the same statements hold for both."""
    if request.param == "stand-in":
        return StandInKey, verify
    return SigningKey, ed25519.verify


def test_a_signature_is_good_for_its_key_and_message_only(scheme):
    make, check = scheme
    key, other = make(bytes(32)), make(bytes([1]) * 32)
    signature = key.sign(MESSAGE)
    assert len(signature) == SIGNATURE_BYTES
    assert check(key.public, MESSAGE, signature)
    assert not check(other.public, MESSAGE, signature)
    assert not check(key.public, MESSAGE + b"!", signature)
    assert not check(key.public, MESSAGE, other.sign(MESSAGE))


def test_an_altered_or_cut_signature_is_refused(scheme):
    make, check = scheme
    key = make(bytes(32))
    signature = key.sign(MESSAGE)
    for place in range(SIGNATURE_BYTES):
        altered = bytearray(signature)
        altered[place] ^= 1
        assert not check(key.public, MESSAGE, bytes(altered))
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(64)):
        assert not check(key.public, MESSAGE, wrong)
    assert not check(key.public[:-1], MESSAGE, signature)


def test_signing_is_deterministic(scheme):
    make, _ = scheme
    assert make(bytes(32)).sign(MESSAGE) == make(bytes(32)).sign(MESSAGE)
    assert make(bytes(32)).public == make(bytes(32)).public


def test_the_public_name_fits_a_validator():
    key = StandInKey(bytes(32))
    assert len(key.public) == standin.PUBLIC_BYTES
    assert Validator(key.public, 1).public == key.public
    with pytest.raises(ValueError):
        StandInKey(b"short")


@pytest.mark.parametrize(("validators", "count"), [(4, 24), (5, 8), (7, 4)])
def test_both_schemes_lead_to_the_same_histories(validators, count):
    """Everything but the bytes: who committed what in which round, evidence, time, events."""
    for case in Plan(validators, scenarios=count, seed=5, envelopes_every=8).cases():
        fast, real = play(case, STAND_IN), play(case, ED25519)
        assert fast == real
        assert fast.violations == ()
        assert any(fast.history)
