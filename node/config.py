"""A node's configuration: one TOML file, checked before anything starts.

[node]
name = "alice"              # must be a validator's name in the genesis, or any for a gateway
role = "validator"          # or "gateway"
genesis = "genesis.json"    # paths are relative to this file
keystore = "keys.json"
data = "data"

[p2p]
listen = "127.0.0.1:4001"
bootstrap = ["/ip4/127.0.0.1/tcp/4002/p2p/12D3KooW..."]

[api]
listen = "127.0.0.1:8001"

[evm]
endpoints = ["http://127.0.0.1:8545"]
confirmations = 0
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from consensus import Timing
from node.faults import ConfigInvalid

CONFIG_BYTES_MAX = 65_536  # larger files are refused with E430
PASSPHRASE_VARIABLE = "OUTCRY_PASSPHRASE"
_PORT_MAX = 65_535
_USUAL = Timing()

Listen = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z.:\[\]-]+:[0-9]{1,5}$")]
Milliseconds = Annotated[int, msgspec.Meta(ge=1, le=600_000)]


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    role: Literal["validator", "gateway"] = "validator"
    genesis: str = "genesis.json"
    keystore: str = "keys.json"
    data: str = "data"


class P2pSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: Listen = "127.0.0.1:0"
    bootstrap: list[str] = []


class ApiSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: Listen = "127.0.0.1:0"
    requests_per_second: Annotated[int, msgspec.Meta(ge=1)] = 2_000
    envelopes_per_second: Annotated[int, msgspec.Meta(ge=1)] = 5_000


class EvmSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    endpoints: list[str]
    confirmations: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 12
    poll_ms: Milliseconds = 500


class TimingSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See `consensus.timing`; a node may choose its own."""

    block_interval_ms: Milliseconds = _USUAL.block_interval_ms
    idle_interval_ms: Milliseconds = _USUAL.idle_interval_ms
    report_interval_ms: Milliseconds = _USUAL.report_interval_ms
    report_idle_ms: Milliseconds = _USUAL.report_idle_ms
    round_timeout_ms: Milliseconds = _USUAL.round_timeout_ms

    def timing(self) -> Timing:
        return Timing(**msgspec.structs.asdict(self))


class LogSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file; `directory` is where it lies, and is not part of it."""

    node: NodeSection
    evm: EvmSection
    p2p: P2pSection = P2pSection()
    api: ApiSection = ApiSection()
    timing: TimingSection = TimingSection()
    log: LogSection = LogSection()
    directory: str = ""

    def path(self, name: str) -> Path:
        """A path from the file, relative to the file."""
        return Path(self.directory, name)


def load_config(path: Path) -> Config:
    """The configuration in the TOML file at `path`. Errors: `ConfigInvalid`."""
    try:
        text = path.read_bytes()
        if len(text) > CONFIG_BYTES_MAX:
            raise ConfigInvalid(f"{path} is too large to be a configuration")
        table = tomllib.loads(text.decode())
        if "directory" in table:
            raise ConfigInvalid(f"{path}: unknown field `directory`")
        config = msgspec.convert({**table, "directory": str(path.parent.resolve())}, Config)
    except OSError as error:
        raise ConfigInvalid(
            f"cannot read {path}: {error.strerror}; "
            "give the path of a node.toml (outcry init makes one for a new node)"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigInvalid(f"{path}: {error}") from None
    for listen in (config.p2p.listen, config.api.listen):
        if int(listen.rpartition(":")[2]) > _PORT_MAX:
            raise ConfigInvalid(f"{path}: {listen} has no such port")
    return config


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of `host:port`."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def passphrase() -> str:
    """The keystore's passphrase from the environment, empty when it is not set."""
    return os.environ.get(PASSPHRASE_VARIABLE, "")
