"""`python -m benchmarks`: every benchmark; one table, and benchmarks/out/latest.json."""

import argparse

from benchmarks import cluster, engine
from benchmarks.rows import show, write


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=int, default=cluster.SECONDS, help="of each cluster load")
    parser.add_argument("--only", choices=("engine", "cluster"), help="run one of the two")
    arguments = parser.parse_args()
    rows = []
    if arguments.only != "cluster":
        rows += engine.measure()
    if arguments.only != "engine":
        rows += cluster.measure(arguments.seconds)
    show(rows, title="Outcry beside its peers")
    write(rows)


if __name__ == "__main__":
    main()
