"""Plants every known mistake and prints what caught it.

    python -m tests.mutants                    all of them, as a table
    python -m tests.mutants --list             only their names
    python -m tests.mutants --only ancestors-newest-first --json F
    python -m tests.mutants --search 300       after the rules have changed: new seeds for those
                                               that escape now, written to places.json

Exits with 1 when a mutant escapes, when its scenario fails without it, or when it fails without
faults; with 2 when no mutant has the name that was asked for.
"""

import argparse
import logging
import sys
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import structlog
from rich.console import Console
from rich.table import Table

from primitives.durable import replace_file
from tests.mutants.registry import (
    NOT_PLANTED,
    PLACES,
    Mutant,
    Verdict,
    all_mutants,
    judge,
    read_places,
    search,
)

WIDTH_MIN_COLUMNS = 110


def main() -> int:
    arguments = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    mutants = all_mutants()
    if arguments.only:
        mutants = [mutant for mutant in mutants if mutant.name in arguments.only]
        missing = set(arguments.only) - {mutant.name for mutant in mutants}
        if missing:
            print(f"no mutant is called {', '.join(sorted(missing))}; --list names all of them")
            return 2
    if arguments.list:
        for mutant in mutants:
            print(f"{mutant.name:44} {mutant.mistake}")
        return 0
    if arguments.search:
        mutants = [_placed(mutant, arguments.search) for mutant in mutants]
    verdicts = [_judged(mutant) for mutant in mutants]
    _print(verdicts)
    if arguments.json:
        replace_file(arguments.json.absolute(), _json(verdicts))
    return 0 if all(verdict.is_caught for verdict in verdicts) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutants ARGS=...", description="planted bugs")
    parser.add_argument("--json", type=Path, metavar="F", help="write the verdicts to a file too")
    parser.add_argument("--only", action="append", metavar="NAME", help="this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="only say which there are")
    parser.add_argument(
        "--search", type=int, metavar="N", help="try N new seeds for each that escapes"
    )
    return parser.parse_args()


def _placed(mutant: Mutant, tries: int) -> Mutant:
    """The mutant at a place where it is caught, if there is one; the place is kept."""
    if judge(mutant).is_caught:
        return mutant
    number = search(mutant, tries)
    print(f"{mutant.name}: {'nothing found' if number is None else number}", flush=True)
    if number is None:
        return mutant
    places = read_places() | {mutant.name: number}
    wire = msgspec.json.encode(dict(sorted(places.items())))
    replace_file(PLACES, msgspec.json.format(wire, indent=2) + b"\n")
    return replace(mutant, engine=mutant.engine.at(number))


def _judged(mutant: Mutant) -> Verdict:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{mutant.name}", end="", file=sys.stderr, flush=True)
    verdict = judge(mutant)
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    return verdict


def _print(verdicts: list[Verdict]) -> None:
    console = Console(soft_wrap=False)
    if console.width < WIDTH_MIN_COLUMNS:
        console = Console(width=WIDTH_MIN_COLUMNS)
    table = Table(box=None, pad_edge=False)
    for title in ("mutant", "from", "engine", "where", "caught by", "s"):
        table.add_column(title, overflow="fold", justify="right" if title == "s" else "left")
    for verdict in verdicts:
        caught = verdict.check if verdict.is_caught else "NOT AS IT MUST BE"
        table.add_row(
            verdict.name,
            verdict.source,
            verdict.engine,
            verdict.place,
            caught,
            f"{verdict.seconds:.1f}",
        )
    console.print(table)
    for verdict in verdicts:
        if verdict.note:
            console.print(f"{verdict.name}: {verdict.note}", highlight=False)
    for name, why in NOT_PLANTED.items():
        console.print(f"not planted: {name}: {why}", highlight=False)
    for verdict in verdicts:
        if verdict.problem:
            console.print(f"{verdict.name}: {verdict.problem}", highlight=False, markup=False)
    caught_count = sum(verdict.is_caught for verdict in verdicts)
    seconds = sum(verdict.seconds for verdict in verdicts)
    console.print(f"{caught_count} of {len(verdicts)} caught, {seconds:.0f} s")


def _json(verdicts: list[Verdict]) -> bytes:
    rows = [asdict(verdict) | {"caught": verdict.is_caught} for verdict in verdicts]
    caught_count = sum(verdict.is_caught for verdict in verdicts)
    report = {"mutants": rows, "caught": caught_count, "not_planted": NOT_PLANTED}
    return msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"


if __name__ == "__main__":
    sys.exit(main())
