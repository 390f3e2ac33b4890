"""What every simulated node promises, whatever it is made of.

A node handles events and makes one group commit a step, as `node.driver` does; the world decides
when a step happens, how long its flush lasts, and carries out what leaves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from consensus import ChainArrived, Effect, Event, Genesis, Replica, Signer

DiskFaultKind = Literal["lost", "torn", "behind", "slow", "full", "none"]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What leaves a node after a flush: effects in order, after `fsync_ms` of virtual time."""

    effects: tuple[Effect, ...] = ()
    """Broadcast, Send, FetchEnvelopes and FetchChain only."""
    envelopes: tuple[bytes, ...] = ()
    """Envelopes that became durable with this flush, to be pushed to all other validators."""
    fsync_ms: int = 0


@dataclass(frozen=True)
class History:
    """What a node executed and what it knows of the others' roots, for the checks.

    `blocks[i]`, `batches[i]` and `roots[i]` are of height i + 1. `checkpoints` are the certified
    roots by height. `imbalance` says what does not add up, and is empty when all money does.
    """

    blocks: tuple[bytes, ...] = ()
    batches: tuple[tuple[bytes, ...], ...] = ()
    roots: tuple[bytes, ...] = ()
    checkpoints: Mapping[int, bytes] = field(default_factory=dict)
    imbalance: str = ""


@dataclass(frozen=True, slots=True)
class DiskFault:
    """What the disk does wrong from now on, until another fault replaces it.

    lost     the next write never reaches the disk, and the power fails: `ProcessEnded`
    torn     the next write reaches it in part (`amount` permille), and the power fails
    behind   the journal's next write is whole, the block index' is not; the power fails
    slow     every flush takes `amount` ms longer
    full     nothing more fits: the next write ends the process
    none     the disk is well
    """

    kind: DiskFaultKind
    amount: int = 0


class ProcessEnded(Exception):
    """The process ended in the middle of a step: power failed, or the disk refused a write.

    Nothing of that step leaves the node. It is no violation: whoever scheduled it meant it.
    """


class SimulatedNode(Protocol):
    """One validator. `replica` is None while the process is down."""

    index: int
    replica: Replica | None

    def start(self, now_ms: int) -> Outgoing:
        """Replay storage, resume the journal. Errors: `ProcessEnded`; `LocalFault`s are found
        by the checks."""

    def post(self, event: Event) -> None:
        """Queue an event for the next step."""

    def submit(self, wires: list[bytes]) -> None:
        """Queue envelopes that arrive from a trader or a peer, in order."""

    def step(self, now_ms: int) -> Outgoing:
        """Handle all queued events and a tick, make one group commit, execute what was
        committed. Errors: as `start`."""

    def crash(self) -> None:
        """The process ends here; what was not durable is lost or torn."""

    def wake_ms(self) -> int:
        """The local time of the next step if no event comes earlier."""

    def chain_above(self, height: int) -> ChainArrived | None:
        """Blocks above `height` for a peer; None while the process is down."""

    def envelopes_of(self, ids: tuple[bytes, ...]) -> list[bytes]:
        """Those of these envelopes that are at hand, executed ones included, for a peer."""

    def waiting(self) -> list[bytes]:
        """Envelopes at hand and not executed, pushed again to a validator that comes back."""

    def history(self) -> History:
        """What is durable now, also while the process is down."""


@runtime_checkable
class FaultyDisk(Protocol):
    """A node whose disk can be made to misbehave."""

    def disk_fault(self, fault: DiskFault) -> None:
        """Misbehave from now on."""


class Fleet(Protocol):
    """One kind of node, with the keys of a network and the envelopes of its traders."""

    genesis: Genesis
    keys: list[Signer]

    def node(self, index: int) -> SimulatedNode:
        """Validator `index` with an empty disk."""

    def envelope(self, number: int) -> tuple[bytes, bytes]:
        """The id and the bytes of the traders' envelope `number`, from 0."""

    def forgery(self, number: int) -> bytes:
        """An envelope that looks like one of a trader who never signed it."""
