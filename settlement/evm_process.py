"""Starting an EVM chain's process, the embedded one or anvil, by one small interface.

    command = evm_command("embedded", port, state_dir, chain_id)
    process = await nursery.start(trio.run_process, command)
    await wait_ready(f"http://127.0.0.1:{port}", deadline_s=20)

The embedded chain takes port 0 too, and then tells its real one in `state_dir/ready.json`.
"""

import sys
from pathlib import Path
from typing import Literal

import httpx
import msgspec
import trio

from settlement.anvil import anvil_command, find_anvil
from settlement.faults import AnvilMissing, EvmNotReady

READY_FILE_NAME = "ready.json"
PROBE_INTERVAL_S = 0.05
PROBE_TIMEOUT_S = 2.0

EvmKind = Literal["embedded", "anvil"]


class _ChainIdAnswer(msgspec.Struct):
    result: str


def evm_command(
    kind: EvmKind, port: int, state_dir: Path, chain_id: int, root: Path | None = None
) -> list[str]:
    """The command line of a chain on 127.0.0.1:`port` that keeps its state in `state_dir`.

    `state_dir` is made if it is missing. `root` is where anvil may lie, see `settlement.anvil`.
    Errors: `AnvilMissing`; ValueError for anvil on port 0, which would not tell its real one.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    if kind == "anvil":
        binary = find_anvil(root)
        if binary is None:
            raise AnvilMissing
        if port == 0:
            raise ValueError("anvil needs a port that is known beforehand")
        return anvil_command(binary, port, state_dir, chain_id)
    # A ready file of an earlier process would name a port that nobody serves any more.
    ready_file = state_dir / READY_FILE_NAME
    ready_file.unlink(missing_ok=True)
    return [
        *(sys.executable, "-m", "settlement.evm"),
        *("--port", str(port)),
        *("--state", str(state_dir)),
        *("--chain-id", str(chain_id)),
        *("--ready-file", str(ready_file)),
    ]


async def wait_ready(url: str, deadline_s: float) -> int:
    """Wait until a chain answers at `url`; returns its chain id.

    Errors: `EvmNotReady` after `deadline_s` seconds.
    """
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False) as client:
        with trio.move_on_after(deadline_s):
            while True:
                try:
                    answer = await client.post(url, json=question)
                    return int(msgspec.json.decode(answer.content, type=_ChainIdAnswer).result, 16)
                except (httpx.HTTPError, msgspec.DecodeError, ValueError):
                    await trio.sleep(PROBE_INTERVAL_S)
    raise EvmNotReady(url, deadline_s)
