"""What waits to be sent to one validator, bounded in messages and bytes."""

from collections import deque
from dataclasses import dataclass

import trio

from p2p.frames import FRAME_BYTES_MAX, FRAME_MESSAGES_MAX, MESSAGE_HEADER_BYTES, Message


@dataclass(frozen=True)
class OutboxStatistics:
    """What one outbox holds at one instant."""

    messages: int
    bytes: int


class Outbox:
    """A queue whose writer takes everything that waits, as one frame's worth.

    It has one writer. At a bound `put` says so and keeps nothing new: whoever owns the outbox
    drops the stream and clears it.
    """

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._filled = trio.Event()

    def put(self, kind: int, payload: bytes) -> bool:
        """Append one message; False when it does not fit."""
        size = self._bytes + MESSAGE_HEADER_BYTES + len(payload)
        if len(self._waiting) >= self._messages_max or size > self._bytes_max:
            return False
        self._waiting.append((kind, payload))
        self._bytes = size
        self._filled.set()
        return True

    async def filled(self) -> None:
        """Wait until something waits."""
        await self._filled.wait()

    def take(self) -> list[Message]:
        """Remove the oldest messages, as many as one frame may hold; may be empty."""
        waiting = self._waiting
        if self._bytes <= FRAME_BYTES_MAX and len(waiting) <= FRAME_MESSAGES_MAX:
            taken = list(waiting)
            self.clear()
            return taken
        taken = []
        room = FRAME_BYTES_MAX
        while waiting and len(taken) < FRAME_MESSAGES_MAX:
            size = MESSAGE_HEADER_BYTES + len(waiting[0][1])
            if size > room:
                break
            room -= size
            taken.append(waiting.popleft())
        self._bytes -= FRAME_BYTES_MAX - room
        return taken

    def clear(self) -> int:
        """Forget everything; returns how many messages that were."""
        count = len(self._waiting)
        self._waiting.clear()
        self._bytes = 0
        if self._filled.is_set():
            self._filled = trio.Event()
        return count

    def statistics(self) -> OutboxStatistics:
        """How much waits."""
        return OutboxStatistics(len(self._waiting), self._bytes)
