#!/usr/bin/env python3
"""Write the state tables of `consensus.states` into docs/consensus.md; `--check` only compares."""

import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from consensus.states import BALLOTS, VOICES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "consensus.md"
BEGIN = "<!-- tables: made by scripts/consensus_tables.py -->\n"
END = "<!-- /tables -->\n"


def section() -> str:
    """The text between the two marks."""
    parts = [
        "**One round, as one validator sees it.** It signs only what the table has a step for;",
        "leaving the round ends it in any state.\n",
        _table(BALLOTS),
        "**Whether a validator signs at all.**\n",
        _table(VOICES),
    ]
    return "\n".join(parts)


def _table(table: Mapping[Enum, Mapping[Enum, Enum]]) -> str:
    lines = ["```mermaid", "stateDiagram-v2"]
    for state, steps in table.items():
        for step, after in steps.items():
            lines.append(f"    {_name(state)} --> {_name(after)}: {step.value}")
        if not steps:
            lines.append(f"    {_name(state)} --> [*]")
    return "\n".join([*lines, "```", ""])


def _name(state: Enum) -> str:
    return str(state.value).replace(" ", "_")


def page_with_section(text: str) -> str:
    """The page with its section written anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{section()}\n{END}{after}"


def main() -> int:
    text = PAGE.read_text()
    wanted = page_with_section(text)
    if "--check" in sys.argv[1:]:
        if text != wanted:
            print(f"{PAGE.name} is out of date; run: scripts/consensus_tables.py")
        return int(text != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
