"""Running a command's asynchronous part, with logs kept out of its output."""

import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import structlog
import trio

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`; a fault inside task groups comes out as itself.

    SIGTERM ends it as Ctrl-C does: everything is closed, then KeyboardInterrupt comes out.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    told = _Told()
    try:
        with _handling_sigterm(told.note):
            result: T = trio.run(_until_told, work, told)
    except BaseExceptionGroup as group:
        found = first_of(group)
        if found is None:
            raise
        raise found from None
    if told.is_told:
        raise KeyboardInterrupt  # it came while the loop was closing
    return result


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """In synchronous code: the first SIGTERM interrupts as Ctrl-C does, the clean-up goes on.

    An event loop must not run meanwhile, except by `run`, which takes SIGTERM for itself.
    """
    told = False

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            raise KeyboardInterrupt

    with _handling_sigterm(interrupt):
        yield


class _Told:
    """Whether SIGTERM came while nobody in the loop listened."""

    def __init__(self) -> None:
        self.is_told = False

    def note(self, _number: int, _frame: FrameType | None) -> None:
        self.is_told = True


async def _until_told(work: Callable[[], Awaitable[T]], told: _Told) -> T:
    """The handler of a signal would raise anywhere, also inside the loop: a task raises here."""
    async with trio.open_nursery() as nursery:
        await nursery.start(_interrupt_when_told, told)
        result = await work()
        nursery.cancel_scope.cancel()
    return result


async def _interrupt_when_told(told: _Told, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        if told.is_told:
            raise KeyboardInterrupt
        async for _ in signals:
            raise KeyboardInterrupt


@contextmanager
def _handling_sigterm(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The first exception of a group of groups; an interruption goes before all others."""
    leaves = _leaves(group)
    for leaf in leaves:
        if isinstance(leaf, KeyboardInterrupt):
            return leaf
    return leaves[0] if leaves else None


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for inner in group.exceptions:
        found += _leaves(inner) if isinstance(inner, BaseExceptionGroup) else [inner]
    return found
