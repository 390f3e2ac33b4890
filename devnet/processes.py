"""Starting and stopping the processes of a cluster.

A process is known by its pid and its start time, so that a pid which the system gave to
somebody else is never signalled.
"""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from devnet.faults import NotReadyInTime, ProcessDied

STOP_MS_MAX = 15_000  # a process that takes longer to stop is killed
POLL_MS = 50
LOG_TAIL_BYTES_MAX = 2_000


def free_ports(count: int) -> list[int]:
    """`count` different free TCP ports on loopback."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def is_free(port: int) -> bool:
    """Whether a TCP port on loopback can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def start(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> int:
    """Start a process in a session of its own, its output appended to `log`; its pid."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment},
        )
    return process.pid


def find(pid: int | None, marker: str) -> psutil.Process | None:
    """The running process `pid` if `marker` stands in its command line, else None."""
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            _reap(pid)
            return None
        return process if any(marker in part for part in process.cmdline()) else None
    except psutil.Error:
        return None


def stop(process: psutil.Process) -> None:
    """Ask a process to stop, wait, and kill it if it does not."""
    try:
        process.resume()
        process.terminate()
        process.wait(STOP_MS_MAX / 1_000)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(STOP_MS_MAX / 1_000)
    except psutil.NoSuchProcess:
        pass
    _reap(process.pid)


def kill(process: psutil.Process) -> None:
    """End a process without any chance to clean up (kill -9)."""
    try:
        process.kill()
        process.wait(STOP_MS_MAX / 1_000)
    except psutil.NoSuchProcess:
        pass
    _reap(process.pid)


def wait_until(
    ready: Callable[[], bool], alive: Callable[[], bool], what: str, log: Path, ms_max: int
) -> None:
    """Wait until `ready()`. Errors: `ProcessDied` and `NotReadyInTime`, with the log's end."""
    deadline = time.monotonic() + ms_max / 1_000
    while not ready():
        if not alive():
            raise ProcessDied(f"{what} ended by itself; its log {log} ends with:\n{tail(log)}")
        if time.monotonic() > deadline:
            raise NotReadyInTime(
                f"{what} was not ready after {ms_max // 1_000} s; {log} ends with:\n{tail(log)}"
            )
        time.sleep(POLL_MS / 1_000)


def tail(log: Path) -> str:
    """The end of a log file."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - LOG_TAIL_BYTES_MAX))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _reap(pid: int) -> None:
    """Collect the exit status of a child, so that no zombie stays behind."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
