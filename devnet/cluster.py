"""A cluster of real processes on one machine: an EVM chain and its nodes.

    with Cluster(Path("devnet-state")) as cluster:
        cluster.up(Plan(validators=5))
        cluster.kill("v2")
        cluster.start_node("v2")

State stays in the directory: `up` on an existing one continues its history. Leaving the block
stops what this object started.
"""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil

from devnet import creation, processes
from devnet.creation import CHAIN_ID, DIRECT, Plan, Wiring
from devnet.faults import ClusterRunning, UnknownNode
from devnet.layout import ClusterState, Layout, NodeState
from node.config import PASSPHRASE_VARIABLE
from settlement import EvmKind, evm_command

EVM_READY_MS = 60_000
NODE_READY_MS = 90_000
PROBE_TIMEOUT_S = 2.0
EVM_MARKER = "settlement.evm"
NODE_MARKER = "config.toml"

Progress = Callable[[str], None]


def _silent(_message: str) -> None:
    """Progress that nobody wants to see."""


class Cluster:
    """The processes of one state directory. `progress` is told what happens, in a few words."""

    def __init__(self, root: Path, progress: Progress = _silent) -> None:
        self.layout = Layout(root)
        self._progress = progress
        self._state: ClusterState | None = None
        self._started = False
        self._wiring = DIRECT

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._started:
            self.down()

    @property
    def state(self) -> ClusterState:
        """What cluster.json says. Errors: `NoCluster`."""
        if self._state is None:
            self._state = self.layout.load()
        return self._state

    # The whole

    def up(self, plan: Plan) -> ClusterState:
        """Start everything, making a new cluster if there is none; returns when all answer.

        Errors: `ClusterRunning`, `ProcessDied`, `NotReadyInTime`.
        """
        self.prepare(plan)
        self.start_nodes()
        return self.state

    def prepare(self, plan: Plan) -> None:
        """Start the chain and have every node's directory ready; nodes do not start yet.

        Errors: `ClusterRunning`, `ProcessDied`, `NotReadyInTime`.
        """
        if self.layout.exists():
            self._check_not_running()
            self._progress(f"continuing the cluster in {self.layout.root}")
            self._started = True
            self._start_evm(int(self.state.evm.rpartition(":")[2]))
            self._repair_ports()
        else:
            self._create(plan)

    def start_nodes(self) -> None:
        """Start all nodes; returns when all answer. Errors: `ProcessDied`, `NotReadyInTime`."""
        for node in self.state.nodes:
            self.start_node(node.name, wait=False)
        self.wait_all()

    def rewire(self, wiring: Wiring) -> None:
        """Have nodes reach each other in another way from their next start on."""
        self._wiring = wiring
        self._repair_ports()

    def wait_all(self) -> None:
        """Wait until all nodes answer. Errors: `ProcessDied`, `NotReadyInTime`."""
        for node in self.state.nodes:
            self._wait_ready(node)
        self._progress("all nodes answer")

    def _create(self, plan: Plan) -> None:
        (port,) = processes.free_ports(1)
        self._started = True
        self._state = ClusterState(
            network="",
            chain_id=CHAIN_ID,
            vault="",
            tokens={},
            evm=f"http://127.0.0.1:{port}",
            evm_kind=plan.evm_kind,
            nodes=[],
            traders=[],
        )
        self._start_evm(port)
        self._progress("deploying contracts, making keys and the genesis")
        evm_pid = self._state.evm_pid
        self._state = creation.create(self.layout, plan, self._state.evm)
        self._state.evm_pid = evm_pid
        self.layout.save(self._state)

    def down(self) -> None:
        """Stop all processes, nodes first; state stays."""
        self.stop_nodes()
        evm = processes.find(self.state.evm_pid, self._evm_marker())
        if evm is not None:
            processes.stop(evm)
        self.state.evm_pid = None
        if self.state.nodes:
            self.layout.save(self.state)
        self._started = False
        self._progress("stopped")

    def stop_nodes(self) -> None:
        """Stop all nodes; the chain goes on."""
        for node in self.state.nodes:
            process = self._node_process(node)
            if process is not None:
                process.resume()
                process.terminate()
        for node in self.state.nodes:
            process = self._node_process(node)
            if process is not None:
                processes.stop(process)
            node.pid = None

    def release(self) -> None:
        """Leave the processes running when this object's block ends."""
        self._started = False

    def log(self, name: str) -> Path:
        """The log of a node, or of the chain (`evm`)."""
        return self.layout.evm / "evm.log" if name == "evm" else self.layout.node_log(name)

    def is_running(self) -> bool:
        """Whether any process of the cluster runs."""
        nodes = any(self._node_process(node) is not None for node in self.state.nodes)
        return nodes or processes.find(self.state.evm_pid, self._evm_marker()) is not None

    def dead(self) -> list[str]:
        """Names of nodes (and `evm`) whose processes should run but do not."""
        names = [
            node.name
            for node in self.state.nodes
            if node.pid is not None and self._node_process(node) is None
        ]
        if processes.find(self.state.evm_pid, self._evm_marker()) is None:
            names.append("evm")
        return names

    def stopped(self) -> list[str]:
        """Names of nodes that have no process."""
        return [node.name for node in self.state.nodes if self._node_process(node) is None]

    # One node

    def node(self, name: str) -> NodeState:
        """Errors: `UnknownNode`."""
        for node in self.state.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.state.nodes)
        raise UnknownNode(f"no node is called {name}; there are {names}")

    def start_node(self, name: str, *, wait: bool = True) -> None:
        """Start a node that does not run. Errors: `ClusterRunning`, `ProcessDied`."""
        node = self.node(name)
        if self._node_process(node) is not None:
            raise ClusterRunning(f"{name} runs already")
        config = self.layout.node(name) / "config.toml"
        node.pid = processes.start(
            [*self._wiring.commands.get(name, ()), sys.executable, "-m", "node", str(config)],
            self.layout.node_log(name),
            {PASSPHRASE_VARIABLE: self.layout.passphrase.read_text()},
        )
        self.layout.save(self.state)
        self._progress(f"{name} starts as process {node.pid}")
        if wait:
            self._wait_ready(node)

    def stop_node(self, name: str) -> None:
        """Stop a node cleanly."""
        self._end(name, processes.stop)

    def kill(self, name: str) -> None:
        """kill -9."""
        self._end(name, processes.kill)

    def pause(self, name: str) -> None:
        """Stop a node's process without ending it (SIGSTOP)."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a paused process go on (SIGCONT)."""
        self._signal(name, signal.SIGCONT)

    def rss_mb(self, name: str) -> float:
        """Resident memory of a node's process in MiB, 0 when it does not run."""
        process = self._node_process(self.node(name))
        return 0.0 if process is None else process.memory_info().rss / (1 << 20)

    def height(self, name: str) -> int | None:
        """The height that a node says it has executed, None when it does not answer."""
        try:
            reply = httpx.get(
                f"{self.node(name).api}/v1/status", timeout=PROBE_TIMEOUT_S, trust_env=False
            )
            return int(reply.json()["height"]) if reply.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError, LookupError):
            return None

    # Inside

    def _end(self, name: str, how: Callable[[psutil.Process], None]) -> None:
        node = self.node(name)
        process = self._node_process(node)
        if process is not None:
            how(process)
        node.pid = None
        self.layout.save(self.state)

    def _signal(self, name: str, number: int) -> None:
        process = self._node_process(self.node(name))
        if process is not None:
            process.send_signal(number)

    def _node_process(self, node: NodeState) -> psutil.Process | None:
        return processes.find(node.pid, str(self.layout.node(node.name) / NODE_MARKER))

    def _evm_marker(self) -> str:
        return EVM_MARKER if self.state.evm_kind == "embedded" else "anvil"

    def _check_not_running(self) -> None:
        if self.is_running():
            raise ClusterRunning(
                f"the cluster in {self.layout.root} runs already; "
                "look at it with: outcry devnet status, or stop it with: outcry devnet down"
            )

    def _start_evm(self, port: int) -> None:
        state = self.state
        if not processes.is_free(port):
            (port,) = processes.free_ports(1)
        state.evm = f"http://127.0.0.1:{port}"
        kind: EvmKind = "anvil" if state.evm_kind == "anvil" else "embedded"
        command = evm_command(kind, port, self.layout.evm, state.chain_id, Path.cwd())
        log = self.layout.evm / "evm.log"
        state.evm_pid = processes.start(command, log, {})
        self._progress(f"the EVM chain ({kind}) starts as process {state.evm_pid}")
        marker = self._evm_marker()
        processes.wait_until(
            lambda: _answers_chain(state.evm),
            lambda: processes.find(state.evm_pid, marker) is not None,
            "the EVM chain",
            log,
            EVM_READY_MS,
        )

    def _repair_ports(self) -> None:
        """Give nodes other ports where theirs were taken meanwhile; then write configurations."""
        for node in self.state.nodes:
            api, p2p = int(node.api.rpartition(":")[2]), int(node.p2p.split("/")[4])
            if not (processes.is_free(api) and processes.is_free(p2p)):
                api, p2p = processes.free_ports(2)
            host = self._wiring.host(node.name)
            node.api = f"http://{host}:{api}"
            node.p2p = f"/ip4/{host}/tcp/{p2p}/p2p/{node.peer_id}"
        creation.write_configs(self.layout, self.state, self._wiring)
        self.layout.save(self.state)

    def _wait_ready(self, node: NodeState) -> None:
        processes.wait_until(
            lambda: _answers_node(node.api),
            lambda: self._node_process(node) is not None,
            node.name,
            self.layout.node_log(node.name),
            NODE_READY_MS,
        )


def _answers_chain(url: str) -> bool:
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    try:
        reply = httpx.post(url, json=question, timeout=PROBE_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return reply.status_code == httpx.codes.OK and "result" in reply.json()


def _answers_node(url: str) -> bool:
    try:
        reply = httpx.get(f"{url}/v1/health", timeout=PROBE_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return reply.status_code == httpx.codes.OK
