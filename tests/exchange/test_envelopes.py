"""What makes a transaction be refused whole, at admission and in a block."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange import Refused, admit, judge
from exchange.accounts import KEYS_PER_ACCOUNT_MAX
from exchange.actions import CancelAll, Withdraw
from exchange.envelope import ENVELOPE_BYTES_MAX, Scope, envelope_id, sign_envelope
from exchange.events import Authorized, Rejected
from exchange.exchange import LIFETIME_HEIGHTS_MAX
from exchange.faults import (
    BadSignature,
    EnvelopeFault,
    Expired,
    KeyNotAuthorized,
    LifetimeTooLong,
    MalformedEnvelope,
    NonceUsed,
    OversizedEnvelope,
    StaleAuthorization,
    UnknownAccount,
    WrongNetwork,
)
from exchange.nonces import NONCE_WINDOW, NONCES_AHEAD_MAX, NonceWindow
from primitives import codec
from primitives.ed25519 import SigningKey
from primitives.eip712 import Domain
from tests.exchange.world import ALL, DOMAIN, NETWORK, QUOTE, Trader, World, buy, codes, sell

OTHER_KEY = SigningKey(b"k" * 32)


@pytest.fixture
def world() -> World:
    return World()


def refused(world: World, admitted, height: int | None = None) -> str:
    """The code that `check` gives, which must be what a block gives, and change nothing."""
    root = world.exchange.root
    before = world.exchange.account(world.alice.address)
    height = world.exchange.height + 1 if height is None else height
    code = ""
    try:
        world.exchange.check(admitted, height)
    except EnvelopeFault as fault:
        code = fault.code
    assert (world.exchange.account(world.alice.address), world.exchange.root) == (before, root)
    if height == world.exchange.height + 1:
        assert codes(world.run(admitted)) == ([code] if code else [])
    return code


def wire(trader: Trader, network: bytes = NETWORK, nonce: int = 0) -> bytes:
    return sign_envelope(trader.key, network, trader.address, nonce, 100, [buy(1, 1)])


def test_bytes_that_are_no_transaction_are_e101(world):
    good = wire(world.alice)
    for bad in (b"", b"\xc1", good[:-1], good + b"\x00", codec.encode([1, 2, 3])):
        with pytest.raises(MalformedEnvelope):
            admit(bad, DOMAIN)
    result = world.run(judge(b"garbage", DOMAIN))
    assert result.events == (Rejected(envelope_id(b"garbage", NETWORK), "E101"),)


def test_a_payload_that_is_no_list_of_actions_is_e101(world):
    good = admit(wire(world.alice), DOMAIN).transaction
    for payload in (b"", codec.encode([]), codec.encode([[9, 1]]), codec.encode([[3, 0, "é"]])):
        with pytest.raises(MalformedEnvelope):
            admit(codec.encode(msgspec.structs.replace(good, payload=payload)), DOMAIN)


def test_another_networks_transaction_is_e102(world):
    with pytest.raises(WrongNetwork):
        admit(wire(world.alice, b"x" * 32), DOMAIN)
    with pytest.raises(WrongNetwork):
        admit(wire(world.alice), Domain(31337, b"x" * 32))


def test_more_bytes_than_allowed_are_e106():
    with pytest.raises(OversizedEnvelope):
        admit(bytes(ENVELOPE_BYTES_MAX + 1), DOMAIN)


def test_a_changed_transaction_is_e107(world):
    good = admit(wire(world.alice), DOMAIN).transaction
    for change in ({"nonce": 1}, {"account": world.bob.address}, {"last_valid": 9}):
        with pytest.raises(BadSignature):
            admit(codec.encode(msgspec.structs.replace(good, **change)), DOMAIN)
    asked = world.alice.authorize().transaction
    with pytest.raises(BadSignature):
        admit(codec.encode(msgspec.structs.replace(asked, scope=1)), DOMAIN)
    assert isinstance(judge(codec.encode(msgspec.structs.replace(good, nonce=1)), DOMAIN), Refused)


def test_an_expired_envelope_is_e103(world):
    height = world.exchange.height + 1
    assert refused(world, world.alice.envelope(buy(1, 1), last_valid=height - 1)) == "E103"
    assert refused(world, world.alice.envelope(buy(1, 1), last_valid=height + 1)) == ""
    with pytest.raises(Expired, match="sign it again"):
        world.exchange.check(world.alice.envelope(buy(1, 1), last_valid=50), 51)


def test_an_envelope_valid_too_far_ahead_is_e110(world):
    far = world.exchange.height + 1 + LIFETIME_HEIGHTS_MAX
    world.exchange.check(
        world.alice.envelope(buy(1, 1), last_valid=far), far - LIFETIME_HEIGHTS_MAX
    )
    assert refused(world, world.alice.envelope(buy(1, 1), last_valid=far + 1)) == "E110"
    with pytest.raises(LifetimeTooLong):
        world.exchange.check(world.alice.envelope(buy(1, 1), last_valid=far + 1), 2)


def test_a_nonce_is_good_once_whatever_its_actions_do(world):
    first = world.alice.envelope(buy(1, 1), nonce=3)
    assert refused(world, first) == ""
    assert refused(world, first) == "E104"
    failing = world.alice.envelope(sell(1, 10**9), nonce=4)
    assert codes(world.run(failing, failing)) == ["E105", "E104"]
    with pytest.raises(NonceUsed, match="choose an unused one"):
        world.exchange.check(failing, 5)


def test_a_refused_envelope_keeps_its_nonce(world):
    late = world.alice.envelope(buy(1, 1), nonce=0, last_valid=world.exchange.height)
    assert codes(world.run(late)) == ["E103"]
    assert codes(world.run(world.alice.envelope(buy(1, 1), nonce=0))) == []


def test_an_account_without_a_deposit_is_e108(world):
    stranger = Trader(99)
    assert refused(world, stranger.envelope(buy(1, 1))) == "E108"
    assert refused(world, stranger.authorize()) == "E108"
    with pytest.raises(UnknownAccount, match="deposit into the vault"):
        world.exchange.open_orders(stranger.address)


def test_a_key_that_the_owner_never_authorized_is_e109(world):
    assert refused(world, world.alice.envelope(buy(1, 1), key=OTHER_KEY)) == "E109"


def test_a_key_expires_by_block_time(world):
    expires = world.exchange.time_ms + 20
    world.run(world.alice.authorize(key=OTHER_KEY, expires_ms=expires))
    assert codes(world.run(world.alice.envelope(buy(1, 1), key=OTHER_KEY), time_ms=expires)) == []
    late = world.alice.envelope(buy(1, 1), key=OTHER_KEY)
    assert codes(world.run(late, time_ms=expires + 1)) == ["E109"]
    with pytest.raises(KeyNotAuthorized, match="expired"):
        world.exchange.check(late, world.exchange.height + 1)


def test_an_envelope_is_refused_whole_when_one_action_lacks_the_scope(world):
    world.run(world.alice.authorize(Scope.TRADE, key=OTHER_KEY))
    out = Withdraw(QUOTE, 1, world.alice.address)
    assert refused(world, world.alice.envelope(buy(1, 1), out, nonce=0, key=OTHER_KEY)) == "E109"
    assert refused(world, world.alice.envelope(buy(1, 1), nonce=0, key=OTHER_KEY)) == ""
    world.run(world.alice.authorize(Scope.WITHDRAW, key=OTHER_KEY))
    asked = world.alice.envelope(CancelAll(None), nonce=1, key=OTHER_KEY)
    assert refused(world, asked) == "E109"
    assert refused(world, world.alice.envelope(out, nonce=1, key=OTHER_KEY)) == ""


def test_an_older_authorization_is_e111(world):
    (event,) = world.run(world.alice.authorize(sequence=7)).events
    assert isinstance(event, Authorized)
    for sequence in (6, 7):
        assert refused(world, world.alice.authorize(sequence=sequence)) == "E111"
    with pytest.raises(StaleAuthorization, match="8 or more"):
        world.exchange.check(world.alice.authorize(sequence=7), 9)


def test_a_revoked_key_is_dead_and_cannot_be_replayed_when_it_comes_back(world):
    used = world.alice.envelope(buy(1, 1), key=OTHER_KEY, nonce=0)
    world.run(world.alice.authorize(key=OTHER_KEY), used)
    world.run(world.alice.authorize(Scope(0), key=OTHER_KEY))
    assert refused(world, world.alice.envelope(buy(1, 1), key=OTHER_KEY, nonce=1)) == "E109"
    world.run(world.alice.authorize(key=OTHER_KEY))
    assert refused(world, used) == "E104"
    assert refused(world, world.alice.envelope(buy(1, 1), key=OTHER_KEY, nonce=1)) == ""


def test_an_account_has_a_limited_number_of_keys_and_forgets_only_harmless_ones(world):
    keys = [SigningKey(bytes([number]) * 32) for number in range(100, 100 + KEYS_PER_ACCOUNT_MAX)]
    for key in keys[:-1]:
        world.run(world.alice.authorize(key=key))
    assert refused(world, world.alice.authorize(key=keys[-1])) == "E109"
    used = world.alice.envelope(buy(1, 1), key=keys[0], nonce=0, last_valid=40)
    world.run(used)
    world.run(world.alice.authorize(Scope(0), key=keys[0]))
    assert refused(world, world.alice.authorize(key=keys[-1])) == "E109"
    while world.exchange.height < 40:
        world.run()
    assert refused(world, world.alice.authorize(ALL, key=keys[-1])) == ""
    view = world.exchange.account(world.alice.address)
    assert keys[0].public not in {key.key for key in view.keys}
    assert len(view.keys) == KEYS_PER_ACCOUNT_MAX


def test_revoking_an_unknown_key_holds_back_its_older_authorizations(world):
    early = world.alice.authorize(key=OTHER_KEY)
    world.run(world.alice.authorize(Scope(0), key=OTHER_KEY))
    assert refused(world, early) == "E111"


nonces = st.lists(st.integers(0, 3 * NONCE_WINDOW) | st.integers(0, 12), max_size=60)


@given(nonces)
def test_a_nonce_window_remembers_exactly_what_was_used(asked):
    window, used = NonceWindow(), set()
    for nonce in asked:
        highest = max(used, default=-1)
        expected = nonce not in used and nonce > highest - NONCE_WINDOW
        if not expected and not used:
            expected = True
        assert window.is_free(nonce) is expected
        if expected:
            window.use(nonce)
            used.add(nonce)
        else:
            with pytest.raises(NonceUsed):
                window.use(nonce)
        assert window.next == max(used, default=-1) + 1


def test_a_nonce_far_ahead_is_refused_and_one_at_the_edge_is_not():
    window = NonceWindow()
    with pytest.raises(NonceUsed):
        window.use(NONCES_AHEAD_MAX)
    window.use(NONCES_AHEAD_MAX - 1)
    assert window.range == range(NONCES_AHEAD_MAX - NONCE_WINDOW, 2 * NONCES_AHEAD_MAX)
    assert not window.is_free(NONCES_AHEAD_MAX - NONCE_WINDOW - 1)
    assert window.is_free(NONCES_AHEAD_MAX - NONCE_WINDOW)
