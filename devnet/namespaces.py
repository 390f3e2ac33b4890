"""A cluster whose nodes live in network namespaces, with real latency, jitter, loss and cuts.

    check_permitted()
    with lay_network(cluster, Weather(delay_ms=20, jitter_ms=5, loss_ppm=1_000), seed=1) as wires:
        cluster.start_nodes()

    node's namespace --- TUN device --- devnet.router --- TUN device --- the next namespace
                                            |
                                     this machine: API calls in, the chain out

The router is a process of ours, so it needs no netem in the kernel, which many lack. Names of
namespaces and devices begin with a prefix made from the cluster's directory; a fresh run in the
directory removes what an earlier one left.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from devnet.cluster import Cluster
from devnet.creation import DIRECT, Wiring
from devnet.faults import NamespacesForbidden, PacketDeviceMissing
from devnet.router import TUN_PATH, Device, RouterReady, RouterSetup
from devnet.wires import Carrier, Wires, forward_evm
from primitives.hashing import digest

IP_S_MAX: Final = 10.0  # an `ip` command that takes longer is given up: E921
HOST: Final = "host"
MTU_BYTES: Final = 1_500
_PATHS: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_BLOCK: Final = "10.83"  # private addresses; the third byte comes from the directory


@dataclass(frozen=True)
class Weather:
    """What the links do to packets, one way."""

    delay_ms: int = 10
    jitter_ms: int = 3
    loss_ppm: int = 1_000


def check_permitted() -> None:
    """Errors: `NamespacesForbidden`, `PacketDeviceMissing`."""
    if shutil.which("ip", path=_PATHS) is None:
        raise NamespacesForbidden(
            "the command ip (iproute2) is not installed; install it, or run without --network"
        )
    unshare = shutil.which("unshare", path=_PATHS)
    if os.geteuid() != 0 or unshare is None or not _succeeds([unshare, "-n", "true"]):
        raise NamespacesForbidden(
            "network namespaces are not permitted here; run it as root on a machine that permits "
            "them, or run without --network, where relays cut links but add no latency"
        )
    if not os.access(TUN_PATH, os.R_OK | os.W_OK):
        raise PacketDeviceMissing(
            f"{TUN_PATH} cannot be opened; load it with: modprobe tun, or run without --network"
        )


@contextmanager
def lay_network(cluster: Cluster, weather: Weather, seed: int) -> Iterator[Wires]:
    """Put every node of a prepared cluster, which does not run, into a namespace of its own.

    Afterwards nodes are stopped, namespaces and devices are gone, and nodes are configured to
    reach each other directly again.
    Errors: `NamespacesForbidden`, `WiresEnded`.
    """
    prefix, subnet = _names(cluster.layout.root)
    remove_leftovers(prefix)
    nodes = cluster.state.nodes
    devices = [Device(HOST, f"{prefix}host", f"{subnet}.1")]
    devices += [
        Device(node.name, f"{prefix}{node.name}", f"{subnet}.{number}")
        for number, node in enumerate(nodes, 2)
    ]
    setup = RouterSetup(devices, HOST, weather.delay_ms, weather.jitter_ms, weather.loss_ppm, seed)
    router = Carrier("devnet.router")
    evm: Carrier | None = None
    try:
        router.ask(setup, RouterReady)
        _bring_up(devices[0], None)
        for item in devices[1:]:
            _ip("netns", "add", item.device)
            _ip("link", "set", item.device, "netns", item.device)
            _bring_up(item, item.device)
        evm, url = forward_evm(devices[0].address, cluster.state.evm)
        cluster.rewire(
            Wiring(
                hosts={item.node: item.address for item in devices[1:]},
                commands={
                    item.node: [_ip_path(), "netns", "exec", item.device] for item in devices[1:]
                },
                evm=url,
            )
        )
        yield Wires(
            router,
            f"{len(nodes)} network namespaces, {weather.delay_ms} +- {weather.jitter_ms} ms one "
            f"way, {weather.loss_ppm} packets in a million lost",
        )
    finally:
        cluster.stop_nodes()
        for carrier in (evm, router):
            if carrier is not None:
                carrier.close()
        remove_leftovers(prefix)
        cluster.rewire(DIRECT)


def remove_leftovers(prefix: str) -> list[str]:
    """Remove namespaces whose name begins with `prefix`; their names."""
    listed = _ip("netns", "list").split("\n")
    names = [line.split()[0] for line in listed if line.startswith(prefix)]
    for name in names:
        _ip("netns", "delete", name)
    return names


def _names(root: Path) -> tuple[str, str]:
    """The prefix of names, and the first three bytes of addresses, of a cluster's directory."""
    mark = digest("outcry/namespaces/1", bytes(32), str(root).encode())
    return f"oc{mark[:3].hex()}", f"{_BLOCK}.{mark[3]}"


def _bring_up(item: Device, namespace: str | None) -> None:
    within = () if namespace is None else ("-n", namespace)
    if namespace is not None:
        _ip(*within, "link", "set", "lo", "up")
    _ip(*within, "address", "add", f"{item.address}/24", "dev", item.device)
    _ip(*within, "link", "set", item.device, "mtu", str(MTU_BYTES), "up")


def _ip_path() -> str:
    return shutil.which("ip", path=_PATHS) or "ip"


def _ip(*arguments: str) -> str:
    """The output of an `ip` command. Errors: `NamespacesForbidden`."""
    try:
        done = subprocess.run(
            [_ip_path(), *arguments], capture_output=True, text=True, timeout=IP_S_MAX, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise NamespacesForbidden(
            f"ip {' '.join(arguments)} failed ({said.strip()}); run it as root on a machine that "
            "permits network namespaces, or run without --network"
        ) from None
    return done.stdout


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=IP_S_MAX).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False
