"""Reading from an Outcry network, without a wallet.

    async with Viewer.connect(["http://127.0.0.1:8001"]) as viewer:
        book = await viewer.book("BTC-USD")

Everything is what one node says; the network id is recomputed from the genesis that it shows.
Several endpoints may be given: the next one is asked when one does not answer.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Self

import trio

from client._http import HttpStatistics, Nodes
from client.amounts import Grid
from client.faults import NetworkMismatch
from client.genesis import find_market, parse_genesis
from client.stream import Stream, open_stream
from client.talk import check_talk, each_once
from client.views import (
    AccountView,
    BookView,
    CandleList,
    CandleView,
    ChatList,
    ChatView,
    ClaimList,
    ClaimView,
    EnvelopeView,
    MarketList,
    MarketView,
    OrderList,
    OrderView,
    Status,
    TradeList,
    TradeView,
)
from exchange.network import NetworkGenesis
from primitives.secp256k1 import checksum_address

ROWS_DEFAULT = 100
DEPTH_DEFAULT = 100
MESSAGES_DEFAULT = 50


class Viewer:
    """One network, seen through some of its nodes. Made by `connect`."""

    def __init__(self, nodes: Nodes, genesis: NetworkGenesis) -> None:
        self._nodes = nodes
        self.genesis = genesis
        self.network = genesis.network_id()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, url: str | Sequence[str], *, network: bytes | None = None
    ) -> AsyncIterator[Self]:
        """Connect and check which network this is; `network` is the id to insist on.

        Errors: `NodeUnreachable`, `NodeMisbehaved`, `NetworkMismatch`.
        """
        async with open_nodes(url) as nodes:
            yield cls(nodes, await verified_genesis(nodes, network))

    @property
    def endpoints(self) -> list[str]:
        """The nodes' addresses, the one that is asked next first."""
        return list(self._nodes.endpoints)

    def http_statistics(self) -> HttpStatistics:
        """What was asked so far."""
        return self._nodes.statistics()

    def grid(self, market: str) -> Grid:
        """The steps of a market's prices and sizes. Errors: `UnknownSymbol`."""
        return Grid(self.genesis, market)

    async def status(self) -> Status:
        """How the node is that answers."""
        return await self._nodes.get("/v1/status", Status)

    async def markets(self) -> list[MarketView]:
        """All markets with their parameters."""
        return (await self._nodes.get("/v1/markets", MarketList)).markets

    async def book(self, market: str, depth: int = DEPTH_DEFAULT) -> BookView:
        """The best `depth` levels of each side. Errors: `UnknownSymbol`, `RefusedByNode`."""
        return await self._nodes.get(f"{self._market(market)}/book", BookView, depth=depth)

    async def trades(
        self, market: str, *, limit: int = ROWS_DEFAULT, before: int | None = None
    ) -> list[TradeView]:
        """Trades of a market, newest first; those below number `before` when it is given."""
        path = f"{self._market(market)}/trades"
        return (await self._nodes.get(path, TradeList, limit=limit, before=before)).trades

    async def candles(
        self,
        market: str,
        interval: str = "1m",
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        limit: int = ROWS_DEFAULT,
    ) -> list[CandleView]:
        """Candles of 1m, 5m, 1h or 1d, oldest first; spans without trades are absent."""
        given: dict[str, Any] = {"interval": interval, "from": start_ms, "to": end_ms}
        path = f"{self._market(market)}/candles"
        return (await self._nodes.get(path, CandleList, limit=limit, **given)).candles

    async def account(self, address: bytes) -> AccountView:
        """An account. Errors: `RefusedByNode` (E404) before its first deposit."""
        return await self._nodes.get(f"/v1/accounts/{checksum_address(address)}", AccountView)

    async def account_orders(
        self,
        address: bytes,
        *,
        market: str | None = None,
        closed: bool = False,
        limit: int = ROWS_DEFAULT,
        before: int | None = None,
    ) -> list[OrderView]:
        """Open orders of an account, with `closed` also those that ended; newest first."""
        symbol = None if market is None else find_market(self.genesis, market)[1].symbol
        found = await self._nodes.get(
            f"/v1/accounts/{checksum_address(address)}/orders",
            OrderList,
            status="all" if closed else "open",
            market=symbol,
            limit=limit,
            before=before,
        )
        return found.orders

    async def account_trades(
        self, address: bytes, market: str, *, limit: int = ROWS_DEFAULT, before: int | None = None
    ) -> list[TradeView]:
        """Trades of an account in one market, newest first."""
        found = await self._nodes.get(
            f"/v1/accounts/{checksum_address(address)}/trades",
            TradeList,
            market=find_market(self.genesis, market)[1].symbol,
            limit=limit,
            before=before,
        )
        return found.trades

    async def account_withdrawals(self, address: bytes) -> list[ClaimView]:
        """Withdrawals that rollup blocks hold for an account, with their proofs."""
        path = f"/v1/accounts/{checksum_address(address)}/withdrawals"
        return (await self._nodes.get(path, ClaimList)).withdrawals

    async def envelope(self, identity: bytes) -> EnvelopeView:
        """How far an envelope has come. Errors: `RefusedByNode` (E404) where it is unknown."""
        return await self._nodes.get(f"/v1/envelopes/0x{identity.hex()}", EnvelopeView)

    async def history(
        self, room: str, *, limit: int = MESSAGES_DEFAULT, before: str | None = None
    ) -> list[ChatView]:
        """Messages of a room, oldest first; those before the CID `before` when it is given.

        Errors: `RefusedByNode`, `ForgedMessage`.
        """
        path = f"/v1/chat/{room.upper()}"
        found = (await self._nodes.get(path, ChatList, limit=limit, before=before)).messages
        await trio.to_thread.run_sync(check_talk, found, self.network, self._nodes.endpoints[0])
        return found

    async def heads(self, room: str) -> list[str]:
        """The CIDs that the next message of a room follows."""
        return (await self._nodes.get(f"/v1/chat/{room.upper()}", ChatList, limit=1)).heads

    @asynccontextmanager
    async def listen(self, room: str) -> AsyncIterator[AsyncIterator[ChatView]]:
        """The newest messages of a room, then each new one, every one once.

            async with viewer.listen("BTC-USD") as messages:
                async for message in messages: ...

        Errors while iterating: `RefusedByNode`, `StreamBroken`, `ForgedMessage`.
        """
        async with self.stream("chat", room=room.upper()) as updates:
            yield each_once(updates, self.network, self._nodes.endpoints[0])

    def stream(self, channel: str, **key: str) -> AbstractAsyncContextManager[Stream]:
        """Updates of a channel: "book", "trades", "candles", "account", "chat" or "blocks".

        `key` is market=, market= and interval=, account=, or room=, as the channel needs.

            async with viewer.stream("trades", market="BTC-USD") as updates:
                async for update in updates: ...

        Errors: `RefusedByNode`, `StreamBroken` while iterating.
        """
        return open_stream(self._nodes, channel, key)

    def _market(self, symbol: str) -> str:
        return f"/v1/markets/{find_market(self.genesis, symbol)[1].symbol}"


@asynccontextmanager
async def open_nodes(url: str | Sequence[str]) -> AsyncIterator[Nodes]:
    """HTTP to one or several endpoints, closed at the end."""
    nodes = Nodes([url] if isinstance(url, str) else list(url))
    try:
        yield nodes
    finally:
        with trio.CancelScope(shield=True):
            await nodes.aclose()


async def verified_genesis(nodes: Nodes, expected: bytes | None) -> NetworkGenesis:
    """The network's genesis; its id is recomputed, and compared with what the node claims.

    Errors: `NodeMisbehaved`, `NetworkMismatch`, `NodeUnreachable`.
    """
    answer = await nodes.ask("GET", "/v1/genesis")
    genesis = parse_genesis(answer.read(dict[str, Any]), answer.endpoint)
    found = genesis.network_id()
    claimed = await nodes.get("/v1/status", Status)
    if claimed.network.removeprefix("0x") != found.hex():
        claim = bytes.fromhex(claimed.network.removeprefix("0x"))
        raise NetworkMismatch(answer.endpoint, claim, found)
    if expected is not None and expected != found:
        raise NetworkMismatch(answer.endpoint, found, expected)
    return genesis
