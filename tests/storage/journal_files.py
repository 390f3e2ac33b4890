"""Journals on disk for tests that move them."""

from pathlib import Path

from storage import Journal, inspect_journal

OWNER, NETWORK = b"o" * 32, b"n" * 32
ONCE = ("report", "vote")


def slot(number: int) -> bytes:
    return number.to_bytes(8, "big")


def write(path: Path, numbers: range, *, pruned_to: int | None = None, value: bytes = b"v") -> None:
    """A journal with votes for `numbers`, of which only the last `pruned_to` are kept."""
    journal = Journal.open(path, OWNER, NETWORK, once=ONCE)
    votes = [("vote", slot(number), value + slot(number)) for number in numbers]
    journal.write([*votes, ("safety", b"", b"state"), ("block", b"b", bytes(2_000))])
    if pruned_to is not None:
        journal.prune("vote", pruned_to)
    journal.close()


def contents(path: Path) -> dict[str, dict[bytes, bytes]]:
    """All entries of a journal that may be opened for signing, by kind."""
    kinds = [item.kind for item in inspect_journal(path, OWNER, NETWORK).kinds]
    journal = Journal.open(path, OWNER, NETWORK, create=False)
    found = {kind: journal.read(kind) for kind in kinds}
    journal.close()
    return found
