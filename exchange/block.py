"""What goes into the exchange for one block, and what comes out of it."""

from dataclasses import dataclass
from typing import Annotated

import msgspec

from exchange.envelope import Admitted, Refused
from exchange.events import Event
from primitives.codec import AMOUNT_MAX, Bytes20, Bytes32, Record, Unsigned

DEPOSITS_PER_OBSERVATION_ITEMS_MAX = 64  # more: reported with the next link


class Deposit(Record):
    """Deposit number `index` (from 0) into the vault, and the running hash after it."""

    index: Unsigned
    account: Bytes20
    token: Unsigned
    units: Annotated[int, msgspec.Meta(ge=1, le=AMOUNT_MAX)]
    accumulator: Bytes32


class Observation(Record):
    """What one validator reports to have seen on its own EVM node.

    `number` and `block_hash` name the newest confirmed EVM block, `count` and `accumulator` the
    vault's deposits up to it, `deposits` those not reported before, in order.
    """

    number: Unsigned
    block_hash: Bytes32
    count: Unsigned
    accumulator: Bytes32
    deposits: Annotated[list[Deposit], msgspec.Meta(max_length=DEPOSITS_PER_OBSERVATION_ITEMS_MAX)]


@dataclass(frozen=True, slots=True)
class BlockInput:
    """One committed block, ready to execute.

    height        of the committed block, one more than that of the previous input
    time_ms       block time, never before that of the previous block
    transactions  in sequence
    observations  (validator index, what it reported) in the order of the block's links
    """

    height: int
    time_ms: int
    transactions: tuple[Admitted | Refused, ...]
    observations: tuple[tuple[int, Observation], ...] = ()


class Withdrawal(Record):
    """One leaf of a rollup block's withdrawal tree; its index is its position."""

    account: Bytes20
    token: Unsigned
    units: Unsigned


class Rollup(Record):
    """What the chain learns at once: all withdrawals since the rollup block before.

    `deposits` counts the deposits credited so far and `accumulator` is their running hash;
    the state root is that of the checkpoint at `height`.
    """

    number: Unsigned
    height: Unsigned
    withdrawals: list[Withdrawal]
    withdrawal_root: Bytes32
    deposits: Unsigned
    accumulator: Bytes32


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What a block did: its events in order, the state root after it, a rollup if one was cut."""

    height: int
    events: tuple[Event, ...]
    root: bytes
    rollup: Rollup | None
