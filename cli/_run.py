"""Running a command's asynchronous part, with logs kept out of its output."""

import logging
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
import trio

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`; a fault inside task groups comes out as itself."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        return trio.run(work)
    except BaseExceptionGroup as group:
        found = first_of(group)
        if found is None:
            raise
        raise found from None


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
