"""What the API uses of a node. `node.Node` satisfies it by its shape alone."""

from typing import Protocol

from chat import ChatService
from exchange import Exchange
from exchange.network import NetworkGenesis
from exchange.receipt import Receipt
from node.config import Config
from node.feed import Feed
from node.metrics import Metric
from node.status import ClaimView, EnvelopeStatus, Status
from primitives.faults import RemoteFault
from storage import Index


class NodeFace(Protocol):
    """A node, as its API sees it."""

    @property
    def config(self) -> Config: ...

    @property
    def genesis(self) -> NetworkGenesis: ...

    @property
    def network(self) -> bytes:
        """The 32 bytes of `genesis.network_id()`."""

    @property
    def exchange(self) -> Exchange: ...

    @property
    def index(self) -> Index: ...

    @property
    def feed(self) -> Feed: ...

    @property
    def chat(self) -> ChatService: ...

    @property
    def is_ready(self) -> bool:
        """Whether orders are taken."""

    def status(self) -> Status: ...

    async def metrics(self) -> list[Metric]:
        """Every number that a part of this node keeps."""

    async def submit(self, wires: list[bytes]) -> list[Receipt | RemoteFault]:
        """A signed receipt or a fault for each envelope, in order."""

    async def say(self, wire: bytes) -> bytes:
        """Take a chat message; its CID. Errors: `ChatFault`."""

    async def envelope(self, name: bytes) -> EnvelopeStatus | None:
        """How far an envelope has come, None for one that this node has not seen."""

    async def withdrawals(self, address: bytes) -> list[ClaimView]:
        """Withdrawals of an account, newest first. Errors: `ChainFault`."""
