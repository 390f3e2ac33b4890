"""The embedded EVM chain as a process of its own, for development networks and tests.

    python -m settlement.evm --port 0 --state DIR --chain-id 31337 --ready-file FILE

serves eth-tester's py-evm (Prague) as JSON-RPC 2.0 on 127.0.0.1. It mines every transaction at
once, in a block of its own, and answers after that block is on the disk, so that kill -9 loses
nothing that was answered. The first ten accounts of the mnemonic "test test ... junk" hold
10,000 ether each. The ready file appears when requests are served:
`{"url", "port", "pid", "chain_id", "accounts"}`. SIGTERM and SIGINT stop it cleanly, exit 0;
a state directory that it cannot continue is exit 1.

Only this process imports py-evm; `settlement.chain` does not.
"""

import argparse
import os
import signal
import sys
import threading
from pathlib import Path

import msgspec
import structlog

from primitives.durable import replace_file
from primitives.secp256k1 import checksum_address
from settlement._evm_chain import EmbeddedChain
from settlement._evm_rpc import Rpc
from settlement._evm_server import HOST, EvmServer
from settlement.faults import EvmStateUnusable

log = structlog.get_logger(__name__)

CHAIN_ID_DEFAULT = 31_337
STOP_POLL_S = 0.2
# py-evm and py_ecc raise the interpreter's limit when they are imported, py_ecc to 100,000: more
# than the stack of a thread holds. What py-evm needs for 1,024 nested calls is enough, and the
# stacks are made to hold it: a contract that calls itself must not end the process.
FRAMES_MAX = 10_240
STACK_BYTES = 128 * 1_048_576  # of address space, a thread; memory is used as it is needed


class Ready(msgspec.Struct, frozen=True):
    """What the ready file holds."""

    url: str
    port: int
    pid: int
    chain_id: int
    accounts: list[str]


def main(arguments: list[str] | None = None) -> int:
    """Serve until told to stop; returns the exit code."""
    options = _parser().parse_args(arguments)
    sys.setrecursionlimit(FRAMES_MAX)
    threading.stack_size(STACK_BYTES)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    stop = threading.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop.set())
    try:
        chain = EmbeddedChain(options.state, options.chain_id)
    except EvmStateUnusable as fault:
        log.error("evm_state_unusable", code=fault.code, fault=fault.sentence)
        return 1
    try:
        server = EvmServer(Rpc(chain), options.port)
    except OSError as fault:
        chain.close()
        log.error("evm_port_taken", port=options.port, fault=fault.strerror)
        return 1
    thread = threading.Thread(target=server.serve_forever, args=(STOP_POLL_S,), daemon=True)
    thread.start()
    ready = Ready(
        url=f"http://{HOST}:{server.port}",
        port=server.port,
        pid=os.getpid(),
        chain_id=chain.chain_id,
        accounts=[checksum_address(account) for account in chain.accounts],
    )
    if options.ready_file is not None:
        replace_file(options.ready_file, msgspec.json.encode(ready))
    log.info("evm_ready", url=ready.url, chain_id=ready.chain_id, block=chain.head_number)
    stop.wait()
    server.shutdown()
    server.server_close()
    chain.close()
    log.info("evm_stopped")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m settlement.evm", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="directory of the chain")
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID_DEFAULT)
    parser.add_argument("--ready-file", type=Path, help="written when requests are served")
    return parser


if __name__ == "__main__":
    sys.exit(main())
