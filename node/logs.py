"""Structured logs: one JSON object a line, or coloured text for a person."""

import logging
import sys

import structlog

from node.config import LogSection
from p2p import quiet_libp2p

_NOISY = ("httpx", "httpcore", "web3", "urllib3")  # a line per request, several times a second


def configure_logs(section: LogSection) -> None:
    """Send structlog and the standard library's loggers to standard output."""
    level = logging.getLevelNamesMapping()[section.level.upper()]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if section.format == "json"
        else structlog.dev.ConsoleRenderer()
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=renderer, foreign_pre_chain=shared)
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    quiet_libp2p()
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)
