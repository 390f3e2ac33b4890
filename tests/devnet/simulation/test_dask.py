"""Ranges of seeds on a real Dask cluster: a scheduler and workers as processes on loopback."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devnet.faults import DaskMissing, DaskStalled, DaskUnreachable, DaskWorkerUnfit
from devnet.processes import free_ports
from devnet.simulation import run_range
from devnet.simulation.outcome import Outcome

READY_S_MAX = 60
REFUSAL_S_MAX = 60  # far above the deadline of connecting, for a busy machine
SEEDS = 48
SAME = ("scenarios", "passed", "virtual_ms", "blocks", "envelopes", "crashes", "messages", "lost")


@dataclass
class DaskCluster:
    """A scheduler, and the workers that a test starts."""

    directory: Path
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, module: str, *arguments: str, without_outcry: bool = False) -> int:
        """Start one process of Dask; its pid."""
        environment = dict(os.environ)
        if without_outcry:
            environment["PYTHONPATH"] = str(elsewhere(self.directory))
        log = self.directory / f"{module}-{len(self.processes)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
                cwd=self.directory,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process.pid

    def start_scheduler(self) -> int:
        """Without Outcry: a scheduler needs none."""
        known = self.directory / "scheduler.json"
        words = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        pid = self.start(
            "dask_scheduler", *words, "--scheduler-file", str(known), without_outcry=True
        )
        deadline = time.monotonic() + READY_S_MAX
        while not self.address:
            assert time.monotonic() < deadline, "the scheduler does not start"
            time.sleep(0.05)
            if known.exists() and known.stat().st_size:
                self.address = json.loads(known.read_text())["address"]
        return pid

    def start_worker(self, *, without_outcry: bool = False) -> int:
        return self.start(
            "dask_worker",
            *(self.address, "--host", "127.0.0.1", "--no-nanny", "--nthreads", "1"),
            *("--no-dashboard", "--local-directory", str(self.directory / "work")),
            without_outcry=without_outcry,
        )

    def wait_for_workers(self, count: int) -> None:
        from dask.distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=READY_S_MAX)

    def end(self, pid: int, number: int = signal.SIGKILL) -> None:
        (process,) = [item for item in self.processes if item.pid == pid]
        process.send_signal(number)
        process.wait(READY_S_MAX)

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait(READY_S_MAX)


def elsewhere(directory: Path) -> Path:
    """A place whose modules hide those of Outcry, as where it is not installed."""
    hidden = directory / "hidden"
    for room in ("devnet", "node", "consensus", "primitives"):
        (hidden / room).mkdir(parents=True, exist_ok=True)
        (hidden / room / "__init__.py").write_text("raise ImportError('not installed here')\n")
    return hidden


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[DaskCluster]:
    cluster = DaskCluster(tmp_path)
    try:
        cluster.start_scheduler()
        yield cluster
    finally:
        cluster.close()


def once(what: Callable[[], Any]) -> Callable[[Outcome], None]:
    """Progress that does something at the first outcome."""
    done: list[Any] = []

    def progress(_outcome: Outcome) -> None:
        if not done:
            done.append(what())

    return progress


@pytest.mark.cluster
def test_a_dask_cluster_gives_the_same_outcomes(dask: DaskCluster) -> None:
    for _ in range(2):
        dask.start_worker()
    dask.wait_for_workers(2)
    seen: list[Outcome] = []
    report = run_range(0, SEEDS, count=4, dask=dask.address, progress=seen.append)
    here: list[Outcome] = []
    expected = run_range(0, SEEDS, count=4, progress=here.append)
    assert sorted(seen, key=lambda outcome: outcome.seed) == here
    assert [getattr(report, name) for name in SAME] == [getattr(expected, name) for name in SAME]
    assert report.spread == f"dask {dask.address}"


@pytest.mark.cluster
def test_a_worker_killed_in_the_middle_loses_no_seed(dask: DaskCluster) -> None:
    victim = dask.start_worker()
    dask.start_worker()
    dask.wait_for_workers(2)
    seen: list[int] = []
    kill = once(lambda: dask.end(victim))

    def progress(outcome: Outcome) -> None:
        seen.append(outcome.seed)
        kill(outcome)

    report = run_range(0, SEEDS, count=4, dask=dask.address, progress=progress)
    assert sorted(seen) == list(range(SEEDS))
    assert report.passed == SEEDS


@pytest.mark.cluster
def test_a_worker_without_outcry_is_told_what_it_lacks(dask: DaskCluster) -> None:
    dask.start_worker(without_outcry=True)
    with pytest.raises(DaskWorkerUnfit, match=r"not installed here.*; install this version"):
        run_range(0, 2, count=4, dask=dask.address)


@pytest.mark.cluster
def test_a_worker_with_another_version_is_refused(
    dask: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    dask.start_worker()
    monkeypatch.setattr("devnet.simulation.dask_cluster.software_version", lambda: "99.0")
    with pytest.raises(DaskWorkerUnfit, match=r"here is 99\.0"):
        run_range(0, 2, count=4, dask=dask.address)


@pytest.mark.cluster
def test_a_cluster_without_workers_is_not_waited_for_without_end(
    dask: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnet.simulation.dask_cluster.WORKERS_TIMEOUT_S", 1)
    with pytest.raises(DaskStalled, match="dask worker tcp://"):
        run_range(0, 2, count=4, dask=dask.address)


@pytest.mark.cluster
def test_workers_that_give_no_result_are_not_waited_for_without_end(
    dask: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = dask.start_worker()
    dask.wait_for_workers(1)
    monkeypatch.setattr("devnet.simulation.dask_cluster.RESULT_TIMEOUT_S", 2)
    with pytest.raises(DaskStalled, match="gave a result"):
        run_range(0, 1_000, count=4, dask=dask.address, progress=once(lambda: dask.end(pid)))


@pytest.mark.cluster
def test_a_scheduler_that_dies_ends_the_run(tmp_path: Path) -> None:
    cluster = DaskCluster(tmp_path)
    try:
        pid = cluster.start_scheduler()
        cluster.start_worker()
        kill = once(lambda: cluster.end(pid))
        with pytest.raises(DaskUnreachable):
            run_range(0, 1_000, count=4, dask=cluster.address, progress=kill)
    finally:
        cluster.close()


@pytest.mark.parametrize("listening", [False, True])
def test_a_scheduler_that_does_not_answer_is_refused_in_time(
    listening: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnet.simulation.dask_cluster.CONNECT_TIMEOUT_S", 2)
    (port,) = free_ports(1)
    silent = socket.create_server(("127.0.0.1", port)) if listening else None
    started = time.monotonic()
    try:
        with pytest.raises(DaskUnreachable, match=f"tcp://127.0.0.1:{port}"):
            run_range(0, 1, count=4, dask=f"tcp://127.0.0.1:{port}")
    finally:
        if silent is not None:
            silent.close()
    assert time.monotonic() - started < REFUSAL_S_MAX


@pytest.mark.parametrize("address", ["", "nonsense://x", "tcp://", "no such name"])
def test_what_is_no_address_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devnet.simulation.dask_cluster.CONNECT_TIMEOUT_S", 1)
    with pytest.raises(DaskUnreachable):
        run_range(0, 1, count=4, dask=address)


def test_without_dask_a_cluster_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask", None)
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(DaskMissing, match="pip install"):
        run_range(0, 1, dask="tcp://127.0.0.1:1")
