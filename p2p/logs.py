"""What libp2p writes to the log."""

import logging

# Their errors are about single peers; this room counts and logs those by itself.
_NOISY = (
    "libp2p.host.basic_host",
    "libp2p.identity",
    "libp2p.network",
    "libp2p.pubsub",
    "libp2p.stream_muxer",
    "libp2p.transport",
)


def quiet_libp2p(level: int = logging.ERROR) -> None:
    """Send libp2p's records from `level` up to the root logger, and silence its noise.

    libp2p cuts itself off from the root logger when it is imported, and then prints warnings
    to stderr. Handlers and formats stay the caller's business; call this once at start.
    """
    libp2p = logging.getLogger("libp2p")
    libp2p.propagate = True
    libp2p.setLevel(level)
    if not logging.getLogger().handlers:
        # Without any handler `logging` would install one of its own at the first message.
        logging.getLogger().addHandler(logging.NullHandler())
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.startswith("libp2p.") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)  # some modules set levels of their own
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(level, logging.CRITICAL))
