import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p import frames
from p2p.faults import FrameCrowded, FrameMalformed, FrameTooLarge, PeerFault
from p2p.frames import FrameDecoder, decode_messages, encode_frame

MESSAGES = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=6)
FRAMES = st.lists(MESSAGES, max_size=5)


@given(FRAMES, st.data())
def test_frames_survive_any_split_of_their_bytes(sent, data):
    wire = b"".join(encode_frame(messages) for messages in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=12)))
    decoder = FrameDecoder()
    received = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        received += decoder.feed(wire[start:end])
    assert received == sent
    assert decoder.pending == 0


@given(FRAMES, st.data())
def test_changed_bytes_are_decoded_or_refused_with_a_fault(sent, data):
    wire = bytearray(b"".join(encode_frame(messages) for messages in sent))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(wire)))
        change = data.draw(st.binary(max_size=6))
        wire[place : place + data.draw(st.integers(0, 6))] = change
    decoder = FrameDecoder()
    try:
        for messages in decoder.feed(bytes(wire)):
            for kind, payload in messages:
                assert 0 <= kind <= 255
                assert isinstance(payload, bytes)
    except PeerFault as fault:
        assert fault.code in {"E501", "E502", "E503"}  # noqa: PT017


@given(st.binary(max_size=200))
def test_a_body_that_decodes_is_the_encoding_of_what_it_holds(body):
    try:
        messages = decode_messages(body)
    except FrameMalformed:
        return
    assert encode_frame(messages)[frames.LENGTH_BYTES :] == body


def test_an_oversized_length_is_refused_before_its_bytes_arrive():
    length = (frames.FRAME_BYTES_MAX + 1).to_bytes(4, "big")
    with pytest.raises(FrameTooLarge):
        list(FrameDecoder().feed(length))


def test_a_frame_of_the_largest_size_is_taken():
    payload = bytes(frames.MESSAGE_BYTES_MAX)
    wire = encode_frame([(9, payload)])
    assert len(wire) == frames.LENGTH_BYTES + frames.FRAME_BYTES_MAX
    assert list(FrameDecoder().feed(wire)) == [[(9, payload)]]


@pytest.mark.parametrize("body", [b"\x01", b"\x01\x00\x00\x00", b"\x01\x00\x00\x00\x02x"])
def test_lengths_that_do_not_add_up_are_refused(body):
    with pytest.raises(FrameMalformed):
        list(FrameDecoder().feed(len(body).to_bytes(4, "big") + body))


def test_frames_before_a_fault_are_yielded():
    frames_then_fault = FrameDecoder().feed(encode_frame([(1, b"good")]) + b"\0\0\0\1\1")
    assert next(frames_then_fault) == [(1, b"good")]
    with pytest.raises(FrameMalformed):
        next(frames_then_fault)


def test_too_many_messages_in_a_frame_are_refused():
    most = [(1, b"")] * frames.FRAME_MESSAGES_MAX
    assert list(FrameDecoder().feed(encode_frame(most))) == [most]
    with pytest.raises(FrameCrowded):
        list(FrameDecoder().feed(encode_frame([*most, (1, b"")])))


def test_a_heartbeat_is_a_frame_without_messages():
    assert list(FrameDecoder().feed(encode_frame([]))) == [[]]
