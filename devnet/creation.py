"""Making a new cluster: keys, contracts, genesis, one directory per node, funded traders."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devnet.layout import ClusterState, Layout, NodeState, TraderState
from devnet.processes import free_ports
from exchange.genesis import ExchangeGenesis, Market, Token
from exchange.network import NetworkGenesis, TokenContract
from node.genesis import save_genesis
from node.keys import NodeKeys, create_keys, save_keys
from primitives.durable import replace_file
from primitives.secp256k1 import EvmKey, checksum_address
from settlement import Deployer, Deployment, TokenPlan, dev_key

CHAIN_ID = 31_337
LOOPBACK = "127.0.0.1"
VALIDATORS_MAX = 16  # more processes do not fit one machine: refused by the command line
TRADERS_MAX = 1_024
_GAS_WEI = 10**18
_SCRYPT_N = 1 << 12  # keystores of a development network hold nothing worth a second of waiting
_ROLLUP_INTERVAL_MS = 2_000
_EPOCH_MS = 60_000
_FUNDS_TOKENS = 1_000_000
FEE_SECRET = b"outcry devnet fee account secret"

PLANS = (
    TokenPlan("XOM", "Outcry stake token", 18, 10**10),
    TokenPlan("USD", "Test dollar", 6, 1),
)
TOKENS = [Token("XOM", 8), Token("USD", 6)]
MARKETS = [Market("XOM-USD", 0, 1, 10**6, 1, 1_000, 2_000)]
TRADER_NAMES = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")


@dataclass(frozen=True)
class Plan:
    """What to make: how many validators, gateways and funded traders."""

    validators: int = 5
    gateways: int = 0
    traders: int = 4
    evm_kind: str = "embedded"


@dataclass(frozen=True)
class Wiring:
    """How the nodes of a cluster reach each other and the chain; directly unless said otherwise.

    addresses: multiaddr by (who dials, whom); without one, the address where the node listens
    hosts: IP address by node where it listens, 127.0.0.1 without one
    commands: by node what stands in front of its command line, as in `ip netns exec`
    evm: URL of the chain as nodes see it, empty for the one in the state
    """

    addresses: Mapping[tuple[str, str], str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)
    commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    evm: str = ""

    def host(self, name: str) -> str:
        """Where a node listens."""
        return self.hosts.get(name, LOOPBACK)


DIRECT = Wiring()


def trader_name(number: int) -> str:
    return TRADER_NAMES[number] if number < len(TRADER_NAMES) else f"trader{number}"


def create(layout: Layout, plan: Plan, evm: str) -> ClusterState:
    """Make everything below `layout` for a chain that answers at `evm`."""
    layout.root.mkdir(parents=True, exist_ok=True)
    passphrase = secrets.token_urlsafe(16)
    replace_file(layout.passphrase, passphrase.encode(), mode=0o600)
    count = plan.validators + plan.gateways
    names = [f"v{i}" for i in range(plan.validators)] + [f"g{i}" for i in range(plan.gateways)]
    keys = {name: create_keys() for name in names}
    traders = [_trader(number) for number in range(plan.traders)]
    deployment = _deploy(evm, [keys[name] for name in names[: plan.validators]], traders)
    genesis = _genesis(names[: plan.validators], keys, deployment)
    save_genesis(layout.genesis, genesis)
    ports = free_ports(2 * count)
    nodes = [
        NodeState(
            name=name,
            role="validator" if number < plan.validators else "gateway",
            index=number if number < plan.validators else None,
            api=f"http://127.0.0.1:{ports[2 * number]}",
            p2p=f"/ip4/127.0.0.1/tcp/{ports[2 * number + 1]}/p2p/{keys[name].peer_id()}",
            peer_id=keys[name].peer_id(),
            evm_address=checksum_address(keys[name].evm_key().address),
        )
        for number, name in enumerate(names)
    ]
    for name in names:
        layout.node(name).mkdir(parents=True, exist_ok=True)
        save_keys(layout.node(name) / "keys.json", keys[name], passphrase, scrypt_n=_SCRYPT_N)
    state = ClusterState(
        network=genesis.network_id().hex(),
        chain_id=deployment.chain_id,
        vault=deployment.vault,
        tokens={token.symbol: token.address for token in deployment.tokens},
        evm=evm,
        evm_kind=plan.evm_kind,
        nodes=nodes,
        traders=traders,
    )
    write_configs(layout, state)
    return state


def write_configs(layout: Layout, state: ClusterState, wiring: Wiring = DIRECT) -> None:
    """One config.toml per node, from the endpoints in `state`."""
    for node in state.nodes:
        others = [
            f'"{wiring.addresses.get((node.name, other.name), other.p2p)}"'
            for other in state.nodes
            if other.name != node.name
        ]
        text = _CONFIG.format(
            name=node.name,
            role=node.role,
            genesis=_quoted(layout.genesis),
            p2p_port=node.p2p.split("/")[4],
            bootstrap=", ".join(others),
            api_port=node.api.rpartition(":")[2],
            host=wiring.host(node.name),
            evm=wiring.evm or state.evm,
        )
        replace_file(layout.node(node.name) / "config.toml", text.encode())


_CONFIG = """\
[node]
name = "{name}"
role = "{role}"
genesis = {genesis}
keystore = "keys.json"
data = "data"

[p2p]
listen = "{host}:{p2p_port}"
bootstrap = [{bootstrap}]

[api]
listen = "{host}:{api_port}"

[evm]
endpoints = ["{evm}"]
confirmations = 0
"""


def _quoted(path: Path) -> str:
    """A path as a TOML basic string."""
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _trader(number: int) -> TraderState:
    key = EvmKey(secrets.token_bytes(32))
    return TraderState(
        name=trader_name(number),
        address=checksum_address(key.address),
        evm_secret="0x" + key.secret.hex(),
    )


def _deploy(evm: str, validators: list[NodeKeys], traders: list[TraderState]) -> Deployment:
    """Put tokens and vault on the chain; give validators and traders what they need."""
    with Deployer(evm, dev_key(0)) as deployer:
        owners = [keys.evm_key().address for keys in validators]
        deployment = deployer.deploy(owners, list(PLANS))
        accounts = [bytes.fromhex(trader.address[2:]) for trader in traders]
        deployer.send_gas([*owners, *accounts], _GAS_WEI)
        for account in accounts:
            for token, kind in enumerate(TOKENS):
                deployer.mint(deployment, token, account, _FUNDS_TOKENS * 10**kind.decimals)
        return deployment


def _genesis(names: list[str], keys: dict[str, NodeKeys], deployment: Deployment) -> NetworkGenesis:
    validators = [keys[name].public(name, 1) for name in names]
    exchange = ExchangeGenesis(
        chain_id=deployment.chain_id,
        tokens=TOKENS,
        markets=MARKETS,
        fee_account=EvmKey(FEE_SECRET).address,
        powers=[1] * len(names),
        rollup_interval_ms=_ROLLUP_INTERVAL_MS,
    )
    return NetworkGenesis(
        name="devnet",
        time_ms=time.time_ns() // 1_000_000,
        exchange=exchange,
        validators=validators,
        vault=deployment.vault_bytes,
        vault_block=deployment.block,
        contracts=[TokenContract(token.address_bytes, token.scale) for token in deployment.tokens],
        epoch_ms=_EPOCH_MS,
    )
