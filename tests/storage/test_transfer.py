"""A journal moves whole or not at all, one copy signs, and no slot ever opens again."""

import errno
import stat
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from primitives import codec
from storage import (
    DiskFull,
    Journal,
    JournalExported,
    SlotTaken,
    _transfer,
    export_journal,
    import_journal,
    inspect_journal,
    resume_journal,
)
from storage.faults import (
    ExportDamaged,
    ExportExists,
    ExportMismatch,
    ExportOversized,
    JournalDamaged,
    JournalInUse,
    JournalMismatch,
    JournalMissing,
    JournalNewer,
    StorageUnusable,
)
from storage.journal import VALUE_BYTES_MAX
from tests.storage.journal_files import NETWORK, ONCE, OWNER, contents, slot, write


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where it is imported."""
    return tmp_path / "target.db"


def refused(path: Path, slots: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """The slots for which the journal refuses a new value; the others take it."""
    found = set()
    journal = Journal.open(path, OWNER, NETWORK)
    for kind, number in slots:
        try:
            journal.write([(kind, slot(number), b"another value altogether")])
        except SlotTaken:
            found.add((kind, number))
    journal.close()
    return found


# ---- what an export is -------------------------------------------------------------------------


def test_everything_arrives(tmp_path: Path, source: Path, path: Path) -> None:
    before = contents(source)
    told = export_journal(source, tmp_path / "moved", OWNER, NETWORK)
    assert import_journal(tmp_path / "moved", path, OWNER, NETWORK).kinds == told.kinds
    assert contents(path) == before
    asked = {("vote", number) for number in (1, 4, 5, 10, 11)}
    assert refused(path, asked) == asked - {("vote", 11)}


def test_an_export_is_readable_by_its_owner_only(moved: Path) -> None:
    assert stat.S_IMODE(moved.stat().st_mode) == 0o600


def test_an_exported_journal_signs_no_more(source: Path, moved: Path) -> None:
    assert moved.exists()
    for create in (True, False):
        with pytest.raises(JournalExported, match="two copies would sign twice") as caught:
            Journal.open(source, OWNER, NETWORK, create=create, watch=True)
        assert caught.value.code == "E616"
    assert inspect_journal(source, OWNER, NETWORK).sealed


def test_an_export_can_be_repeated_and_gives_the_same_bytes(
    tmp_path: Path, source: Path, moved: Path
) -> None:
    export_journal(source, tmp_path / "again", OWNER, NETWORK)
    export_journal(source, moved, OWNER, NETWORK)
    assert (tmp_path / "again").read_bytes() == moved.read_bytes()


def test_an_export_overwrites_nothing_else(tmp_path: Path, source: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    for to in (other, source):
        with pytest.raises(ExportExists):
            export_journal(source, to, OWNER, NETWORK)
    assert other.read_bytes() == b"precious"
    assert not inspect_journal(source, OWNER, NETWORK).sealed


def test_a_refused_export_seals_nothing(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageUnusable):
        export_journal(source, tmp_path / "nowhere" / "moved", OWNER, NETWORK)
    monkeypatch.setattr(_transfer, "EXPORT_BYTES_MAX", 1_000)
    with pytest.raises(ExportOversized):
        export_journal(source, tmp_path / "moved", OWNER, NETWORK)
    assert not inspect_journal(source, OWNER, NETWORK).sealed
    assert not (tmp_path / "moved").exists()


def test_a_full_disk_leaves_a_sealed_journal_that_can_be_exported_elsewhere(
    tmp_path: Path, source: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_transfer, "replace_file", full)
        with pytest.raises(DiskFull):
            export_journal(source, tmp_path / "moved", OWNER, NETWORK)
    with pytest.raises(JournalExported):
        Journal.open(source, OWNER, NETWORK)
    export_journal(source, tmp_path / "moved", OWNER, NETWORK)
    assert import_journal(tmp_path / "moved", path, OWNER, NETWORK).watch


@pytest.mark.parametrize("use", [inspect_journal, resume_journal])
def test_a_journal_that_is_not_there_is_not_made_up(path: Path, use: Callable[..., object]) -> None:
    with pytest.raises(JournalMissing):
        use(path, OWNER, NETWORK)
    assert not path.exists()
    path.touch()
    with pytest.raises(JournalMissing):
        use(path, OWNER, NETWORK)


def test_a_journal_in_use_is_left_alone(tmp_path: Path, source: Path, path: Path) -> None:
    write(path, range(3))
    export_journal(path, tmp_path / "moved", OWNER, NETWORK)
    open_ = Journal.open(source, OWNER, NETWORK)
    with pytest.raises(JournalInUse):
        export_journal(source, tmp_path / "other", OWNER, NETWORK)
    with pytest.raises(JournalInUse):
        import_journal(tmp_path / "moved", source, OWNER, NETWORK)
    with pytest.raises(JournalInUse):
        inspect_journal(source, OWNER, NETWORK)
    open_.write([("vote", slot(50), b"still ours")])
    open_.close()


def test_a_changed_entry_is_not_exported(tmp_path: Path, source: Path) -> None:
    other = apsw.Connection(str(source))
    other.execute("UPDATE entries SET value = ? WHERE kind = 'safety'", (b"no",))
    other.close()
    with pytest.raises(JournalDamaged):
        export_journal(source, tmp_path / "moved", OWNER, NETWORK)
    assert not inspect_journal(source, OWNER, NETWORK).sealed


# ---- what an import refuses --------------------------------------------------------------------


@pytest.mark.parametrize(("owner", "network"), [(b"x" * 32, NETWORK), (OWNER, b"x" * 32)])
def test_an_export_of_another_key_or_network_is_refused(
    moved: Path, path: Path, owner: bytes, network: bytes
) -> None:
    with pytest.raises(ExportMismatch):
        import_journal(moved, path, owner, network)
    assert not path.exists()


def test_a_journal_of_another_key_is_not_replaced(moved: Path, path: Path) -> None:
    Journal.open(path, b"x" * 32, NETWORK).close()
    with pytest.raises(JournalMismatch):
        import_journal(moved, path, OWNER, NETWORK)
    assert inspect_journal(path, b"x" * 32, NETWORK).owner == b"x" * 32


def test_a_missing_export_is_a_sentence(tmp_path: Path, path: Path) -> None:
    with pytest.raises(StorageUnusable):
        import_journal(tmp_path / "nothing", path, OWNER, NETWORK)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_refused(moved: Path, path: Path, data: st.DataObject) -> None:
    intact = moved.read_bytes()
    place = data.draw(st.integers(0, len(intact) - 1))
    changed = bytearray(intact)
    changed[place] ^= data.draw(st.integers(1, 255))
    broken = moved.with_name("broken")
    broken.write_bytes(changed)
    with pytest.raises(ExportDamaged):
        import_journal(broken, path, OWNER, NETWORK)
    assert not path.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_missing_or_added_end_is_refused(moved: Path, path: Path, data: st.DataObject) -> None:
    intact = moved.read_bytes()
    broken = moved.with_name("broken")
    broken.write_bytes(
        data.draw(
            st.integers(0, len(intact) - 1).map(lambda size: intact[:size])
            | st.binary(min_size=1, max_size=40).map(lambda more: intact + more)
        )
    )
    with pytest.raises(ExportDamaged):
        import_journal(broken, path, OWNER, NETWORK)
    assert not path.exists()


def sealed_up(body: bytes) -> bytes:
    return body + sha256(body).digest()


ENTRY = ("vote", slot(1), b"v")
FORMAT = b"outcry/journal-export/1\n"


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"outcry/journal-export/2\n" + b"\x90", "another version"),
        (FORMAT + b"\x90", "not a"),
        (FORMAT + codec.encode((OWNER, NETWORK, [], [ENTRY, ENTRY])), "doubled"),
        (FORMAT + codec.encode((OWNER, NETWORK, [("vote", slot(1))], [ENTRY])), "pruned"),
        (FORMAT + codec.encode((OWNER, NETWORK, [("b", None), ("a", None)], [])), "order"),
        (FORMAT + codec.encode((OWNER, NETWORK, [], [("k" * 33, b"", b"")])), "too long"),
        (FORMAT + codec.encode((OWNER, NETWORK, [], [("k", bytes(129), b"")])), "too long"),
        (
            FORMAT + codec.encode((OWNER, NETWORK, [], [("k", b"", bytes(VALUE_BYTES_MAX + 1))])),
            "too long",
        ),
    ],
)
def test_what_no_journal_can_hold_is_refused(
    tmp_path: Path, path: Path, body: bytes, what: str
) -> None:
    (tmp_path / "made").write_bytes(sealed_up(body))
    with pytest.raises(ExportDamaged, match=what):
        import_journal(tmp_path / "made", path, OWNER, NETWORK)
    assert not path.exists()


def test_an_oversized_file_is_not_read(
    moved: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_transfer, "EXPORT_BYTES_MAX", 100)
    with pytest.raises(ExportDamaged, match="at most 100"):
        import_journal(moved, path, OWNER, NETWORK)


@pytest.mark.parametrize(
    ("here", "kept", "value"),
    [
        (range(1, 12), None, b"v"),  # signed later than the export
        (range(7, 9), None, b"other"),  # signed something else in the same slot
        (range(1, 10), 2, b"v"),  # forgotten later than the export
        (range(9, 10), 0, b"v"),
    ],
)
def test_a_journal_that_signed_more_is_not_replaced(
    moved: Path, path: Path, here: range, kept: int | None, value: bytes
) -> None:
    write(path, here, pruned_to=kept, value=value)
    before = contents(path)
    with pytest.raises(JournalNewer) as caught:
        import_journal(moved, path, OWNER, NETWORK)
    assert caught.value.code == "E619"
    assert contents(path) == before
    journal = Journal.open(path, OWNER, NETWORK)
    assert not journal.watch
    journal.close()


def test_a_kind_that_only_this_journal_has_signed_is_not_lost(moved: Path, path: Path) -> None:
    journal = Journal.open(path, OWNER, NETWORK, once=("rollup",))
    journal.write([("rollup", slot(1), b"r")])
    journal.close()
    with pytest.raises(JournalNewer, match="rollup"):
        import_journal(moved, path, OWNER, NETWORK)


@pytest.mark.parametrize(
    ("here", "kept"), [(range(0), None), (range(1, 8), None), (range(1, 8), 3)]
)
def test_an_older_journal_is_replaced(
    moved: Path, path: Path, here: range, kept: int | None
) -> None:
    write(path, here, pruned_to=kept)
    import_journal(moved, path, OWNER, NETWORK)
    assert list(contents(path)["vote"]) == [slot(number) for number in range(5, 11)]


def test_a_kind_declared_here_stays_guarded(moved: Path, path: Path) -> None:
    Journal.open(path, OWNER, NETWORK, once=("rollup",)).close()
    import_journal(moved, path, OWNER, NETWORK)
    journal = Journal.open(path, OWNER, NETWORK)
    journal.write([("rollup", slot(1), b"r")])
    with pytest.raises(SlotTaken):
        journal.write([("rollup", slot(1), b"s")])
    journal.close()


def test_an_import_that_does_not_fit_leaves_what_was_there(tmp_path: Path, path: Path) -> None:
    source, moved = tmp_path / "source.db", tmp_path / "moved"
    journal = Journal.open(source, OWNER, NETWORK, once=ONCE)
    journal.write([("vote", slot(number), bytes(1_000)) for number in range(1, 50)])
    journal.close()
    export_journal(source, moved, OWNER, NETWORK)
    write(path, range(1, 1))
    with pytest.raises(DiskFull):
        import_journal(moved, path, OWNER, NETWORK, bytes_max=40_000)
    assert contents(path)["vote"] == {}
    assert len(contents(path)["block"]) == 1
    import_journal(moved, path, OWNER, NETWORK)
    assert len(contents(path)["vote"]) == 49


# ---- sealed, and waiting -----------------------------------------------------------------------


def test_an_imported_journal_watches_until_it_is_told(moved: Path, path: Path) -> None:
    assert import_journal(moved, path, OWNER, NETWORK).watch
    for _ in range(2):
        journal = Journal.open(path, OWNER, NETWORK)
        assert journal.watch
        journal.close()
    journal = Journal.open(path, OWNER, NETWORK)
    journal.end_watch()
    assert not journal.watch
    journal.close()
    journal = Journal.open(path, OWNER, NETWORK, watch=True)
    assert not journal.watch
    journal.close()


def test_a_journal_begun_for_a_key_with_history_watches(path: Path) -> None:
    journal = Journal.open(path, OWNER, NETWORK, watch=True)
    assert journal.watch
    journal.write([("safety", b"", b"blocks may be kept meanwhile")])
    journal.close()
    assert inspect_journal(path, OWNER, NETWORK).watch


def test_an_emptied_file_is_begun_anew_and_watches(path: Path) -> None:
    path.touch()
    journal = Journal.open(path, OWNER, NETWORK, watch=True)
    assert journal.watch
    journal.close()


def test_a_plain_restart_does_not_watch(path: Path) -> None:
    Journal.open(path, OWNER, NETWORK).close()
    journal = Journal.open(path, OWNER, NETWORK, watch=True)
    assert not journal.watch
    journal.close()


def test_the_source_takes_its_export_back(source: Path, moved: Path) -> None:
    found = import_journal(moved, source, OWNER, NETWORK)
    assert found.watch
    assert not found.sealed
    assert list(contents(source)["vote"]) == [slot(number) for number in range(5, 11)]


def test_a_journal_moves_there_and_back(
    tmp_path: Path, source: Path, moved: Path, path: Path
) -> None:
    import_journal(moved, path, OWNER, NETWORK)
    journal = Journal.open(path, OWNER, NETWORK)
    journal.write([("vote", slot(11), b"signed elsewhere")])
    journal.close()
    export_journal(path, tmp_path / "back", OWNER, NETWORK)
    import_journal(tmp_path / "back", source, OWNER, NETWORK)
    assert contents(source)["vote"][slot(11)] == b"signed elsewhere"
    with pytest.raises(JournalNewer):
        import_journal(moved, source, OWNER, NETWORK)


def test_a_seal_is_taken_off_by_a_person_and_then_watches(source: Path, moved: Path) -> None:
    assert moved.exists()
    found = resume_journal(source, OWNER, NETWORK)
    assert (found.sealed, found.watch) == (False, True)
    journal = Journal.open(source, OWNER, NETWORK)
    assert journal.watch
    journal.close()


def test_a_journal_that_is_not_sealed_has_nothing_to_resume(source: Path) -> None:
    assert not resume_journal(source, OWNER, NETWORK).watch


def test_a_summary_knows_the_last_slot_of_every_kind(source: Path) -> None:
    journal = Journal.open(source, OWNER, NETWORK)
    journal.write([("report", slot(3), b"r")])
    journal.prune("report", 0)
    journal.close()
    found = {item.kind: item for item in inspect_journal(source, OWNER, NETWORK).kinds}
    assert (found["vote"].entries, found["vote"].last) == (6, slot(10))
    assert (found["report"].entries, found["report"].last) == (0, slot(3))
    assert found["vote"].once
    assert not found["safety"].once


# ---- laws --------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(st.just("write"), st.sampled_from([*ONCE, "safety"]), st.integers(0, 12))
    | st.tuples(st.just("prune"), st.sampled_from(ONCE), st.integers(0, 3)),
    max_size=20,
)


def history(path: Path, steps: list[tuple[str, str, int]], value: bytes = b"v") -> None:
    """Carry out steps; writes that the journal refuses are left out, as a validator would."""
    journal = Journal.open(path, OWNER, NETWORK, once=ONCE)
    for what, kind, number in steps:
        if what == "prune":
            journal.prune(kind, number)
            continue
        try:
            journal.write([(kind, slot(number), value + slot(number))])
        except SlotTaken:
            continue
    journal.close()


def closed(path: Path) -> set[tuple[str, int]]:
    """The slots that take no new value; a copy is asked, not the journal itself."""
    copy = path.with_name(path.name + ".asked")
    copy.write_bytes(path.read_bytes())
    found = refused(copy, [(kind, number) for kind in ONCE for number in range(14)])
    copy.unlink()
    return found


@settings(max_examples=25)
@given(steps=STEPS)
def test_export_and_import_are_the_identity(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("law")
    history(folder / "a.db", steps)
    before, shut = contents(folder / "a.db"), closed(folder / "a.db")
    export_journal(folder / "a.db", folder / "moved", OWNER, NETWORK)
    import_journal(folder / "moved", folder / "b.db", OWNER, NETWORK)
    assert contents(folder / "b.db") == before
    assert closed(folder / "b.db") == shut


@settings(max_examples=25)
@given(shared=STEPS, here=STEPS, there=STEPS)
def test_a_closed_slot_never_opens(
    tmp_path_factory: pytest.TempPathFactory,
    shared: list[tuple[str, str, int]],
    here: list[tuple[str, str, int]],
    there: list[tuple[str, str, int]],
) -> None:
    folder = tmp_path_factory.mktemp("law")
    history(folder / "a.db", shared + there)
    history(folder / "b.db", shared + here)
    shut, before = closed(folder / "b.db"), contents(folder / "b.db")
    export_journal(folder / "a.db", folder / "moved", OWNER, NETWORK)
    try:
        import_journal(folder / "moved", folder / "b.db", OWNER, NETWORK)
    except JournalNewer:
        assert contents(folder / "b.db") == before
        assert here
    assert closed(folder / "b.db") >= shut
