"""Carries out a scenario's schedule: faults begin, end, and all of them heal."""

from collections.abc import Callable
from typing import Protocol

from devnet.simulation.agreement_node import START_MS
from devnet.simulation.network import CALM, Links, Weather, between
from devnet.simulation.node import DiskFault, FaultyDisk
from devnet.simulation.processes import Process
from devnet.simulation.scenario import Disturbance, Scenario


class Stage(Protocol):
    """What the schedule needs of the world."""

    links: Links
    processes: list[Process]

    def at(self, time_ms: int, action: Callable[[], None]) -> None: ...

    def note_all(self, what: str) -> None: ...

    def start(self, index: int) -> None: ...

    def crash(self, index: int, why: str = "killed") -> None: ...

    def pause(self, index: int, until_ms: int) -> None: ...

    def submit(self, number: int, to: tuple[int, ...]) -> bytes: ...

    def submit_forgery(self, number: int, to: tuple[int, ...]) -> None: ...

    def heal(self) -> None: ...


class Faulting:
    """The schedule of one world."""

    def __init__(self, world: Stage, scenario: Scenario) -> None:
        self._world = world
        self._scenario = scenario
        self._count = len(scenario.powers)

    def schedule(self) -> None:
        """Put everything that the scenario says onto the world's timeline."""
        world, scenario = self._world, self._scenario
        for index in range(self._count):
            world.at(START_MS, lambda i=index: world.start(i))  # type: ignore[misc]
        for item in scenario.disturbances:
            world.at(START_MS + item.at_ms, lambda d=item: self._begin(d))  # type: ignore[misc]
            world.at(START_MS + item.until_ms, lambda d=item: self._end(d))  # type: ignore[misc]
        for one in scenario.load:
            hand_in = world.submit_forgery if one.forged else world.submit
            world.at(
                START_MS + one.at_ms,
                lambda s=one, h=hand_in: h(s.number, s.to),  # type: ignore[misc]
            )
        world.at(START_MS + scenario.heal_ms, self._heal)

    def _begin(self, item: Disturbance) -> None:
        world = self._world
        world.note_all(f"{item.kind} {item.detail} of {item.nodes} begins ({item.amount})")
        match item.kind:
            case "crash" | "blackout":
                for index in item.nodes:
                    self._crash(index, item)
            case "partition" | "one-way":
                world.links.cut(self._pairs(item))
            case "pause":
                for index in item.nodes:
                    world.pause(index, START_MS + item.until_ms)
            case "clock-jump":
                for index in item.nodes:
                    world.processes[index].clock.jump(item.amount)
            case "slow-disk":
                self._disks(item, DiskFault("slow", item.amount))
            case "full-disk":
                self._disks(item, DiskFault("full"))

    def _end(self, item: Disturbance) -> None:
        world = self._world
        world.note_all(f"{item.kind} of {item.nodes} ends")
        match item.kind:
            case "crash" | "blackout":
                for index in item.nodes:
                    world.crash(index)  # where nothing was written meanwhile
                self._disks(item, DiskFault("none"))
                for index in item.nodes:
                    world.start(index)
            case "partition" | "one-way":
                world.links.mend(self._pairs(item))
            case "slow-disk" | "full-disk":
                self._disks(item, DiskFault("none"))
                for index in item.nodes:
                    world.start(index)

    def _crash(self, index: int, item: Disturbance) -> None:
        process = self._world.processes[index]
        if item.detail == "effects":
            process.effects_left = item.amount
        elif item.detail in ("lost", "torn", "behind") and isinstance(process.node, FaultyDisk):
            process.node.disk_fault(DiskFault(item.detail, item.amount))  # type: ignore[arg-type]
        else:
            self._world.crash(index)

    def _disks(self, item: Disturbance, fault: DiskFault) -> None:
        for index in item.nodes:
            node = self._world.processes[index].node
            if isinstance(node, FaultyDisk):
                node.disk_fault(fault)

    def _pairs(self, item: Disturbance) -> list[tuple[int, int]]:
        if item.kind == "one-way":
            return [(item.nodes[0], item.nodes[1])]
        return between(item.nodes, self._count)

    def _heal(self) -> None:
        """Every link works, every disk is well, whoever is not dead runs."""
        world = self._world
        delay_ms = self._scenario.weather.delay_ms
        world.links.weather = Weather(delay_ms=delay_ms, ordered=CALM.ordered)
        for process in world.processes:
            if isinstance(process.node, FaultyDisk):
                process.node.disk_fault(DiskFault("none"))
            world.start(process.index)
        world.heal()
