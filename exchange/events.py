"""What happened, in order: the exchange's only output besides its state root.

Events are canonical records; each begins with an integer tag. `source` is the id of the
transaction that caused it.
"""

from exchange.actions import Lifetime, Side
from primitives.codec import Bytes20, Bytes32, Record, Unsigned


class Rejected(Record, tag=1, gc=False):
    """A transaction was refused whole."""

    source: Bytes32
    code: str


class ActionRejected(Record, tag=2, gc=False):
    """Action number `position` of a transaction was refused; `client_id` is its order's."""

    source: Bytes32
    position: Unsigned
    account: Bytes20
    code: str
    client_id: str


class Authorized(Record, tag=3, gc=False):
    """A key of an account got, changed or (scope 0) lost its powers."""

    source: Bytes32
    account: Bytes20
    key: Bytes32
    scope: Unsigned
    expires_ms: Unsigned


class Deposited(Record, tag=4, gc=False):
    """A deposit was credited."""

    index: Unsigned
    account: Bytes20
    token: Unsigned
    units: Unsigned


class Placed(Record, tag=5, gc=False):
    """An order was accepted by the engine. Its fills follow; what rests is `resting` lots."""

    source: Bytes32
    order: Unsigned
    account: Bytes20
    market: Unsigned
    side: Side
    price: Unsigned
    size: Unsigned
    lifetime: Lifetime
    client_id: str


class Filled(Record, tag=6, gc=False):
    """A trade. `maker` and `taker` are order ids; fees are in units of what each side receives.

    `trade` numbers the trades of a market from 1. `side` is the taker's.
    """

    market: Unsigned
    trade: Unsigned
    price: Unsigned
    size: Unsigned
    side: Side
    maker: Unsigned
    maker_account: Bytes20
    maker_fee: Unsigned
    taker: Unsigned
    taker_account: Bytes20
    taker_fee: Unsigned


class Closed(Record, tag=7, gc=False):
    """An order left the book or never entered it. `reason`: filled, cancelled, unfilled, self."""

    order: Unsigned
    account: Bytes20
    market: Unsigned
    remaining: Unsigned
    reason: str


class Withdrawn(Record, tag=8, gc=False):
    """A withdrawal was taken from the free balance and waits for the next rollup block."""

    source: Bytes32
    account: Bytes20
    token: Unsigned
    units: Unsigned
    recipient: Bytes20


class RollupCut(Record, tag=9, gc=False):
    """Rollup block `number` was made with `count` withdrawals."""

    number: Unsigned
    count: Unsigned
    withdrawal_root: Bytes32
    deposits: Unsigned


Event = (
    Rejected
    | ActionRejected
    | Authorized
    | Deposited
    | Placed
    | Filled
    | Closed
    | Withdrawn
    | RollupCut
)
