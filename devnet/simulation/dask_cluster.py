"""A range of seeds on the workers of a Dask cluster.

    for outcome in on_dask(chunks, "agreement", None, "tcp://10.0.0.1:8786"):
        ...

Workers need this version of Outcry in their environment; the scheduler needs only Dask. A worker
may come, and may die: what it had begun is given to another one.
"""

import asyncio
from collections.abc import Callable, Generator, Iterator
from importlib import import_module
from typing import Any

from devnet.faults import DaskMissing, DaskStalled, DaskUnreachable, DaskWorkerUnfit
from devnet.simulation.outcome import Outcome
from node.status import software_version

CHUNKS_AHEAD_MAX = 4  # chunks waiting for each thread of a worker; further ones are not made yet
CONNECT_TIMEOUT_S = 10  # a scheduler that does not answer within this: E913
WORKERS_TIMEOUT_S = 60  # a cluster without a worker for so long: E919
RESULT_TIMEOUT_S = 1_800  # no result at all for so long: E919; a chunk takes seconds to minutes
UNFIT = "outcry unfit: "  # how a worker begins the sentence that says why it cannot take part

Chunks = Iterator[tuple[int, ...]]


def on_dask(
    chunks: Chunks, nodes: str, count: int | None, address: str
) -> Generator[Outcome, None, None]:
    """The outcomes of all chunks, in the order in which they come back.

    Errors: `DaskMissing`, `DaskUnreachable`, `DaskWorkerUnfit`, `DaskStalled`.
    """
    distributed = _distributed()
    client = _connect(distributed, address)
    try:
        yield from _spread(distributed, client, chunks, _work(nodes, count), address)
    except (distributed.CancelledError, distributed.comm.CommClosedError) as error:
        raise DaskUnreachable(address) from error
    finally:
        client.close()


def _spread(
    distributed: Any, client: Any, chunks: Chunks, work: Callable[..., Any], address: str
) -> Generator[Outcome, None, None]:
    threads = _threads(client, address)
    pending: set[Any] = set()
    while True:
        while len(pending) < threads * CHUNKS_AHEAD_MAX:
            chunk = next(chunks, None)
            if chunk is None:
                break
            pending.add(client.submit(work, chunk, pure=False))
        if not pending:
            return
        try:
            done, pending = distributed.wait(
                pending, timeout=RESULT_TIMEOUT_S, return_when="FIRST_COMPLETED"
            )
        except TimeoutError:
            raise DaskStalled(address, f"gave a result within {RESULT_TIMEOUT_S} s") from None
        for future in done:
            yield from _outcomes(distributed, future, address)


def _outcomes(distributed: Any, future: Any, address: str) -> list[Outcome]:
    """What a chunk came to. Errors: `DaskWorkerUnfit`, `DaskStalled`, the simulation's own."""
    try:
        outcomes: list[Outcome] = future.result(timeout=RESULT_TIMEOUT_S)
    except RuntimeError as error:
        begin, found, why = str(error).partition(UNFIT)
        if begin or not found:
            raise
        raise DaskWorkerUnfit(address, why) from None
    except distributed.KilledWorker as error:
        raise DaskStalled(address, f"survived a chunk of seeds ({error})") from error
    except TimeoutError:
        raise DaskStalled(address, f"handed its result over in {RESULT_TIMEOUT_S} s") from None
    return outcomes


def _work(nodes: str, count: int | None) -> Callable[..., Any]:
    """What a worker is given; sent as code, so that a worker without Outcry can say so.

    It may name nothing of this module but what it encloses: all else is imported over there.
    """
    wanted, unfit = software_version(), UNFIT

    def chunk_over_there(seeds: tuple[int, ...]) -> Any:
        from importlib import import_module as load

        try:
            found = load("node.status").software_version()
            run = load("devnet.simulation.runner").run_chunk
        except (ImportError, AttributeError) as error:
            raise RuntimeError(f"{unfit}{type(error).__name__}: {error}") from None
        if found != wanted:
            raise RuntimeError(f"{unfit}it has version {found}, here is {wanted}")
        return run(seeds, nodes, count)

    return chunk_over_there


def _threads(client: Any, address: str) -> int:
    """How many seeds the cluster runs at once, as soon as it has a worker."""
    try:
        client.wait_for_workers(1, timeout=WORKERS_TIMEOUT_S)
    except TimeoutError:
        raise DaskStalled(address, f"came within {WORKERS_TIMEOUT_S} s") from None
    threads: dict[str, int] = client.ncores()
    return max(1, sum(threads.values()))


def _distributed() -> Any:
    """Errors: `DaskMissing`."""
    try:
        return import_module("dask.distributed")
    except ImportError as error:
        raise DaskMissing() from error


def _connect(distributed: Any, address: str) -> Any:
    """Errors: `DaskUnreachable`."""
    try:
        asyncio.run(_greet(distributed, address))
        return distributed.Client(address, timeout=CONNECT_TIMEOUT_S)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise DaskUnreachable(address) from error


async def _greet(distributed: Any, address: str) -> None:
    """Exchange greetings once: the client itself waits for an answer without end.

    Errors: OSError, TimeoutError, ValueError.
    """
    words = distributed.Security().get_connection_args("client")
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        comm = await distributed.comm.connect(address, timeout=CONNECT_TIMEOUT_S, **words)
        await comm.close()
