"""One simulated validator's process: when it steps, flushes, is paused, crashes and restarts."""

from dataclasses import dataclass, field

from devnet.simulation.byzantine import Adversary
from devnet.simulation.clocks import LocalClock
from devnet.simulation.node import SimulatedNode


@dataclass
class Process:
    """A node and where its process stands, in the world's time.

    `number` counts the processes that this node had: what an earlier one scheduled is void.
    `receipts` are envelopes of traders that get a receipt with the flush that writes them.
    """

    node: SimulatedNode
    clock: LocalClock
    adversary: Adversary | None
    is_dead: bool = False
    is_up: bool = False
    number: int = 0
    busy_until_ms: int = 0
    paused_until_ms: int = 0
    step_at_ms: int | None = None
    effects_left: int | None = None
    receipts: dict[bytes, bytes] = field(default_factory=dict)
    starts: int = 0

    @property
    def index(self) -> int:
        return self.node.index

    @property
    def is_honest(self) -> bool:
        return self.adversary is None

    def free_at_ms(self, now_ms: int) -> int:
        """When the process can do something next."""
        return max(now_ms, self.busy_until_ms, self.paused_until_ms)

    def begin(self) -> None:
        """A new process starts."""
        self.number += 1
        self.starts += 1
        self.is_up = True
        self.busy_until_ms = self.paused_until_ms = 0
        self.step_at_ms = self.effects_left = None
        self.receipts = {}
        self.clock.restart()

    def end(self) -> None:
        """The process is gone, and all it had scheduled."""
        self.number += 1
        self.is_up = False
        self.step_at_ms = self.effects_left = None
        self.receipts = {}
        self.node.crash()
