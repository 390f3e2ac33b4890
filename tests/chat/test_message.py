"""A message means one thing, and only its author can have made it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chat import (
    HEADS_ITEMS_MAX,
    TEXT_BYTES_MAX,
    WIRE_BYTES_MAX,
    ChatFault,
    Message,
    admit_message,
    sign_message,
    wire_of,
)
from chat.faults import (
    BadSignature,
    MalformedMessage,
    MessageTooLong,
    TextRefused,
    WrongNetwork,
)
from chat.message import admit_block
from primitives import codec, dagcbor
from primitives.cid import RAW, cid_of
from primitives.ed25519 import SigningKey

NETWORK = b"n" * 32
KEY = SigningKey(b"k" * 32)
ACCOUNT = b"a" * 20
HEADS = sorted(cid_of(bytes([number])) for number in range(HEADS_ITEMS_MAX))


def sign(text="hello", heads=(), time_ms=5, network=NETWORK) -> bytes:
    return sign_message(KEY, network, "OUT-USD", ACCOUNT, 1, time_ms, heads, text)


def forged(**changes: object) -> bytes:
    """A message whose fields were changed after it was signed."""
    message = codec.decode(Message, sign(heads=HEADS[:2]), bytes_max=WIRE_BYTES_MAX)
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    return codec.encode(Message(**{**fields, **changes}))


def test_a_signed_message_is_admitted_as_it_was_written():
    wire = sign("hello\nworld — ✓", HEADS)
    admitted = admit_message(wire, NETWORK)
    assert admitted.message.text == "hello\nworld — ✓"
    assert admitted.message.heads == HEADS
    assert admitted.message.account == ACCOUNT
    assert wire_of(admitted.message) == wire


def test_the_id_is_the_cid_of_a_block_that_links_to_its_heads():
    admitted = admit_message(sign(heads=HEADS[:3]), NETWORK)
    assert admitted.cid == cid_of(admitted.block)
    value = dagcbor.decode(admitted.block, bytes_max=4_096)
    assert value[0] == "outcry/chat/1"
    assert dagcbor.links(value) == HEADS[:3]
    assert admit_block(admitted.block, NETWORK) == admitted


def test_heads_are_signed_in_one_order():
    assert sign(heads=HEADS) == sign(heads=[*reversed(HEADS), HEADS[0]])


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "other"},
        {"room": "BTC-USD"},
        {"account": b"b" * 20},
        {"key": SigningKey(b"x" * 32).public},
        {"sequence": 2},
        {"time_ms": 6},
        {"heads": HEADS[:1]},
        {"heads": []},
        {"signature": bytes(64)},
    ],
)
def test_a_changed_field_breaks_the_signature(changes):
    with pytest.raises(BadSignature):
        admit_message(forged(**changes), NETWORK)


def test_a_message_of_another_network_is_refused():
    with pytest.raises(WrongNetwork):
        admit_message(sign(network=b"m" * 32), NETWORK)
    with pytest.raises(BadSignature):
        admit_message(forged(network=b"m" * 32), b"m" * 32)


def test_the_longest_text_passes_and_one_byte_more_does_not():
    longest = "é" * (TEXT_BYTES_MAX // 2)
    assert len(sign(longest, HEADS)) < WIRE_BYTES_MAX
    assert admit_message(sign(longest, HEADS), NETWORK).message.text == longest
    with pytest.raises(MessageTooLong):
        sign(longest + "x")
    with pytest.raises(MessageTooLong):
        admit_message(forged(text=longest + "x"), NETWORK)
    with pytest.raises(MessageTooLong):
        admit_message(bytes(WIRE_BYTES_MAX + 1), NETWORK)


@pytest.mark.parametrize(
    "text", ["", " \n", "a\x00", "a\tb", "\x1b[2J", "a\x7f", "a\x85", "\ud800"]
)
def test_texts_that_could_harm_a_terminal_or_say_nothing_are_refused(text):
    with pytest.raises(TextRefused):
        sign(text)
    if text != "\ud800":
        with pytest.raises(TextRefused):
            admit_message(forged(text=text), NETWORK)


@pytest.mark.parametrize(
    "heads",
    [
        [HEADS[1], HEADS[0]],
        [HEADS[0], HEADS[0]],
        [cid_of(b"x", RAW)],
        [bytes(36)],
        [b"short"],
        [*HEADS, cid_of(b"one more")],
    ],
)
def test_heads_out_of_order_or_of_another_kind_are_refused(heads):
    with pytest.raises(MalformedMessage):
        admit_message(forged(heads=heads), NETWORK)


def test_too_many_heads_cannot_be_signed():
    with pytest.raises(MalformedMessage):
        sign(heads=[*HEADS, cid_of(b"one more")])


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_chat_faults(data):
    for admit in (admit_message, admit_block):
        with pytest.raises(ChatFault):
            admit(data, NETWORK)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64 - 1) | st.binary(max_size=40)
    | st.text(max_size=8) | st.just(dagcbor.Link(HEADS[0])),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@given(st.integers(1, 9), plain)
def test_a_block_with_any_value_in_any_field_raises_nothing_but_chat_faults(position, value):
    block = admit_message(sign(heads=HEADS[:1]), NETWORK).block
    fields = dagcbor.decode(block, bytes_max=4_096)
    if fields[position] == value and type(fields[position]) is type(value):
        return
    fields[position] = value
    with pytest.raises(ChatFault):
        admit_block(dagcbor.encode(fields), NETWORK)


@given(st.data())
def test_a_truncated_or_changed_message_is_never_admitted(data):
    wire = bytearray(sign(heads=HEADS[:2]))
    if data.draw(st.booleans()):
        wire = wire[: data.draw(st.integers(0, len(wire) - 1))]
    else:
        wire[data.draw(st.integers(0, len(wire) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ChatFault):
        admit_message(bytes(wire), NETWORK)
