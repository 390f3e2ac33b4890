"""A node's process: `python -m node config.toml` runs until it is told to stop.

SIGINT and SIGTERM stop it cleanly. It prints one line of JSON when it answers:
{"event": "ready", "api": "http://127.0.0.1:8001", ...}.
"""

import gc
import os
import signal
import sys
import threading
from pathlib import Path

import structlog
import trio

from node.api.server import serve_api
from node.config import Config, load_config, passphrase, split_listen
from node.keys import NodeKeys, load_keys
from node.logs import configure_logs
from node.opening import open_node

log = structlog.get_logger(__name__)

STOP_MS_MAX = 10_000  # after this the process ends even if something does not stop
EXIT_STUCK = 4
RECURSION_FRAMES_MAX = 1_000  # libraries raise it at import beyond what a stack holds
GC_THRESHOLD_OBJECTS = 50_000  # young objects between two collections; keeps pauses rare


def run_node(path: Path) -> None:
    """Run the node that the configuration at `path` describes, until it is stopped.

    Errors: `ConfigInvalid`, `GenesisInvalid`, `KeysMismatch`, and those of keystore, storage
    and p2p, as they are.
    """
    sys.setrecursionlimit(RECURSION_FRAMES_MAX)
    config = load_config(path)
    configure_logs(config.log)
    keys = load_keys(config.path(config.node.keystore), passphrase())
    trio.run(_main, config, keys)


async def _main(config: Config, keys: NodeKeys) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_on_signal, nursery.cancel_scope)
        async with open_node(config, keys) as (node, journal), trio.open_nursery() as inner:
            await inner.start(node.run, journal)
            host, port = split_listen(config.api.listen)
            url = await inner.start(serve_api, node, host, port)
            gc.collect()
            gc.freeze()
            gc.set_threshold(GC_THRESHOLD_OBJECTS)
            log.info("ready", api=url, role=node.role, name=node.name)
        nursery.cancel_scope.cancel()


async def _stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("stopping", signal=signal.Signals(number).name)
            last_resort = threading.Timer(STOP_MS_MAX / 1_000, os._exit, [EXIT_STUCK])
            last_resort.daemon = True
            last_resort.start()
            scope.cancel()
            return
