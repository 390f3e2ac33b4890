"""Mistakes in what is durable, and in reading it back."""

from contextlib import AbstractContextManager

import apsw

from devnet.simulation import Disturbance
from devnet.simulation.disk import Disk
from node.execution import Execution
from node.faults import StorageMismatch
from node.flush import PendingWrites
from storage import Journal
from tests.mutants.engines import Crashes, Directed, scenario
from tests.mutants.registry import Mutant, patched


def write_without_sync() -> AbstractContextManager[None]:
    opened = Journal.open

    def open_unsynced(*arguments, **options):
        journal = opened(*arguments, **options)
        connection: apsw.Connection = journal._writer._connection
        connection.pragma("synchronous", "OFF")
        return journal

    return patched((Journal, "open", open_unsynced))


def keep_envelopes_in_memory() -> AbstractContextManager[None]:
    def no_groups(self):
        self._waiting = {}
        return iter(())

    return patched((PendingWrites, "_groups", no_groups))


def journal_envelopes_a_flush_late() -> AbstractContextManager[None]:
    groups = PendingWrites._groups

    def earlier_groups(self):
        earlier, late = self.__dict__.get("late", []), list(groups(self))
        self.late = late
        return iter(earlier)

    return patched((PendingWrites, "_groups", earlier_groups))


def read_back_what_comes() -> AbstractContextManager[None]:
    """Replaying leaves out what validators reported of the chain, and compares no root."""
    replay, replay_one = Execution.replay, Execution._replay_one

    def replay_blind(self, index, replay_block):
        self._observation = lambda _data: None
        try:
            return replay(self, index, replay_block)
        finally:
            del self._observation

    def replay_one_unchecked(self, row, commit, data):
        try:
            replay_one(self, row, commit, data)
        except StorageMismatch:
            self._previous = row.batch

    return patched(
        (Execution, "replay", replay_blind), (Execution, "_replay_one", replay_one_unchecked)
    )


def leave_names_unsynced() -> AbstractContextManager[None]:
    sync = Disk.sync

    def sync_bytes_only(self, file, *, names):
        del names
        sync(self, file, names=False)

    return patched(
        (Disk, "sync_directory", lambda _self, _path: None), (Disk, "sync", sync_bytes_only)
    )


BLACKOUTS = tuple(
    Disturbance("blackout", at, at + 50, (0, 1, 2, 3), at // 100 % 4, "effects")
    for at in range(400, 1_900, 150)
)
POWER_FAILURES = tuple(
    Disturbance("crash", at, at + 50, (at // 100 % 4,), 0, "now") for at in range(400, 1_900, 100)
)

MUTANTS = [
    Mutant(
        "journal-not-synced",
        "The journal's transactions return before the disk has them.",
        "gravity-sdk #743",
        write_without_sync,
        Crashes(),
        "contradiction",
    ),
    Mutant(
        "new-file-name-not-synced",
        "A new journal is written and synced, but not the directory that names it.",
        "gravity-sdk #743",
        leave_names_unsynced,
        Directed(scenario(*POWER_FAILURES, nodes="full"), templates=False),
        "one-signature-per-slot",
        "a pair: SQLite syncs the directory with the first sync of its log, whatever storage does",
    ),
    Mutant(
        "envelopes-not-journaled",
        "Accepted envelopes are kept in memory until they are executed.",
        "own",
        keep_envelopes_in_memory,
        Directed(scenario(*BLACKOUTS, nodes="full", pause_ms=20)),
        "liveness-after-heal",
    ),
    Mutant(
        "envelopes-journaled-after-report",
        "Envelopes are journaled one flush after the report link that names them.",
        "own",
        journal_envelopes_a_flush_late,
        Directed(scenario(*BLACKOUTS, nodes="full", pause_ms=20)),
        "liveness-after-heal",
    ),
    Mutant(
        "replay-skips-root-check",
        "A restart executes stored blocks without comparing roots, and leaves deposits out.",
        "own",
        read_back_what_comes,
        Directed(scenario(*POWER_FAILURES, nodes="full")),
        "conservation",
        "a pair: with the comparison the wrong replay ends the process, without it nothing shows "
        "as long as replaying is right",
    ),
]
