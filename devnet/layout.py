"""Where a cluster keeps what: one directory, one JSON file that describes it.

devnet-state/
  cluster.json         what runs where: endpoints, pids, funded accounts
  genesis.json
  passphrase           of all keystores; this is a development network
  evm/                 the chain's state
  nodes/v0/            config.toml, keys.json, data/, node.log
  traders/alice.json   funded accounts with their EVM keys
"""

from pathlib import Path

import msgspec

from devnet.faults import NoCluster
from primitives.durable import replace_file

STATE_FILE_BYTES_MAX = 1 << 20  # a larger cluster.json is refused with E901


class NodeState(msgspec.Struct, kw_only=True):
    """One node: its name, its role, its endpoints, and its process while it runs."""

    name: str
    role: str
    index: int | None
    api: str
    p2p: str
    peer_id: str
    evm_address: str
    pid: int | None = None


class TraderState(msgspec.Struct, kw_only=True):
    """A funded account of the development network; its key is for play only."""

    name: str
    address: str
    evm_secret: str


class ClusterState(msgspec.Struct, kw_only=True):
    """The whole of cluster.json. `evm_kind` is embedded or anvil."""

    network: str
    chain_id: int
    vault: str
    tokens: dict[str, str]
    evm: str
    evm_kind: str
    evm_pid: int | None = None
    nodes: list[NodeState]
    traders: list[TraderState]


class Layout:
    """The paths below one state directory."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.cluster = self.root / "cluster.json"
        self.genesis = self.root / "genesis.json"
        self.passphrase = self.root / "passphrase"
        self.evm = self.root / "evm"

    def node(self, name: str) -> Path:
        return self.root / "nodes" / name

    def node_log(self, name: str) -> Path:
        return self.node(name) / "node.log"

    def exists(self) -> bool:
        return self.cluster.exists()

    def load(self) -> ClusterState:
        """Errors: `NoCluster`."""
        try:
            data = self.cluster.read_bytes()
            if len(data) > STATE_FILE_BYTES_MAX:
                raise NoCluster(f"{self.cluster} is too large to describe a cluster")
            return msgspec.json.decode(data, type=ClusterState)
        except OSError:
            raise NoCluster(
                f"there is no cluster in {self.root}; make one with: outcry devnet up"
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise NoCluster(f"{self.cluster} does not describe a cluster: {error}") from None

    def save(self, state: ClusterState) -> None:
        replace_file(self.cluster, msgspec.json.format(msgspec.json.encode(state), indent=2))
