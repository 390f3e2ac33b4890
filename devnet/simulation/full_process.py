"""What a full node remembers only while its process runs."""

from collections import deque

from consensus import Commit, Event
from exchange import BlockResult, Exchange, Rollup
from exchange.events import Withdrawn
from node.flush import PendingWrites
from node.mempool import Mempool
from storage import Index, Journal


class FullProcess:
    """Memory of one process, from its start to its end."""

    def __init__(self, index: Index, journal: Journal, exchange: Exchange) -> None:
        self.index = index
        self.journal = journal
        self.exchange = exchange
        self.mempool = Mempool()
        self.pending = PendingWrites()
        self.inbox: deque[Event] = deque()
        self.commits: deque[Commit] = deque()
        self.push: list[bytes] = []
        self.wanted: dict[bytes, None] = {}
        self.rollups: list[tuple[Rollup, bytes]] = []
        self.withdrawn = [0] * len(exchange.genesis.tokens)
        self.asked_ms: int | None = None
        self.reported = 0
        self.reported_ms: int | None = None

    def on_result(self, result: BlockResult) -> None:
        if result.rollup is not None:
            self.rollups.append((result.rollup, result.root))
        for event in result.events:
            if isinstance(event, Withdrawn):
                self.withdrawn[event.token] += event.units
