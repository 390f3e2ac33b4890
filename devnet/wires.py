"""The links between the nodes of a cluster, in the hands of whoever wants to cut them.

    with lay_relays(cluster) as wires:          # before nodes start
        cluster.start_nodes()
        wires.cut({("v0", "v1"), ("v1", "v0")})
        wires.cut(())

`lay_relays` needs no privileges; `devnet.namespaces.lay_network` gives real latency and loss.
"""

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from devnet.cluster import Cluster
from devnet.creation import DIRECT, LOOPBACK, Wiring
from devnet.faults import WiresEnded
from devnet.processes import STOP_MS_MAX
from devnet.relays import Cuts, Pair, Ports, RelayPlan, Setup

ANSWER_S_MAX: Final = 20.0  # a carrier that takes longer to answer is ended: E923
EVM: Final = "evm"

# Runs a module of this package without the package's own imports, which take seconds.
_LIGHTLY: Final = """
import runpy, sys, types
package = types.ModuleType("devnet")
package.__path__ = [sys.argv[2]]
sys.modules["devnet"] = package
runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
"""

T = TypeVar("T", bound=msgspec.Struct)


class Carrier:
    """A process that carries the links; it ends when this object's pipe to it does."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LIGHTLY, module, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it in order
        )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def ask(self, question: msgspec.Struct, kind: type[T]) -> T:
        """Send one line, return the answer. Errors: `WiresEnded`."""
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise WiresEnded(f"{self._module} has no pipe; start the run again")
        # A carrier that hangs is ended, so that reading its answer comes to an end too.
        deadline = threading.Timer(ANSWER_S_MAX, process.kill)
        with self._lock:
            deadline.start()
            try:
                process.stdin.write(msgspec.json.encode(question) + b"\n")
                process.stdin.flush()
                line = process.stdout.readline()
            except OSError:
                line = b""
            finally:
                deadline.cancel()
        if not line:
            raise WiresEnded(
                f"the process that carries the links ({self._module}) ended; "
                "see what it wrote above, then start the run again"
            )
        return msgspec.json.decode(line, type=kind)

    def close(self) -> None:
        """End the process; nothing when it ended by itself."""
        process = self._process
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        try:
            process.wait(STOP_MS_MAX / 1_000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


class Wires:
    """Links that can be cut. `kind` says in words what they are."""

    def __init__(self, carrier: Carrier, kind: str) -> None:
        self._carrier = carrier
        self.kind = kind

    def cut(self, directions: Iterable[Pair]) -> None:
        """Cut exactly these directions (from, to); all others are whole. Errors: `WiresEnded`."""
        self._carrier.ask(Cuts(sorted(directions)), Cuts)


def around(name: str, names: Sequence[str], *, out: bool, into: bool) -> set[Pair]:
    """The directions between one node and all others: `out` of it, `into` it, or both."""
    others = [other for other in names if other != name]
    gone = {(name, other) for other in others} if out else set()
    return gone | ({(other, name) for other in others} if into else set())


@contextmanager
def lay_relays(cluster: Cluster) -> Iterator[Wires]:
    """Put a relay between every two nodes of a prepared cluster that does not run.

    Afterwards nodes are stopped, and configured to reach each other directly again.
    Errors: `WiresEnded`.
    """
    nodes = cluster.state.nodes
    plans = [
        RelayPlan(near.name, far.name, (LOOPBACK, 0), (LOOPBACK, int(far.p2p.split("/")[4])))
        for near in nodes
        for far in nodes
        if near.name != far.name
    ]
    carrier = Carrier("devnet.relays")
    try:
        ports = carrier.ask(Setup(plans), Ports).ports
        peers = {node.name: node.peer_id for node in nodes}
        addresses = {
            (plan.source, plan.target): f"/ip4/{LOOPBACK}/tcp/{port}/p2p/{peers[plan.target]}"
            for plan, port in zip(plans, ports, strict=True)
        }
        cluster.rewire(Wiring(addresses=addresses))
        yield Wires(carrier, f"{len(plans)} TCP relays on loopback")
    finally:
        cluster.stop_nodes()
        carrier.close()
        cluster.rewire(DIRECT)


def forward_evm(host: str, evm: str) -> tuple[Carrier, str]:
    """Have the chain answer at another address of this machine: the carrier, and the URL there.

    Errors: `WiresEnded`.
    """
    carrier = Carrier("devnet.relays")
    try:
        port = int(evm.rpartition(":")[2])
        plan = RelayPlan(EVM, EVM, (host, 0), (LOOPBACK, port))
        (bound,) = carrier.ask(Setup([plan]), Ports).ports
    except BaseException:
        carrier.close()
        raise
    return carrier, f"http://{host}:{bound}"
