"""What nodes answer, as typed values: ticks, lots and units as the API gives them.

Fields that a later version of the API adds are ignored. `client.amounts` turns the integers
into people's numbers.
"""

import msgspec


class PeerView(msgspec.Struct, frozen=True):
    """A peer of a node; `validator` is its index in the genesis, None for others."""

    peer_id: str
    validator: int | None
    connected: bool
    address: str


class CheckpointView(msgspec.Struct, frozen=True):
    """The newest state root that more than two thirds of the power signed."""

    height: int
    root: str


class EvmView(msgspec.Struct, frozen=True):
    """What a node knows of the chain that holds the money; deposits are counts."""

    reachable: bool
    number: int
    deposits_seen: int
    deposits_credited: int


class Status(msgspec.Struct, frozen=True):
    """A node at one instant; `time_ms` is the newest block's time.

    `agreement_faults_max` and `fairness_faults_max` are how many validators may fail before
    agreement, or the fairness of the order, is at risk. `signing` is false for a gateway, and for
    a validator that only watches for now; `passed_over` names validators that do not lead at
    present, `accused` those that provably signed twice, in this epoch or the last.
    """

    name: str
    role: str
    version: str
    network: str
    pid: int
    rss_mb: float
    ready: bool
    height: int
    round: int
    time_ms: int
    root: str
    checkpoint: CheckpointView | None
    validators: int
    agreement_faults_max: int
    fairness_faults_max: int
    peers_connected: int
    evm: EvmView
    rollup: int
    peers: list[PeerView] = []
    mempool: int = 0
    epoch: int = 0
    signing: bool = False
    passed_over: list[str] = []
    accused: list[str] = []


class BalanceView(msgspec.Struct, frozen=True):
    """Units of one token: `free`, and `reserved` by open orders."""

    token: int
    symbol: str
    free: int
    reserved: int


class KeyView(msgspec.Struct, frozen=True):
    """A trading key: what it may do, until which block time, and the nonces it may use."""

    key: str
    scope: int
    expires_ms: int
    next_nonce: int
    nonce_min: int = 0
    nonce_max: int = 0


class AccountView(msgspec.Struct, frozen=True):
    """An account. `authorization_sequence` is that of its last authorization, -1 before it."""

    address: str
    index: int
    height: int
    balances: list[BalanceView]
    keys: list[KeyView]
    authorization_sequence: int

    def key(self, public: bytes) -> KeyView | None:
        """What the account says about one trading key."""
        wanted = "0x" + public.hex()
        return next((item for item in self.keys if item.key == wanted), None)


class OrderView(msgspec.Struct, frozen=True):
    """An order. `status` is "open" or the reason why it closed; `envelope` placed it.

    `position` is the node's cursor: give it as `before` to read on.
    """

    order: int
    market: str
    side: str
    price: int
    size: int
    filled: int
    status: str
    client_id: str
    envelope: str
    height: int
    position: int


class TradeView(msgspec.Struct, frozen=True):
    """A trade; `side` is the taker's, `role` the account's where one was asked about."""

    number: int
    time_ms: int
    height: int
    price: int
    size: int
    side: str
    maker_order: int
    taker_order: int
    role: str = ""


class CandleView(msgspec.Struct, frozen=True):
    """The trades of one span: prices in ticks, volume in lots."""

    start_ms: int
    open: int
    high: int
    low: int
    close: int
    volume: int
    trades: int


class BookView(msgspec.Struct, frozen=True):
    """The best levels of a market, best first: (price in ticks, size in lots)."""

    market: str
    height: int
    sequence: int
    checksum: int | str
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


class MarketView(msgspec.Struct, frozen=True):
    """A market as the node describes it."""

    id: int
    symbol: str
    base: str
    quote: str
    lot_units: int
    tick_units: int
    maker_ppm: int
    taker_ppm: int
    rule: str


class EnvelopeView(msgspec.Struct, frozen=True):
    """How far an envelope came: accepted, sequenced, executed, committed, final; or rejected.

    `code` says why it was refused as a whole; `rejections` are (action number, code).
    """

    id: str
    state: str
    height: int | None
    position: int | None
    code: str
    rejections: list[tuple[int, str]]


class ClaimView(msgspec.Struct, frozen=True):
    """A withdrawal, and the proof with which anybody can have it paid on chain."""

    rollup: int
    index: int
    account: str
    token: int
    units: int
    proof: list[str]
    claimable: bool
    claimed: bool


class ChatView(msgspec.Struct, frozen=True):
    """A message of a room; `heads` are those that it follows, `time_ms` is its author's clock."""

    cid: str
    room: str
    account: str
    key: str
    sequence: int
    time_ms: int
    heads: list[str]
    text: str
    signature: str


class OrderList(msgspec.Struct, frozen=True):
    orders: list[OrderView]


class TradeList(msgspec.Struct, frozen=True):
    trades: list[TradeView]


class CandleList(msgspec.Struct, frozen=True):
    candles: list[CandleView]


class MarketList(msgspec.Struct, frozen=True):
    markets: list[MarketView]


class ClaimList(msgspec.Struct, frozen=True):
    withdrawals: list[ClaimView]


class ChatList(msgspec.Struct, frozen=True):
    messages: list[ChatView]
    heads: list[str]
