"""The frames of a validator stream, without I/O.

    frame   = length u32, then `length` bytes of messages
    message = kind u8, size u32, then `size` bytes

All integers are big-endian. A frame packs whatever waited for the peer; one without messages
is a heartbeat.

    wire = encode_frame([(1, b"vote"), (2, b"report")])
    list(FrameDecoder().feed(wire))  # [[(1, b"vote"), (2, b"report")]]
"""

import struct
from collections.abc import Iterable, Iterator
from typing import Final

from p2p.faults import FrameCrowded, FrameMalformed, FrameTooLarge

FRAME_BYTES_MAX: Final = 8_388_608  # larger: the stream is reset with E501
FRAME_MESSAGES_MAX: Final = 16_384  # more: the stream is reset with E503
KINDS_MAX: Final = 255

LENGTH_BYTES: Final = 4
MESSAGE_HEADER_BYTES: Final = 5
MESSAGE_BYTES_MAX: Final = FRAME_BYTES_MAX - MESSAGE_HEADER_BYTES

Message = tuple[int, bytes]

_LENGTH = struct.Struct(">I")
_MESSAGE = struct.Struct(">BI")


def encode_frame(messages: Iterable[Message]) -> bytes:
    """One frame of `messages`, in order; the caller keeps within the bounds above."""
    parts: list[bytes] = [b""]
    length = 0
    for kind, payload in messages:
        size = len(payload)
        parts.append(_MESSAGE.pack(kind, size))
        parts.append(payload)
        length += MESSAGE_HEADER_BYTES + size
    parts[0] = _LENGTH.pack(length)
    return b"".join(parts)


def decode_messages(body: bytes) -> list[Message]:
    """The messages of one frame's body, in order.

    Errors: `FrameMalformed`, `FrameCrowded`.
    """
    messages: list[Message] = []
    end = len(body)
    start = 0
    while start < end:
        if end - start < MESSAGE_HEADER_BYTES:
            raise FrameMalformed(f"{end - start} bytes are left where a kind and a size must be")
        kind, size = _MESSAGE.unpack_from(body, start)
        start += MESSAGE_HEADER_BYTES
        if size > end - start:
            raise FrameMalformed(f"a message of {size} bytes has {end - start} left in its frame")
        if len(messages) == FRAME_MESSAGES_MAX:
            raise FrameCrowded(FRAME_MESSAGES_MAX)
        messages.append((kind, body[start : start + size]))
        start += size
    return messages


class FrameDecoder:
    """Turns the bytes of a stream, however they were split, into frames.

    After a fault the stream has lost its framing: the decoder must not be fed again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def pending(self) -> int:
        """Bytes that wait for the rest of their frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[list[Message]]:
        """Take in `data` and yield the frames it completes, in order; heartbeats are empty.

        Errors: `FrameTooLarge` as soon as the length is known, `FrameMalformed`,
            `FrameCrowded`; each after the frames before it.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while len(buffer) - start >= LENGTH_BYTES:
                (length,) = _LENGTH.unpack_from(buffer, start)
                if length > FRAME_BYTES_MAX:
                    raise FrameTooLarge(length, FRAME_BYTES_MAX)
                end = start + LENGTH_BYTES + length
                if len(buffer) < end:
                    return
                body = bytes(memoryview(buffer)[start + LENGTH_BYTES : end])
                start = end
                yield decode_messages(body)
        finally:
            del buffer[:start]
