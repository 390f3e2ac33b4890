"""What several mistakes have in common: something is said, and not written down before."""

from contextlib import AbstractContextManager

from consensus import Entry, Replica
from consensus._duties import ReplicaDuties
from tests.mutants.registry import patched


def not_journaled(*kinds: str) -> AbstractContextManager[None]:
    """What is said leaves without entries of these kinds in the journal."""
    say = ReplicaDuties._say

    def say_without(self, entries: tuple[Entry, ...], message):
        said_kinds = {entry.kind for entry in entries}
        kept = entries
        if said_kinds & set(kinds):
            kept = tuple(entry for entry in entries if entry.kind not in (*kinds, "safety"))
        say(self, kept, message)

    return patched((Replica, "_say", say_without))
