"""What one flush makes durable: the pure half of group commit.

    wires = pending.resume(journal.read(ENVELOPE_KIND))    # after a restart
    pending.arrived([(id, wire), ...])          # envelopes, in the order of their coming
    pending.finished([id, ...])                 # nobody asks the journal for these any more
    for write in pending.take(effects):
        perform(journal, write)                 # durable when it returns; on a thread of its own
    # only now may the effects leave

Envelopes become durable before, or together with, the report link that names them: after a
blackout of everybody a reported envelope must still be somewhere. Those of one flush are one entry
of the journal, a group under the next number: under their ids, which are hashes, each would touch
a page of its own. A journal stays small because a group is deleted once all of it was executed,
and old slots are pruned, as part of later writes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from consensus import Effect, Persist
from primitives import codec
from primitives.codec import Bytes32
from storage import Journal
from storage.journal import VALUE_BYTES_MAX

WRITE_ITEMS_MAX = 1_024  # entries written or groups forgotten in one transaction; more take several
GROUP_BYTES_MAX = 1 << 20  # envelopes in one entry of the journal; more become several
WRITE_BYTES_MAX = 8 << 20  # envelopes in one transaction; more take several
JOURNAL_PRUNE_WRITES = 100  # old journal entries are removed once in so many writes
ROLLUP_KIND = "rollup"  # own signatures of rollup blocks, by number
ENVELOPE_KIND = "envelopes"
KEPT_SLOTS_ITEMS: Mapping[str, int] = {
    "vote": 4_096,
    "timeout": 4_096,
    "proposal": 64,
    "report": 4_096,
    "block": 1_536,  # more than wait for execution, and for the next pruning
    "checkpoint": 4_096,
    "handover": 4,
    "epoch": 4,
}


_GROUP = list[tuple[Bytes32, bytes]]
_KEY_BYTES = 8


@dataclass(frozen=True, slots=True)
class JournalWrite:
    """One durable transaction; afterwards `prune` tells what is kept of which kinds."""

    entries: Sequence[tuple[str, bytes, bytes]]
    deletes: Sequence[tuple[str, bytes]] = ()
    prune: Mapping[str, int] = field(default_factory=dict)


class PendingWrites:
    """What waits for the next flush of one node, and which groups the journal holds."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, bytes] = {}
        self._group_of: dict[bytes, int] = {}
        self._alive: dict[int, int] = {}
        self._deletes: list[tuple[str, bytes]] = []
        self._next_group = 0
        self._writes = 0
        self.arrivals = 0  # envelopes that ever came; all of them were taken if none waits

    def resume(self, entries: Mapping[bytes, bytes]) -> list[bytes]:
        """Take what the journal holds under `ENVELOPE_KIND`; the envelopes, oldest first.

        When they arrive again, they are durable already. Errors: `Malformed`.
        """
        wires = []
        for key, value in sorted(entries.items()):
            group = int.from_bytes(key, "big")
            held = codec.decode(_GROUP, value, bytes_max=VALUE_BYTES_MAX)
            for name, wire in held:
                self._group_of[name] = group
                wires.append(wire)
            self._alive[group] = len(held)
            self._next_group = group + 1
        return wires

    def arrived(self, envelopes: Iterable[tuple[bytes, bytes]]) -> None:
        """(id, bytes) of envelopes in the order in which they were first seen here."""
        for name, wire in envelopes:
            if name not in self._group_of and name not in self._waiting:
                self._waiting[name] = wire
                self.arrivals += 1

    def finished(self, names: Iterable[bytes]) -> None:
        """Envelopes whose bytes the journal need not keep any longer."""
        for name in names:
            self._waiting.pop(name, None)
            group = self._group_of.pop(name, None)
            if group is None:
                continue
            self._alive[group] -= 1
            if not self._alive[group]:
                del self._alive[group]
                self._deletes.append((ENVELOPE_KIND, _key(group)))

    @property
    def is_urgent(self) -> bool:
        """Whether an envelope waits to become durable."""
        return bool(self._waiting)

    def take(self, effects: Iterable[Effect]) -> list[JournalWrite]:
        """The transactions, in order, that must be durable before any of `effects` leaves.

        Everything that waits is taken, but of the finished groups only what fits one transaction,
        and nothing at all when nothing new has to be durable: forgetting is never urgent.
        """
        *full, entries = _parts(effects)
        if not entries and not self._waiting:
            return []
        groups = list(self._groups())
        per_write = WRITE_BYTES_MAX // GROUP_BYTES_MAX
        writes = []
        while len(groups) > per_write:
            writes.append(self._write(groups[:per_write], []))
            del groups[:per_write]
        for part in full:
            writes.append(self._write(groups + part, []))
            groups = []
        deletes = self._deletes[:WRITE_ITEMS_MAX]
        del self._deletes[:WRITE_ITEMS_MAX]
        writes.append(self._write(groups + entries, deletes))
        return writes

    def _groups(self) -> Iterator[tuple[str, bytes, bytes]]:
        """The waiting envelopes as entries of the journal, each within `GROUP_BYTES_MAX`."""
        waiting, self._waiting = self._waiting, {}
        group: list[tuple[bytes, bytes]] = []
        size = 0
        for item in waiting.items():
            if group and size + len(item[1]) > GROUP_BYTES_MAX:
                yield self._entry(group)
                group, size = [], 0
            group.append(item)
            size += len(item[1])
        if group:
            yield self._entry(group)

    def _entry(self, held: list[tuple[bytes, bytes]]) -> tuple[str, bytes, bytes]:
        group = self._next_group
        self._next_group += 1
        self._alive[group] = len(held)
        for name, _ in held:
            self._group_of[name] = group
        return ENVELOPE_KIND, _key(group), codec.encode(held)

    def _write(
        self, entries: list[tuple[str, bytes, bytes]], deletes: list[tuple[str, bytes]]
    ) -> JournalWrite:
        self._writes += 1
        due = self._writes % JOURNAL_PRUNE_WRITES == 0
        return JournalWrite(entries, deletes, KEPT_SLOTS_ITEMS if due else {})


def _parts(effects: Iterable[Effect]) -> list[list[tuple[str, bytes, bytes]]]:
    """The entries to be persisted, in parts of about `WRITE_ITEMS_MAX`; what one `Persist` holds
    stays together. The last part is empty only when there is nothing at all."""
    parts: list[list[tuple[str, bytes, bytes]]] = [[]]
    for effect in effects:
        if isinstance(effect, Persist):
            if len(parts[-1]) >= WRITE_ITEMS_MAX:
                parts.append([])
            parts[-1] += [(entry.kind, entry.key, entry.value) for entry in effect.entries]
    return parts


def _key(group: int) -> bytes:
    return group.to_bytes(_KEY_BYTES, "big")


def perform(journal: Journal, write: JournalWrite) -> None:
    """Carry a write out; durable when it returns. Errors: those of `Journal.write`."""
    journal.write(write.entries, write.deletes)
    for kind, kept in write.prune.items():
        journal.prune(kind, kept)
