"""A file on a simulated disk: what reads see, and what the platter holds beneath it."""

from dataclasses import dataclass, field
from enum import Enum


class State(Enum):
    """Whether a change is on the platter: not yet known, surely, or never."""

    PENDING = 1
    DURABLE = 2
    DOOMED = 3


@dataclass(slots=True)
class Write:
    """A change: `data` at `offset`, or the file cut to `offset` bytes if None; how to undo it."""

    order: int
    offset: int
    data: bytes | None
    replaced: bytes
    length: int
    state: State = State.PENDING


@dataclass(slots=True)
class PlatterFile:
    """`content` is what reads see; undoing `changes` gives what the platter held before them.

    Durable changes are dropped, unless they came after one that is doomed.
    """

    content: bytearray = field(default_factory=bytearray)
    changes: list[Write] = field(default_factory=list)

    def change(self, order: int, offset: int, data: bytes | None) -> None:
        end = len(self.content) if data is None else offset + len(data)
        replaced = bytes(self.content[offset:end])
        self.changes.append(Write(order, offset, data, replaced, len(self.content)))
        apply(self.content, offset, data)

    def settle(self, state: State) -> None:
        """What is pending has come to an end."""
        for write in self.changes:
            if write.state is State.PENDING:
                write.state = state
        if all(write.state is State.DURABLE for write in self.changes):
            self.changes.clear()

    def platter(self) -> bytearray:
        """What is durable now, pending changes left out."""
        content = bytearray(self.content)
        for write in reversed(self.changes):
            del content[write.length :]
            apply(content, write.offset, write.replaced)
        for write in self.changes:
            if write.state is State.DURABLE:
                apply(content, write.offset, write.data)
        return content

    def pending(self) -> list[Write]:
        return [write for write in self.changes if write.state is State.PENDING]


def apply(target: bytearray, offset: int, data: bytes | None) -> None:
    """Change a file's bytes, or cut them at `offset`; a gap before it reads as zeros."""
    if data is None:
        del target[offset:]
        return
    if len(target) < offset:
        target.extend(bytes(offset - len(target)))
    target[offset : offset + len(data)] = data
