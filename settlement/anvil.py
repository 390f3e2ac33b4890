"""Finding an anvil binary, and its command line. It is an extra: nothing else needs it.

Looked for in this order: the file that OUTCRY_ANVIL names, PATH, and below `.extras/` of a
checkout, where the npm package's binary runs without Node.
"""

import os
import shutil
from pathlib import Path

from settlement.dev_accounts import ACCOUNTS_FUNDED, MNEMONIC

ENVIRONMENT_NAME = "OUTCRY_ANVIL"
BELOW_ROOT = (
    ".extras/bin/anvil",
    ".extras/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil",
)
BLOCK_GAS_LIMIT = 60_000_000
STATE_INTERVAL_S = 1  # a kill -9 loses at most what the last second mined


def find_anvil(root: Path | None = None) -> Path | None:
    """The anvil binary, or None; `root` is a checkout (by default the working directory)."""
    named = os.environ.get(ENVIRONMENT_NAME)
    candidates = [Path(named)] if named else []
    on_path = shutil.which("anvil")
    candidates += [Path(on_path)] if on_path else []
    candidates += [(root or Path.cwd()) / place for place in BELOW_ROOT]
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def anvil_command(binary: Path, port: int, state_dir: Path, chain_id: int) -> list[str]:
    """The command that serves a Prague chain on 127.0.0.1:`port`, its state in `state_dir`."""
    return [
        str(binary),
        "--host=127.0.0.1",
        f"--port={port}",
        f"--chain-id={chain_id}",
        "--hardfork=prague",
        f"--gas-limit={BLOCK_GAS_LIMIT}",
        f"--state={state_dir / 'anvil-state.json'}",
        f"--state-interval={STATE_INTERVAL_S}",
        f"--mnemonic={MNEMONIC}",
        f"--accounts={ACCOUNTS_FUNDED}",
        "--balance=10000",
        "--silent",
    ]
