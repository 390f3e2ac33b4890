"""One member of the network: its host, its peers, and the four ways to talk to them."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import structlog
import trio
from libp2p.abc import INetConn
from libp2p.tools.anyio_service import background_trio_service
from multiaddr.multiaddr import Multiaddr

from p2p._dialler import Dialler
from p2p._gossip import Accept, Gossip, GossipMessage
from p2p._guard import Guard
from p2p._host import (
    ConnectionNotice,
    check_port_is_free,
    listening_address,
    make_host,
    swarm_of,
)
from p2p._links import PROTOCOL, Links, LinkUp, PeerFrame
from p2p._requests import Requests
from p2p.addresses import parse_address
from p2p.configuration import NetworkConfig
from p2p.faults import AddressFault, HostFailed, StrangersExceeded
from p2p.peers import Peer, PeerTable
from p2p.statistics import NetworkStatistics, PeerStatus
from primitives.faults import LocalFault

STOP_MS_MAX: Final = 3_000  # a host that takes longer to close is cut off
GOSSIP_QUEUE_MESSAGES_MAX: Final = (
    1_024  # messages waiting for a subscriber, unless it says otherwise
)

log = structlog.get_logger(__name__)


class Network:
    """What the upper layers see of the network; made by `open_network`.

    peer_id: this node's peer id
    address: its multiaddr, /p2p/<peer id> included
    validator: its index when genesis binds its peer id to one
    frames: what validators sent, one item per frame; while it is full, reading waits
    links: an event whenever a stream to a validator opened, for sending state again
    """

    peer_id: str
    address: str
    validator: int | None
    frames: trio.MemoryReceiveChannel[PeerFrame]
    links: trio.MemoryReceiveChannel[LinkUp]

    def __init__(self, config: NetworkConfig) -> None:
        self._config = config
        self._host = make_host(config)
        self._swarm = swarm_of(self._host)
        self.peer_id = str(self._host.get_id())
        self.address = ""
        self.validator = config.validators.get(self.peer_id)
        self._peers = PeerTable(config.validators)
        self._dialler = Dialler(self._host, self.peer_id)
        self._guard = Guard(self._host, self._peers, config.limits)
        self._links = Links(
            self._host, config.protocol(PROTOCOL), self._peers, self.peer_id, config.limits
        )
        self.frames = self._links.frames
        self.links = self._links.links
        self._requests = Requests(self._host, self._peers, self._dialler, config.limits)
        self._gossip = Gossip(self._host, self._peers, config.limits, config.protocol(""))
        self._swarm.register_notifee(ConnectionNotice(self._connections_changed))
        self._nursery: trio.Nursery | None = None
        self._started = trio.Event()
        self._stopping = trio.Event()
        self._contained_at_stop = 0

    # Validators

    def send(self, validator: int, kind: int, payload: bytes) -> bool:
        """Queue one message for `validator` without waiting; False when it is dropped.

        `kind` is 0..255. Messages that are sent before the writer gets its turn leave in one
        frame. Messages to one validator arrive in order or not at all; after `LinkUp` none of
        those sent before it will arrive any more.
        Errors: `MessageTooLarge`.
        """
        return self._links.send(validator, kind, payload)

    def broadcast(self, kind: int, payload: bytes) -> None:
        """Queue one message for every other validator, as `send` does."""
        self._links.broadcast(kind, payload)

    # Everybody

    def serve(
        self,
        protocol: str,
        handler: Callable[[str, bytes], Awaitable[bytes]],
        *,
        request_bytes_max: int,
        response_bytes_max: int,
        per_second: float,
    ) -> None:
        """Answer requests of any peer with `handler(peer id, request)`.

        A RemoteFault of the handler refuses the request with its code and sentence; any other
        exception is logged, counted, and refuses it with E537. `per_second` holds per peer.
        Errors: `NameTaken`.
        """
        self._requests.serve(
            self._config.protocol(protocol),
            handler,
            request_bytes_max=request_bytes_max,
            response_bytes_max=response_bytes_max,
            per_second=per_second,
        )

    async def request(
        self,
        peer: str,
        protocol: str,
        payload: bytes,
        *,
        deadline_ms: int,
        response_bytes_max: int,
    ) -> bytes:
        """The answer of `peer` (its peer id), dialling it when an address is known.

        Errors: `RequestRefused`, `RequestTimeout`, `ResponseTooLarge`, `ResponseMalformed`,
            `PeerUnreachable`.
        """
        return await self._requests.request(
            peer,
            self._config.protocol(protocol),
            payload,
            deadline_ms=deadline_ms,
            response_bytes_max=response_bytes_max,
        )

    async def publish(self, topic: str, payload: bytes) -> None:
        """Gossip `payload`; a payload that this node saw on the topic before goes nowhere.

        Errors: `MessageTooLarge`.
        """
        await self._gossip.publish(topic, payload)

    def subscribe(
        self,
        topic: str,
        *,
        accept: Accept | None = None,
        queue_max: int = GOSSIP_QUEUE_MESSAGES_MAX,
    ) -> trio.MemoryReceiveChannel[GossipMessage]:
        """What peers pass on under `topic`, each payload once; never what this node published.

        `accept` decides from the payload alone whether it is delivered and forwarded; an
        exception in it counts as no. While the queue is full, messages are forwarded but not
        delivered, and counted.
        Errors: `NameTaken`.
        """
        receive = self._gossip.subscribe(topic, accept, queue_max)
        if self._nursery is None:
            raise HostFailed("it does not run yet")
        self._nursery.start_soon(self._gossip.announce, topic)
        return receive

    # Peers

    async def connect(self, address: str) -> None:
        """Learn a peer's address, keep connected to it from now on, and wait for the first time.

        Errors: `AddressMalformed`, `AddressesExceeded`; `PeerUnreachable` when it does not
            answer now (it is tried again all the same).
        """
        peer = self._learn(address)
        if peer is not None:
            await self._dialler.connect(peer)

    def _learn(self, text: str) -> Peer | None:
        address = parse_address(text)
        if address.peer == self._host.get_id():
            return None
        peer, first = self._peers.add_address(address)
        if first and self._nursery is not None:
            self._nursery.start_soon(self._dialler.keep_connected, peer)
        return peer

    async def disconnect(self, peer: str) -> None:
        """Close all connections to `peer`; one whose address is known is dialled again."""
        known = self._peers.get(peer)
        if known is not None:
            await self._guard.contain("disconnect", known.id, lambda: self._close_peer(known))

    async def _close_peer(self, peer: Peer) -> None:
        async with trio.open_nursery() as nursery:
            for connection in self._swarm.get_connections(peer.id):
                nursery.start_soon(connection.close)

    def peers(self) -> list[PeerStatus]:
        """All peers that are remembered, validators first."""
        others = [peer for peer in self._peers if peer.text != self.peer_id]
        others.sort(key=lambda peer: (peer.validator is None, peer.validator or 0, peer.text))
        return [self._status(peer) for peer in others]

    def _status(self, peer: Peer) -> PeerStatus:
        link = None
        if peer.validator is not None:
            link = self._links.by_validator.get(peer.validator)
        return peer.status() if link is None else peer.status(link.outbox.statistics())

    def statistics(self) -> NetworkStatistics:
        """Everything that is counted, over all peers."""
        peers = list(self._peers)
        dropped: Counter[str] = Counter()
        refused: Counter[str] = Counter(self._peers.forgotten_refused)
        for peer in peers:
            dropped.update(peer.dropped)
            refused.update(peer.refused)
        guards = (self._guard, self._gossip, self._requests)
        return NetworkStatistics(
            peers_known=len(peers),
            peers_connected=sum(peer.connected for peer in peers),
            validators_linked=sum(peer.linked for peer in peers),
            bytes_in=sum(peer.bytes_in for peer in peers),
            bytes_out=sum(peer.bytes_out for peer in peers),
            messages_in=sum(peer.messages_in for peer in peers),
            messages_out=sum(peer.messages_out for peer in peers),
            frames_in=sum(peer.frames_in for peer in peers),
            frames_out=sum(peer.frames_out for peer in peers),
            frames_waiting=self._links.waiting(),
            links_lost=self._links.events_lost,
            dials=self._dialler.dials,
            dials_failed=self._dialler.failed,
            dropped=dict(dropped),
            refused=dict(refused),
            contained=sum(guard.contained for guard in guards) + self._contained_at_stop,
            gossip=self._gossip.statistics(),
            requests=self._requests.statistics(),
        )

    # Life

    async def _connections_changed(self, connection: INetConn) -> None:
        peer = self._peers.of(connection.muxed_conn.peer_id)
        standing = self._swarm.get_connections(peer.id)
        peer.set_connections(sum(not each.is_closed for each in standing))
        where = connection.get_transport_addresses()
        if where:
            peer.seen_at = f"{where[0]}/p2p/{peer.text}"
        excess = self._peers.strangers() > self._config.limits.strangers_max
        if excess and peer.connected and peer.validator is None and not peer.addresses:
            peer.refuse(StrangersExceeded(self._config.limits.strangers_max))
            await self._guard.contain("close_stranger", peer.id, connection.close)

    async def _run(self) -> None:
        """Run the host until `_stopping`; what it raises while it stops is contained."""
        config = self._config
        listen = Multiaddr(
            f"/{'ip6' if ':' in config.listen_host else 'ip4'}/{config.listen_host}"
            f"/tcp/{config.listen_port}"
        )
        try:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self._host.run([listen]))
                address = listening_address(self._host, config)
                self.address = f"{address}/p2p/{self.peer_id}"
                await stack.enter_async_context(background_trio_service(self._gossip.wire))
                await stack.enter_async_context(background_trio_service(self._gossip.mesh))
                await self._gossip.wire.wait_until_ready()
                self._started.set()
                try:
                    await self._stopping.wait()
                finally:
                    with trio.move_on_after(STOP_MS_MAX / 1_000) as scope:
                        scope.shield = True
                        await self._close_host()
        except Exception as error:  # guard: of the host while it stops
            fault = _only_local_fault(error)
            if fault is not None:
                raise fault from None
            if not self._stopping.is_set():
                raise HostFailed(repr(error)) from error
            self._contained_at_stop += 1
            log.info("stop_contained", error=repr(error))

    async def _close_host(self) -> None:
        """Close all connections at once: libp2p would take a fifth of a second for each."""
        async with trio.open_nursery() as nursery:
            for connection in self._swarm.get_connections():
                peer: Any = connection.muxed_conn.peer_id
                nursery.start_soon(self._guard.contain, "stop", peer, connection.close)
        await self._guard.contain("stop", self._host.get_id(), self._host.close)

    async def _start(self, nursery: trio.Nursery) -> None:
        for link in self._links.by_validator.values():
            nursery.start_soon(link.keep_open)
        nursery.start_soon(self._guard.watch_connections)
        self._nursery = nursery
        for text in self._config.bootstrap:
            try:
                self._learn(text)
            except AddressFault as fault:
                log.error("bootstrap_refused", code=fault.code, reason=fault.sentence)
                raise


def _only_local_fault(error: BaseException) -> LocalFault | None:
    """The LocalFault inside the groups that nurseries wrap around it, if that is all."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, LocalFault) else None


@asynccontextmanager
async def open_network(config: NetworkConfig) -> AsyncIterator[Network]:
    """Join the network, stay in it for the body, and leave within a few seconds.

    Errors: `ListenFailed`, `AddressMalformed` and `AddressesExceeded` for bootstrap addresses;
        `HostFailed` (in an exception group) when libp2p stops by itself.
    """
    if config.listen_port:
        check_port_is_free(config.listen_host, config.listen_port)
    network = Network(config)
    async with trio.open_nursery() as host_nursery:
        host_nursery.start_soon(network._run)
        await network._started.wait()
        async with trio.open_nursery() as nursery:
            await network._start(nursery)
            yield network
            nursery.cancel_scope.cancel()
        network._stopping.set()
