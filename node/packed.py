"""The line in which pushed envelopes wait to be verified, apart from votes."""

from collections.abc import Iterator

import structlog
import trio

from node.intake import Intake
from node.repetition import Repeated
from node.wire import PACKED_BYTES_MAX
from primitives.codec import Oversized
from primitives.faults import RemoteFault

log = structlog.get_logger(__name__)

PACKED_WAITING_ITEMS_MAX = 128  # messages with envelopes that wait; further ones are dropped


class PackedLine:
    """Messages with envelopes that validators push. Checking their signatures never delays a
    vote; what does not fit is dropped, and fetched by id where it is needed."""

    def __init__(self) -> None:
        line = trio.open_memory_channel[tuple[bytes, int]](PACKED_WAITING_ITEMS_MAX)
        self._sender, self._messages = line
        self._dropped = Repeated("envelopes_dropped", logger=log)
        self._refused = Repeated("message_refused", logger=log)

    def offer(self, payload: bytes, sender: int) -> None:
        """Take a message of validator `sender` if there is room. Errors: `Oversized`."""
        if len(payload) > 2 * PACKED_BYTES_MAX:
            raise Oversized(len(payload), 2 * PACKED_BYTES_MAX)
        try:
            self._sender.send_nowait((payload, sender))
        except trio.WouldBlock:
            self._dropped.tell(sender, validator=sender, bytes=len(payload))

    async def run(self, intake: Intake) -> None:
        """Hand on for ever: all messages that wait are verified in one go."""
        async for first in self._messages:
            wires: list[bytes] = []
            for payload, sender in (first, *self._waiting()):
                try:
                    wires += intake.unpack(payload)
                except RemoteFault as fault:
                    self._refused.tell((sender, fault.code), validator=sender, code=fault.code)
            await intake.take(wires)
            self._dropped.tell_due()
            self._refused.tell_due()

    def _waiting(self) -> Iterator[tuple[bytes, int]]:
        """Messages that came meanwhile, at most as many as may wait."""
        for _ in range(PACKED_WAITING_ITEMS_MAX):
            try:
                yield self._messages.receive_nowait()
            except trio.WouldBlock:
                return
