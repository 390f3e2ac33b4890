"""What `outcry doctor` looks at: each check gives lines of ok, warn or fail, and what to do.

A check never raises for what it finds: a finding is its result.
"""

import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal

import httpx
import msgspec

from exchange.network import NetworkGenesis
from node.config import Config, split_listen
from node.genesis import load_genesis
from node.keys import NodeKeys, load_keys
from node.opening import JOURNAL_BYTES_MAX, JOURNAL_NAME
from node.status import Status
from primitives.faults import LocalFault
from primitives.secp256k1 import checksum_address
from storage import JournalExported, inspect_journal
from storage.faults import JournalInUse

CLOCK_SKEW_S_WARN = 2.0  # HTTP dates have a resolution of one second
CLOCK_SKEW_S_FAIL = 10.0  # messages and reports of such a node are refused
FSYNC_ROUNDS = 20
FSYNC_BYTES = 4_096
FSYNC_MS_WARN = 20.0  # one flush delays every vote
CONNECT_TIMEOUT_S = 3.0
RPC_TIMEOUT_S = 5.0
PEERS_TRIED_MAX = 64  # of the bootstrap list

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where "everywhere" answers

_ADDRESS = re.compile(r"/(?:ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/(\d{1,5})(?:/.*)?")


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, how it is, and what to do about it (empty when ok)."""

    check: str
    state: Literal["ok", "warn", "fail"]
    what: str
    advice: str = ""


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


def warn(check: str, what: str, advice: str) -> Finding:
    return Finding(check, "warn", what, advice)


def fail(check: str, what: str, advice: str) -> Finding:
    return Finding(check, "fail", what, advice)


def blamed(check: str, fault: LocalFault) -> Finding:
    """A fault as a failure: its advice follows the last semicolon of its sentence."""
    what, found, advice = fault.sentence.rpartition("; ")
    text = what if found else fault.sentence
    return fail(check, f"{fault.code}: {text}", advice if found else "see docs/errors.md")


def check_genesis(config: Config) -> tuple[NetworkGenesis | None, Finding]:
    """Whether the genesis document is there and holds together."""
    path = config.path(config.node.genesis)
    try:
        genesis = load_genesis(path)
    except LocalFault as fault:
        return None, blamed("genesis", fault)
    identity = genesis.network_id().hex()
    return genesis, ok("genesis", f"{genesis.name}, network 0x{identity[:16]}...")


def check_keystore(
    config: Config, genesis: NetworkGenesis | None, passphrase: str
) -> tuple[NodeKeys | None, Finding]:
    """Whether the keystore opens, and belongs to the validator that the configuration names."""
    path = config.path(config.node.keystore)
    try:
        keys = load_keys(path, passphrase)
    except LocalFault as fault:
        return None, blamed("keystore", fault)
    if path.stat().st_mode & 0o077:
        return keys, warn("keystore", f"others may read {path}", f"chmod 600 {path}")
    if config.node.role == "validator" and genesis is not None:
        public = keys.signing().public
        named = [item.consensus for item in genesis.validators if item.name == config.node.name]
        if named != [public]:
            what = f"the genesis has no validator {config.node.name} with this consensus key"
            return keys, fail("keystore", what, "check name and keystore, or become a gateway")
    return keys, ok("keystore", f"opens; consensus key 0x{keys.signing().public.hex()[:16]}...")


def check_journal(
    config: Config, genesis: NetworkGenesis | None, keys: NodeKeys | None
) -> tuple[bool, Finding]:
    """Whether the vote journal is this key's and lets it sign; also: whether a node runs on it."""
    path = config.path(config.node.data) / JOURNAL_NAME
    if config.node.role == "gateway":
        return False, ok("journal", "a gateway signs no votes and needs none")
    if genesis is None or keys is None:
        return False, warn("journal", "not looked at", "repair genesis and keystore first")
    if not path.exists():
        advice = "fine for a new node; if this key ever voted, restore its journal first"
        return False, warn("journal", "there is none yet", advice)
    try:
        found = inspect_journal(
            path, keys.signing().public, genesis.network_id(), bytes_max=JOURNAL_BYTES_MAX
        )
    except JournalInUse as fault:
        return True, ok("journal", fault.sentence.partition(";")[0])
    except LocalFault as fault:
        return False, blamed("journal", fault)
    if found.sealed:
        return False, blamed("journal", JournalExported(path))
    if found.watch:
        what = "belongs to this keystore, but watches: signs nothing until an epoch has begun"
        return False, warn(
            "journal", what, "start the node and let it run: the wait ends by itself"
        )
    return False, ok("journal", "opens, belongs to this keystore, and may sign")


def check_running(config: Config, genesis: NetworkGenesis | None) -> tuple[bool, list[Finding]]:
    """Whether this very node runs, by what its API says; nothing when nobody answers there."""
    host, port = split_listen(config.api.listen)
    if port == 0 or genesis is None:
        return False, []
    host = _LOOPBACK.get(host, host)
    url = f"http://[{host}]:{port}/v1/status" if ":" in host else f"http://{host}:{port}/v1/status"
    try:
        with httpx.Client(timeout=RPC_TIMEOUT_S, trust_env=False) as http:
            told = msgspec.json.decode(http.get(url).content, type=Status)
    except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError):
        return False, []
    wanted = (genesis.network_id().hex(), config.node.role, config.node.name)
    if (told.network, told.role, told.name) != wanted:
        what = f"another node answers at {config.api.listen}: {told.role} {told.name}"
        advice = "change [api] listen, or look at that node with its own configuration"
        return False, [warn("node", what, advice)]
    what = f"runs as process {told.pid}, at height {told.height}"
    if told.role == "validator" and not told.signing:
        advice = "let it run: it signs again when it has caught up and the next epoch has begun"
        return True, [warn("node", f"{what}, and signs nothing", advice)]
    return True, [ok("node", what)]


def check_disk(config: Config) -> Finding:
    """How long the data directory takes to make a write durable."""
    folder = config.path(config.node.data)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        worst, mean = _flush_ms(folder)
    except OSError as error:
        what = f"cannot write in {folder}: {error.strerror}"
        return fail("disk", what, "give the directory to the user that runs the node")
    what = f"fsync takes {mean:.1f} ms on average, {worst:.1f} ms at worst"
    if mean > FSYNC_MS_WARN:
        return warn("disk", what, "move the data directory to a faster disk: every vote waits")
    return ok("disk", what)


def _flush_ms(folder: Path) -> tuple[float, float]:
    """The slowest and the mean flush of a small file, in milliseconds."""
    path = folder / f".doctor.{os.getpid()}"
    taken = []
    try:
        with path.open("wb") as file:
            for _ in range(FSYNC_ROUNDS):
                begun = time.perf_counter()
                file.write(bytes(FSYNC_BYTES))
                file.flush()
                os.fsync(file.fileno())
                taken.append((time.perf_counter() - begun) * 1_000)
    finally:
        path.unlink(missing_ok=True)
    return max(taken), sum(taken) / len(taken)


def check_ports(config: Config, *, is_running: bool) -> Iterator[Finding]:
    """Whether the two ports can be had, or are held by the node that runs."""
    for name, listen in (("p2p port", config.p2p.listen), ("api port", config.api.listen)):
        host, port = split_listen(listen)
        if port == 0:
            yield warn(name, f"{listen}: a free one, another at each start", "choose a port")
            continue
        free = _is_free(host, port)
        if free and is_running:
            yield warn(name, f"a node runs, but not on {listen}", "restart it to use this port")
        elif free:
            yield ok(name, f"{listen} is free")
        elif is_running:
            yield ok(name, f"{listen} is in use, as it should be: the node runs")
        else:
            yield fail(name, f"{listen} cannot be had", "stop what uses it, or change `listen`")


def _is_free(host: str, port: int) -> bool:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError:
        return False
    return True


def check_peers(config: Config) -> Iterator[Finding]:
    """Whether the bootstrap addresses accept connections."""
    wanted = config.p2p.bootstrap[:PEERS_TRIED_MAX]
    if not wanted:
        yield warn("peers", "no bootstrap address", "name other nodes in [p2p] bootstrap")
        return
    reached = 0
    for address in wanted:
        match = _ADDRESS.fullmatch(address)
        if match is None:
            yield fail("peers", f"{address} is no address", "write /ip4/HOST/tcp/PORT/p2p/ID")
            continue
        try:
            socket.create_connection((match[1], int(match[2])), CONNECT_TIMEOUT_S).close()
            reached += 1
        except (OSError, OverflowError) as error:
            advice = "ask its operator, or check the firewall"
            yield warn("peers", f"{address} does not answer ({error})", advice)
    if reached:
        yield ok("peers", f"{reached} of {len(wanted)} bootstrap addresses answer")
    else:
        yield fail("peers", "no bootstrap address answers", "check the network and the addresses")


def check_chain(
    config: Config, genesis: NetworkGenesis | None, keys: NodeKeys | None
) -> Iterator[Finding]:
    """Whether each EVM endpoint answers, is the right chain, has the vault, and can be paid."""
    for endpoint in config.evm.endpoints:
        with httpx.Client(timeout=RPC_TIMEOUT_S, trust_env=False) as http:
            try:
                yield from _check_endpoint(http, endpoint, genesis, keys)
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
                what = f"{endpoint} does not answer ({type(error).__name__}: {error})"
                yield fail("evm", what, "start the chain, or correct [evm] endpoints")


def _check_endpoint(
    http: httpx.Client, endpoint: str, genesis: NetworkGenesis | None, keys: NodeKeys | None
) -> Iterator[Finding]:
    chain_id = int(_rpc(http, endpoint, "eth_chainId"), 16)
    head = _rpc(http, endpoint, "eth_getBlockByNumber", "latest", False)
    ahead_s = int(head["timestamp"], 16) - time.time()
    if ahead_s > CLOCK_SKEW_S_FAIL:
        # A busy development chain counts a second per block, so this alone proves nothing.
        what = f"the newest EVM block is {ahead_s:.0f} s in this machine's future"
        yield warn("evm time", what, "set the clock (NTP), unless it is a development chain")
    if genesis is None:
        yield warn("evm", f"{endpoint} serves chain {chain_id}", "repair the genesis first")
        return
    wanted = genesis.exchange.chain_id
    if chain_id != wanted:
        what = f"{endpoint} serves chain {chain_id}, the genesis says {wanted}"
        yield fail("evm", what, "give an endpoint of the right chain")
        return
    vault = checksum_address(genesis.vault)
    if _rpc(http, endpoint, "eth_getCode", vault, "latest") in ("0x", None):
        what = f"there is no vault at {vault} on chain {chain_id}"
        yield fail("evm", what, "check the genesis, and that the endpoint is in sync")
        return
    yield ok("evm", f"{endpoint}: chain {chain_id}, block {int(head['number'], 16)}, vault found")
    if keys is not None and config_votes(genesis, keys):
        address = checksum_address(keys.evm_key().address)
        if int(_rpc(http, endpoint, "eth_getBalance", address, "latest"), 16) == 0:
            what = f"{address} owns nothing to pay gas with"
            yield warn("evm", what, "send it some: it posts rollup blocks when its turn comes")


def config_votes(genesis: NetworkGenesis, keys: NodeKeys) -> bool:
    """Whether these keys are a validator's."""
    return genesis.has_validator(keys.signing().public)


def _rpc(http: httpx.Client, endpoint: str, method: str, *params: Any) -> Any:
    """One JSON-RPC result. Errors: httpx's, and ValueError, KeyError for other answers."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    answer = http.post(endpoint, json=body).json()
    if not isinstance(answer, dict):
        raise TypeError("not JSON-RPC")
    return answer["result"]


def check_clock(config: Config, nodes: list[str]) -> Iterator[Finding]:
    """How far this machine's clock is from those of the EVM endpoints and of other nodes."""
    skews = []
    for url in [*config.evm.endpoints, *(f"{node.rstrip('/')}/v1/status" for node in nodes)]:
        try:
            begun = time.time()
            with httpx.Client(timeout=RPC_TIMEOUT_S, trust_env=False) as http:
                given = http.head(url).headers.get("Date", "")
            middle = (begun + time.time()) / 2
            # An HTTP date is cut to the second, so the truth lies half a second later on average.
            skews.append(middle - parsedate_to_datetime(given).timestamp() - 0.5)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError):
            continue
    if not skews:
        yield warn("clock", "nobody to compare with", "give --peer URL, and keep NTP running")
        return
    worst = max(skews, key=abs)
    what = f"{worst:+.1f} s from {len(skews)} other clock(s)"
    if abs(worst) > CLOCK_SKEW_S_FAIL:
        yield fail("clock", what, "set the clock (NTP): this node's messages would be refused")
    elif abs(worst) > CLOCK_SKEW_S_WARN:
        yield warn("clock", what, "keep NTP running")
    else:
        yield ok("clock", what)
