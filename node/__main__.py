"""`python -m node config.toml`: run one node until it is stopped."""

import sys
from pathlib import Path

from node.process import run_node
from primitives.faults import Fault

_ARGUMENTS = 2
EXIT_REFUSED = 1
EXIT_USAGE = 2


def main() -> int:
    """0 after a clean stop, 1 after a fault, 2 for wrong use."""
    if len(sys.argv) != _ARGUMENTS:
        sys.stderr.write("usage: python -m node CONFIG.toml\n")
        return EXIT_USAGE
    try:
        run_node(Path(sys.argv[1]))
    except Fault as fault:
        return _refuse([fault])
    except BaseExceptionGroup as group:
        faults, others = group.split(Fault)
        if faults is None or others is not None:
            raise
        return _refuse(_leaves(faults))
    return 0


def _refuse(faults: list[Fault]) -> int:
    for fault in faults:
        sys.stderr.write(f"error {fault.code}: {fault}\n")
    return EXIT_REFUSED


def _leaves(group: BaseExceptionGroup[Fault]) -> list[Fault]:
    out: list[Fault] = []
    for item in group.exceptions:
        out += _leaves(item) if isinstance(item, BaseExceptionGroup) else [item]
    return out


if __name__ == "__main__":
    sys.exit(main())
