"""What a planted bug is, how it is judged, and the list of all of them.

for mutant in all_mutants():
    verdict = judge(mutant)
    assert verdict.is_caught, verdict.problem
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec

from tests.mutants.engines import Engine, Finding

PLACES = Path(__file__).with_name("places.json")
GROUPS = (
    "voting",
    "timeouts",
    "recovery",
    "epochs",
    "order",
    "storage",
    "money",
)

NOT_PLANTED = {
    "vote-without-envelopes": "shows only together with an execution that does not wait: more than "
    "a third of the power, honest and with journaled envelopes, reported each envelope of a batch",
    "tally-kept-over-an-epoch": "harmless while the set stays the same (docs/decisions/0009); "
    "to be planted when sets change",
    "vote-not-repeated": "a lost vote costs a round, which is given up: planted with the timeout "
    "in timeout-said-once",
}
"""Mistakes that show nothing by themselves, and why."""


@dataclass(frozen=True)
class Mutant:
    """One mistake in the real code.

    mistake  what somebody could have written, in one sentence
    source   where it is known from; "own" when nowhere
    plant    makes the mistake, and takes it back
    engine   the scenario in which it shows
    check    the named check that must catch it there
    note     what a reader of the table should know beside
    """

    name: str
    mistake: str
    source: str
    plant: Callable[[], AbstractContextManager[None]]
    engine: Engine
    check: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a mutant fared. `problem` is empty when all is as it must be; `seconds` of CPU time."""

    name: str
    source: str
    mistake: str
    engine: str
    place: str
    check: str
    sentence: str
    seconds: float
    problem: str
    note: str

    @property
    def is_caught(self) -> bool:
        return not self.problem


def judge(mutant: Mutant) -> Verdict:
    """Run a mutant without faults and with them, and its scenario without the mutant."""
    began = time.process_time()
    with mutant.plant():
        calm, caught = _guarded(mutant.engine.calm), _guarded(mutant.engine.run)
    clean = _guarded(mutant.engine.run)
    seconds = round(time.process_time() - began, 2)
    return Verdict(
        name=mutant.name,
        source=mutant.source,
        mistake=mutant.mistake,
        engine=mutant.engine.kind,
        place=mutant.engine.place,
        check=mutant.check if caught is None else caught.check,
        sentence="" if caught is None else caught.sentence,
        seconds=seconds,
        problem=_problem(mutant, calm, caught, clean),
        note=mutant.note,
    )


def _guarded(run: Callable[[], Finding | None]) -> Finding | None:
    """What an engine finds; what it raises is found too, but counts as no check of ours."""
    try:
        return run()
    except Exception as error:  # noqa: BLE001  # guard: of an engine; a crash must not end the table
        return Finding("crash", f"{type(error).__name__}: {error}")


def _problem(
    mutant: Mutant, calm: Finding | None, caught: Finding | None, clean: Finding | None
) -> str:
    if calm is not None:
        return f"fails without faults: {calm.check}: {calm.sentence}"
    if clean is not None:
        return f"the scenario fails without the mutant: {clean.check}: {clean.sentence}"
    if caught is None:
        return "escapes"
    if caught.check != mutant.check:
        return f"is caught by {caught.check}, not by {mutant.check}: {caught.sentence}"
    return ""


def patched(*changes: tuple[Any, str, Any]) -> AbstractContextManager[None]:
    """(owner, name, value): set attributes or, in a dictionary, entries; and set them back."""

    @contextmanager
    def all_of_them() -> Iterator[None]:
        with ExitStack() as stack:
            for owner, name, value in changes:
                if isinstance(owner, dict):
                    stack.enter_context(patch.dict(owner, {name: value}))
                else:
                    stack.enter_context(patch.object(owner, name, value))
            yield

    return all_of_them()


def read_places() -> dict[str, int]:
    """The seed or index at which each mutant shows."""
    return msgspec.json.decode(PLACES.read_bytes(), type=dict[str, int])


def all_mutants() -> list[Mutant]:
    """Every mutant, group by group, each at its place."""
    found: list[Mutant] = []
    for group in GROUPS:
        found += import_module(f"tests.mutants.{group}").MUTANTS
    names = [mutant.name for mutant in found]
    assert len(set(names)) == len(names), "every mutant has a name of its own"
    places = read_places()
    return [
        replace(mutant, engine=mutant.engine.at(places.get(mutant.name, 0))) for mutant in found
    ]


def search(mutant: Mutant, tries: int) -> int | None:
    """The first place of `tries` at which a mutant is caught as it must be."""
    for count in range(tries):
        engine = mutant.engine.candidate(count)
        with mutant.plant():
            caught = _guarded(engine.run)
        if caught is not None and caught.check == mutant.check:
            candidate = replace(mutant, engine=engine)
            if judge(candidate).is_caught:
                return engine.number
    return None
