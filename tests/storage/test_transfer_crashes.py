"""A journal that is killed while it moves is there whole, at one of its two places."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from storage import Journal, export_journal, import_journal, inspect_journal
from storage.faults import JournalMissing
from tests.storage.journal_files import NETWORK, ONCE, OWNER, contents, slot, write

ROOT = Path(__file__).resolve().parents[2]
KILLS = 6

IMPORTER = """
import sys
from pathlib import Path
from storage import export_journal, import_journal
source, path, sealed, to = (Path(word) for word in sys.argv[1:])
sys.stdout.write("begin\\n")
sys.stdout.flush()
if sealed.exists():
    export_journal(sealed, to, b"o" * 32, b"n" * 32)
else:
    import_journal(source, path, b"o" * 32, b"n" * 32)
sys.stdout.write("end\\n")
sys.stdout.flush()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where it is imported."""
    return tmp_path / "target.db"


def crash_at(call: int, work: Callable[[], object]) -> bool:
    """Do `work` in a process that kills itself at its n-th call; whether it came to the end."""
    child = os.fork()
    if child == 0:
        left = call

        def count(_frame: FrameType, event: str, _argument: object) -> None:
            nonlocal left
            if event in ("call", "c_call"):
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count)
        try:
            work()
        finally:
            sys.setprofile(None)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFEXITED(status)


def every_crash(work: Callable[[], object], stride: int, check: Callable[[], None]) -> int:
    """Crash at every `stride`-th call until the work gets through; how many crashes there were."""
    crashes = 0
    while not crash_at(1 + crashes * stride, work):
        check()
        crashes += 1
    return crashes


def test_an_import_that_is_killed_leaves_nothing_or_all(moved: Path, path: Path) -> None:
    states = set()

    def check() -> None:
        try:
            journal = Journal.open(path, OWNER, NETWORK, create=False)
        except JournalMissing:
            states.add("nothing")
        else:
            states.add("all")
            assert journal.watch
            assert list(journal.read("vote")) == [slot(number) for number in range(5, 11)]
            journal.close()
        for name in ("", "-wal", "-shm"):
            path.with_name(path.name + name).unlink(missing_ok=True)

    work = lambda: import_journal(moved, path, OWNER, NETWORK)  # noqa: E731
    assert every_crash(work, 3, check) > 20
    assert states == {"nothing", "all"}
    assert len(contents(path)["vote"]) == 6


def test_an_import_that_is_killed_leaves_the_journal_that_was_there_or_all(
    moved: Path, path: Path
) -> None:
    write(path, range(1, 4))
    older = path.read_bytes()
    states = set()

    def check() -> None:
        journal = Journal.open(path, OWNER, NETWORK, create=False)
        votes = list(journal.read("vote"))
        if journal.watch:
            assert votes == [slot(number) for number in range(5, 11)]
        else:
            assert votes == [slot(number) for number in range(1, 4)]
        states.add(journal.watch)
        journal.close()
        path.with_name(path.name + "-wal").unlink(missing_ok=True)
        path.write_bytes(older)

    work = lambda: import_journal(moved, path, OWNER, NETWORK)  # noqa: E731
    assert every_crash(work, 5, check) > 20
    assert states == {False, True}


def test_an_export_that_is_killed_never_leaves_two_journals(
    tmp_path: Path, source: Path, path: Path
) -> None:
    to = tmp_path / "moved"
    unsealed = source.read_bytes()
    states = set()

    def check() -> None:
        sealed = inspect_journal(source, OWNER, NETWORK).sealed
        states.add((sealed, to.exists()))
        assert sealed or not to.exists()
        if sealed:
            export_journal(source, to, OWNER, NETWORK)  # repeated, as the operator would
            import_journal(to, path, OWNER, NETWORK)
            assert len(contents(path)["vote"]) == 6
            path.unlink()
        else:
            Journal.open(source, OWNER, NETWORK).close()
        to.unlink(missing_ok=True)
        source.with_name(source.name + "-wal").unlink(missing_ok=True)
        source.write_bytes(unsealed)

    work = lambda: export_journal(source, to, OWNER, NETWORK)  # noqa: E731
    assert every_crash(work, 4, check) > 20
    assert states == {(False, False), (True, False), (True, True)}


@pytest.mark.parametrize("exports", [False, True])
def test_kill_9_from_outside_leaves_a_usable_state(tmp_path: Path, *, exports: bool) -> None:
    big = tmp_path / "big.db"
    journal = Journal.open(big, OWNER, NETWORK, once=ONCE)
    for start in range(0, 6_000, 2_000):
        journal.write([("vote", slot(n), bytes(1_000)) for n in range(start, start + 2_000)])
    journal.close()
    plain = big.read_bytes()
    moved, path, to = tmp_path / "moved", tmp_path / "target.db", tmp_path / "again"
    export_journal(big, moved, OWNER, NETWORK)
    sealed = tmp_path / "sealed.db"
    whole_s = 0.0
    for kill in range(KILLS + 1):
        for name in (path, path.with_name("target.db-wal"), sealed.with_name("sealed.db-wal"), to):
            name.unlink(missing_ok=True)
        if exports:
            sealed.write_bytes(plain)
        words = [sys.executable, "-c", IMPORTER, *map(str, (moved, path, sealed, to))]
        child = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert child.stdout
        assert child.stdout.readline() == "begin\n"
        begun = time.monotonic()
        if kill == 0:  # the first one is let through, to know how long it takes
            assert child.stdout.readline() == "end\n"
            whole_s = time.monotonic() - begun
        else:
            time.sleep(whole_s * kill / KILLS)
            child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if exports:
            assert inspect_journal(sealed, OWNER, NETWORK).sealed or not to.exists()
            export_journal(sealed, to, OWNER, NETWORK)
            assert to.read_bytes() == moved.read_bytes()
        else:
            try:
                assert len(contents(path)["vote"]) == 6_000
            except JournalMissing:
                import_journal(moved, path, OWNER, NETWORK)
                assert len(contents(path)["vote"]) == 6_000
