"""Runs ranges of seeds: here, in several processes, or on a Dask cluster.

    report = run_range(0, 1_000, "agreement", workers=2)
    report.failures == []

Seeds are independent, so the same range gives the same outcomes however it is spread.
"""

import multiprocessing
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass

from devnet.simulation.checks import NAMES
from devnet.simulation.dask_cluster import on_dask
from devnet.simulation.outcome import Outcome
from devnet.simulation.scenario import generate
from devnet.simulation.world import World

SEEDS_PER_CHUNK = 8  # seeds that one process or worker gets at once
CHUNKS_AHEAD_MAX = 4  # chunks waiting for each process; further ones are not made yet
FAILURES_ITEMS_MAX = 64  # failing seeds that a report names; more are only counted

Progress = Callable[[Outcome], None]
Results = Generator[Outcome, None, None]


@dataclass(frozen=True)
class Report:
    """What a range of seeds came to. `per_second` counts scenarios by the wall clock.

    The sums are over all seeds: `virtual_ms` of virtual time, `blocks` and `envelopes` executed,
    restarts after `crashes`, `messages` sent and `lost`, `evidence` found against liars.
    """

    nodes: str
    first_seed: int
    end_seed: int
    scenarios: int
    passed: int
    failures: list[Outcome]
    checks: tuple[str, ...]
    spread: str
    seconds: float
    per_second: float
    virtual_ms: int
    blocks: int
    envelopes: int
    crashes: int
    messages: int
    lost: int
    evidence: int


def run_seed(seed: int, nodes: str = "agreement", count: int | None = None) -> Outcome:
    """The outcome of one seed."""
    return World(generate(seed, nodes, count)).run()


def run_chunk(seeds: tuple[int, ...], nodes: str, count: int | None) -> list[Outcome]:
    """The outcomes of some seeds; what other processes are given."""
    return [run_seed(seed, nodes, count) for seed in seeds]


def run_range(
    first: int,
    end: int,
    nodes: str = "agreement",
    *,
    count: int | None = None,
    workers: int = 1,
    dask: str | None = None,
    seconds_max: float | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run the seeds from `first` up to but without `end`, or as many as fit `seconds_max`.

    Errors: `DaskMissing`, `DaskUnreachable`, `DaskWorkerUnfit`, `DaskStalled`.
    """
    started = time.monotonic()
    chunks = _chunks(first, end)
    if dask is not None:
        results, spread = on_dask(chunks, nodes, count, dask), f"dask {dask}"
    elif workers > 1:
        results, spread = _on_processes(chunks, nodes, count, workers), f"{workers} processes"
    else:
        results, spread = _here(chunks, nodes, count), "1 process"
    sums = _Sums()
    for outcome in results:
        sums.add(outcome)
        if progress is not None:
            progress(outcome)
        if seconds_max is not None and time.monotonic() - started > seconds_max:
            results.close()
            break
    return sums.report(nodes, first, end, spread, time.monotonic() - started)


class _Sums:
    """The growing report."""

    def __init__(self) -> None:
        self._scenarios = self._failed = 0
        self._failures: list[Outcome] = []
        self._totals = dict.fromkeys(
            ("virtual_ms", "height", "executed", "crashes", "messages", "lost", "evidence"), 0
        )

    def add(self, outcome: Outcome) -> None:
        self._scenarios += 1
        if outcome.violation is not None:
            self._failed += 1
            self._failures.append(outcome)
        for name in self._totals:
            self._totals[name] += getattr(outcome, name)

    def report(self, nodes: str, first: int, end: int, spread: str, seconds: float) -> Report:
        totals = self._totals
        failures = sorted(self._failures, key=lambda outcome: outcome.seed)
        return Report(
            nodes=nodes,
            first_seed=first,
            end_seed=end,
            scenarios=self._scenarios,
            passed=self._scenarios - self._failed,
            failures=failures[:FAILURES_ITEMS_MAX],
            checks=NAMES,
            spread=spread,
            seconds=round(seconds, 3),
            per_second=round(self._scenarios / max(seconds, 1e-9), 3),
            virtual_ms=totals["virtual_ms"],
            blocks=totals["height"],
            envelopes=totals["executed"],
            crashes=totals["crashes"],
            messages=totals["messages"],
            lost=totals["lost"],
            evidence=totals["evidence"],
        )


def _chunks(first: int, end: int) -> Iterator[tuple[int, ...]]:
    for start in range(first, end, SEEDS_PER_CHUNK):
        yield tuple(range(start, min(end, start + SEEDS_PER_CHUNK)))


def _here(chunks: Iterator[tuple[int, ...]], nodes: str, count: int | None) -> Results:
    for chunk in chunks:
        for seed in chunk:
            yield run_seed(seed, nodes, count)


def _on_processes(
    chunks: Iterator[tuple[int, ...]], nodes: str, count: int | None, workers: int
) -> Results:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        pending = set()
        for chunk in chunks:
            pending.add(pool.submit(run_chunk, chunk, nodes, count))
            if len(pending) >= workers * CHUNKS_AHEAD_MAX:
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield from future.result()
        while pending:
            done, pending = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                yield from future.result()
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()  # what they compute is of no use to anybody any more
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
