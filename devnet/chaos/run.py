"""One run of chaos: real validators under load, killed, paused, cut off and restarted by seed.

report = run_chaos(cluster, ChaosPlan(minutes=3, seed=1), progress)
"""

import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, TypeVar

import httpx
import msgspec
import trio

from devnet.chaos.audit import Audit
from devnet.chaos.injection import RETURN_S_MAX, Injection
from devnet.chaos.orders import Orders
from devnet.chaos.report import (
    ChaosReport,
    one_dead_ratio,
    voting_after_kill,
    windows,
)
from devnet.chaos.schedule import DEAD_SETTLING_S, Schedule, make_schedule
from devnet.chaos.watching import Watch
from devnet.check import Finding
from devnet.cluster import Cluster
from devnet.creation import Plan
from devnet.faults import ChaosFailed
from devnet.load import FUNDING_S_MAX, Account, fund, load_accounts
from devnet.namespaces import Weather, check_permitted, lay_network
from devnet.wires import Wires, lay_relays
from exchange.network import NetworkGenesis
from node.genesis import load_genesis

REQUEST_TIMEOUT_S: Final = 5.0  # a node that takes longer: the outcome is unknown
AUDIT_TIMEOUT_S: Final = 60.0
PROGRESS_S: Final = 10.0
HEAL_S_MAX: Final = 30.0  # how long all nodes may take to answer after the last step
POLL_MS: Final = 100
CONNECTIONS_MAX: Final = 128

Progress = Callable[[str], None]
T = TypeVar("T")
Runner = Callable[[Callable[[], Awaitable[ChaosReport]]], ChaosReport]


@dataclass(frozen=True)
class ChaosPlan:
    """What to do to whom: for `minutes`, by `seed`, at `rate` orders a second.

    blackout: also kill everybody at once, and bring all back
    weather: what links do to packets, in network namespaces; None: relays on loopback
    """

    minutes: float = 3.0
    seed: int = 1
    rate: int = 100
    accounts: int = 40
    blackout: bool = False
    weather: Weather | None = None


def run_chaos(
    cluster: Cluster, size: Plan, plan: ChaosPlan, progress: Progress, runner: Runner
) -> ChaosReport:
    """Run chaos in the cluster, which is made if there is none; its chain runs on afterwards.

    `runner` runs an async function, as `trio.run` does. Nodes are stopped at the end.
    Errors: `TooFewValidators`, `ClusterRunning`, `NamespacesForbidden`, `PacketDeviceMissing`,
    `WiresEnded`, `ProcessDied`, `NotReadyInTime`.
    """
    if plan.weather is not None:
        check_permitted()
    make_schedule(plan.seed, plan.minutes * 60, [f"v{i}" for i in range(size.validators)])
    cluster.prepare(size)
    names = [node.name for node in cluster.state.nodes if node.role == "validator"]
    schedule = make_schedule(plan.seed, plan.minutes * 60, names, blackout=plan.blackout)
    with _lay(cluster, plan) as wires:
        progress(f"links: {wires.kind}")
        cluster.start_nodes()
        run = _Run(cluster, wires, schedule, plan, progress)
        return runner(run.run)


def _lay(cluster: Cluster, plan: ChaosPlan) -> AbstractContextManager[Wires]:
    if plan.weather is None:
        return lay_relays(cluster)
    return lay_network(cluster, plan.weather, plan.seed)


class _Run:
    """What the parts of one run share."""

    def __init__(
        self,
        cluster: Cluster,
        wires: Wires,
        schedule: Schedule,
        plan: ChaosPlan,
        progress: Progress,
    ) -> None:
        self._cluster = cluster
        self._wires = wires
        self._schedule = schedule
        self._plan = plan
        self._progress = progress
        self._genesis: NetworkGenesis = load_genesis(cluster.layout.genesis)
        self._findings: list[Finding] = []
        self._began_ms = 0

    async def run(self) -> ChaosReport:
        """The whole run, from funding to the audit."""
        limits = httpx.Limits(
            max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX
        )
        async with httpx.AsyncClient(
            timeout=REQUEST_TIMEOUT_S, limits=limits, trust_env=False
        ) as http:
            accounts = load_accounts(self._genesis, self._plan.accounts)
            await self._fund(http, accounts)
            watch = Watch(http, self._cluster)
            injection = Injection(self._cluster, self._wires, watch, self._schedule, self._progress)
            orders = Orders(
                http,
                self._genesis,
                accounts,
                self._plan.seed,
                watch.apis,
                lambda: watch.height_max,
            )
            first = await self._run_schedule(watch, injection, orders)
        async with httpx.AsyncClient(timeout=AUDIT_TIMEOUT_S, trust_env=False) as http:
            return await self._report(http, watch, injection, orders, first)

    async def _fund(self, http: httpx.AsyncClient, accounts: list[Account]) -> None:
        """Errors: `ChaosFailed` when the exchange does not credit what was deposited in time."""
        with trio.move_on_after(2 * FUNDING_S_MAX):
            try:
                await fund(http, self._cluster.state, self._genesis, accounts, self._progress)
            except trio.TooSlowError:
                pass  # told below
            else:
                return
        raise ChaosFailed(
            "the accounts of the load were not funded in time, before any fault; "
            f"read {self._cluster.layout.root}/nodes/*/node.log"
        )

    async def _run_schedule(self, watch: Watch, injection: Injection, orders: Orders) -> int:
        """Load and faults together, then healing; the height at the start."""
        for node in self._cluster.state.nodes:
            await watch.look(node.name)
        first = watch.height_max + 1
        plan, seconds = self._plan, self._schedule.seconds
        steps = len(self._schedule.steps)
        self._progress(
            f"{seconds:.0f} s of load at {plan.rate} orders a second, {steps} faults by seed "
            f"{plan.seed}, at most {self._schedule.faults_max} at a time"
        )
        self._began_ms = time.time_ns() // 1_000_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_when_told)
            nursery.start_soon(watch.run)
            nursery.start_soon(self._tell, watch, orders)
            nursery.start_soon(orders.send)
            nursery.start_soon(orders.make, plan.rate)
            began = trio.current_time()
            await self._inject(injection, seconds)
            await trio.sleep_until(began + seconds)
            orders.finish()
            self._progress("healing, and waiting for the last answers")
            self._note_deaths()
            await injection.heal()
            await self._wait_up(watch)
            if not await orders.settled():
                waiting = orders.statistics().waiting
                self._find("every order got an answer", False, f"{waiting} have none")
            nursery.cancel_scope.cancel()
        return first

    async def _inject(self, injection: Injection, seconds: float) -> None:
        """Steps may be late on a busy machine, within reason."""
        with trio.move_on_after(2 * seconds + 2 * RETURN_S_MAX) as scope:
            await injection.run()
        self._find("the schedule was carried out in time", not scope.cancelled_caught, "")

    async def _tell(self, watch: Watch, orders: Orders) -> None:
        began = trio.current_time()
        while True:
            await trio.sleep(PROGRESS_S)
            counts = orders.statistics()
            passed = trio.current_time() - began
            self._progress(
                f"{passed:6.1f} s  height {watch.height_max}, {len(watch.up)} nodes answer, "
                f"{counts.receipts} receipts for {counts.made} orders, {counts.waiting} waiting"
            )

    def _note_deaths(self) -> None:
        """A process that ended without our doing is a finding, whatever else holds."""
        dead = self._cluster.dead()
        logs = ", ".join(f"{name} (log: {self._cluster.log(name)})" for name in dead)
        self._find("no process ended by itself", not dead, logs)

    async def _wait_up(self, watch: Watch) -> None:
        names = {node.name for node in self._cluster.state.nodes}
        with trio.move_on_after(HEAL_S_MAX):
            while watch.up != names:
                await trio.sleep(POLL_MS / 1_000)
        away = sorted(names - watch.up)
        self._find("all nodes answer after healing", not away, ", ".join(away))

    def _find(self, what: str, holds: bool, seen: str) -> None:
        self._findings.append(Finding(what, holds, seen))

    async def _report(
        self,
        http: httpx.AsyncClient,
        watch: Watch,
        injection: Injection,
        orders: Orders,
        first: int,
    ) -> ChaosReport:
        self._progress("asking every node about every block and every order")
        audit = Audit(http, self._cluster, self._genesis, first)
        lost = executed = 0
        try:
            found, lost, executed = await audit.run(orders.receipts, orders.refused)
            self._findings += found
        except* (httpx.HTTPError, ValueError, msgspec.DecodeError) as errors:
            self._find("every node answers the audit", False, repr(errors.exceptions[0]))
        self._judge(watch, injection)
        measured = windows(
            self._schedule,
            injection.done,
            audit.blocks,
            audit.executed,
            self._began_ms,
            DEAD_SETTLING_S,
        )
        return ChaosReport(
            network=self._cluster.state.network,
            directory=str(self._cluster.layout.root),
            seed=self._plan.seed,
            minutes=self._plan.minutes,
            links=self._wires.kind,
            rate=self._plan.rate,
            schedule=self._schedule,
            done=injection.done,
            most_suffering=injection.most_suffering,
            orders=orders.statistics(),
            executed=executed,
            lost=lost,
            windows=measured,
            one_dead_ratio=one_dead_ratio(measured),
            voting_ms_after_kill=voting_after_kill(injection.done),
            checkpoints=audit.checkpoints,
            evidence=watch.found(),
            findings=self._findings,
            whole=all(item.holds for item in self._findings),
            seconds=round(time.time() - self._began_ms / 1_000, 1),
        )

    def _judge(self, watch: Watch, injection: Injection) -> None:
        """What the run itself must show."""
        told = [f"{item.seen_by}: {item.count}" for item in watch.found()]
        self._find("nobody signed two different things", not told, ", ".join(told))
        silent = [
            f"{name} after {item.kind} at {item.began_s} s"
            for item in injection.done
            for name, value in item.voting_ms.items()
            if value is None
        ]
        self._find(
            f"everybody voted again within {RETURN_S_MAX:.0f} s", not silent, ", ".join(silent)
        )
        late = [
            f"{name} after {item.kind} at {item.began_s} s"
            for item in injection.done
            for name, value in item.caught_up_ms.items()
            if value is None
        ]
        self._find(f"everybody caught up within {RETURN_S_MAX:.0f} s", not late, ", ".join(late))
        bound = self._schedule.faults_max
        most = injection.most_suffering
        self._find(f"at most {bound} suffered at a time", most <= bound, str(most))


async def _end_when_told() -> None:
    """Treat SIGTERM as Ctrl-C, at a moment that suits the event loop."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            raise KeyboardInterrupt
