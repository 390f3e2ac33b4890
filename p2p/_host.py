"""The libp2p host: only Noise, only Yamux, only TCP, and bounded where stock hosts are not.

What a stock host of libp2p 0.8.1 does, and this one does not:
- accept plaintext and other handshakes, in the first of which a peer id is a mere claim;
- keep the slot of an inbound connection after its end, until none is left;
- dial whomever it heard of until half of `high_watermark` peers are connected;
- believe what peers push about themselves (identify/push), and ask each of them (identify);
- refuse all connections for a minute after five that were refused.
"""

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
import trio
from libp2p import new_host
from libp2p.abc import IMuxedConn, INetConn, INetStream, INetwork, INotifee, IRawConnection
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr.multiaddr import Multiaddr

from p2p._tcp import ReadAheadTCP
from p2p.configuration import NetworkConfig
from p2p.faults import ListenFailed
from p2p.limits import Limits

UPGRADE_S_MAX: Final = 5.0  # a handshake that takes longer is given up
NEGOTIATION_S_MAX: Final = 5.0  # so is naming a stream's protocol
STREAMS_MAX: Final = 16_384  # open streams over all peers

ConnectionChanged = Callable[[INetConn], Awaitable[None]]

log = structlog.get_logger(__name__)


def make_host(config: NetworkConfig) -> BasicHost:
    """A host that has the identity of `config.seed` and does not listen yet."""
    keys = create_new_key_pair(config.seed)
    noise = NoiseTransport(keys, noise_privkey=create_new_noise_key_pair().private_key)
    host = new_host(
        key_pair=keys,
        sec_opt={NOISE: noise},
        muxer_opt={TProtocol(YAMUX): Yamux},
        transports=[ReadAheadTCP()],
        connection_config=_connection_config(config.limits),
        resource_manager=_resource_manager(config.limits),
        disable_identify_address_discovery=True,
    )
    if not isinstance(host, BasicHost):
        raise TypeError(f"libp2p made a {type(host).__name__}")
    host.remove_stream_handler(ID_PUSH)
    _never_identify(host)
    swarm = swarm_of(host)
    swarm.auto_connector = _NoAutoConnector(swarm)
    swarm.retry_config = RetryConfig(max_retries=0)  # our own loop waits and tries again
    _release_inbound_slots(swarm)
    return host


def swarm_of(host: BasicHost) -> Swarm:
    """The host's swarm, which holds its connections."""
    network = host.get_network()
    if not isinstance(network, Swarm):
        raise TypeError(f"libp2p made a {type(network).__name__}")
    return network


def _connection_config(limits: Limits) -> ConnectionConfig:
    return ConnectionConfig(
        max_connections=limits.connections_max,
        min_connections=0,
        low_watermark=0,
        high_watermark=limits.connections_max,
        max_connections_per_peer=limits.connections_per_peer_max,
        dial_timeout=UPGRADE_S_MAX,
        inbound_upgrade_timeout=UPGRADE_S_MAX,
        outbound_upgrade_timeout=UPGRADE_S_MAX,
        outbound_stream_protocol_negotiation_timeout=NEGOTIATION_S_MAX,
        inbound_stream_protocol_negotiation_timeout=NEGOTIATION_S_MAX,
    )


def _resource_manager(limits: Limits) -> ResourceManager:
    return ResourceManager(
        # Twice: a handshake holds one slot before and one after the peer is known.
        limits=ResourceLimits(2 * limits.connections_max, max_streams=STREAMS_MAX),
        connection_limits=ConnectionLimits(
            max_established_per_peer=limits.connections_per_peer_max,
            max_established_total=limits.connections_max,
        ),
        enable_metrics=False,
        enable_memory_limits=False,
        enable_memory_pooling=False,
        enable_circuit_breaker=False,
        enable_graceful_degradation=False,
    )


def _never_identify(host: BasicHost) -> None:
    """Keep libp2p from asking every peer who it is: nothing here believes the answer."""

    def ignore(peer_id: ID, *, reason: str) -> None:
        log.debug("identify_skipped", peer=str(peer_id), reason=reason)

    host._schedule_identify = ignore  # type: ignore[method-assign]


class _NoAutoConnector(AutoConnector):
    """Dials nobody: the stock one does, up to half of `high_watermark`, whatever else is set."""

    async def run_background_task(self, nursery: trio.Nursery) -> None:  # noqa: ARG002
        await trio.lowlevel.checkpoint()

    async def maybe_connect(self) -> None:
        await trio.lowlevel.checkpoint()

    def record_disconnect(self, peer_id: ID) -> None:
        """Nothing waits for this peer to be dialled again."""


class _ConnectionEnded(SwarmException):
    """Tells libp2p that an inbound connection is over."""


def _release_inbound_slots(swarm: Swarm) -> None:
    """Let go of an inbound connection's slot and task when it ends.

    The handler of libp2p 0.8.1 holds both until the host stops, so that a host accepts no more
    than `max_connections` inbound connections in its whole life. It lets go on an exception.
    """
    upgrade = swarm.upgrade_inbound_raw_conn

    async def upgrade_then_wait(raw_conn: IRawConnection, maddr: Multiaddr) -> IMuxedConn:
        muxed: Any = await upgrade(raw_conn, maddr)
        await muxed.event_closed.wait()
        raise _ConnectionEnded("the connection has ended")

    swarm.upgrade_inbound_raw_conn = upgrade_then_wait  # type: ignore[method-assign]


def check_port_is_free(host: str, port: int) -> None:
    """Refuse a port that another process listens on.

    libp2p listens with SO_REUSEPORT: the kernel would silently share the port between two
    nodes of the same user.

    Errors: `ListenFailed`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ListenFailed(host, port, error.strerror or str(error.errno)) from error
    except OverflowError as error:
        raise ListenFailed(host, port, "no such port") from error


def listening_address(host: BasicHost, config: NetworkConfig) -> Multiaddr:
    """Where the host listens, without the peer id.

    Errors: `ListenFailed` when it does not.
    """
    addresses: list[Multiaddr] = host.get_transport_addrs()
    if not addresses:
        detail = errno.errorcode[errno.EADDRNOTAVAIL]
        raise ListenFailed(config.listen_host, config.listen_port, detail)
    return addresses[0]


class ConnectionNotice(INotifee):
    """Tells one listener which peers' connections came and went."""

    def __init__(self, changed: ConnectionChanged) -> None:
        self._changed = changed

    async def connected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        await self._changed(conn)

    async def disconnected(self, network: INetwork, conn: INetConn) -> None:  # noqa: ARG002
        await self._changed(conn)

    async def opened_stream(self, network: INetwork, stream: INetStream) -> None:  # noqa: ARG002
        await trio.lowlevel.checkpoint()

    async def closed_stream(self, network: INetwork, stream: INetStream) -> None:  # noqa: ARG002
        await trio.lowlevel.checkpoint()

    async def listen(self, network: INetwork, multiaddr: Multiaddr) -> None:  # noqa: ARG002
        await trio.lowlevel.checkpoint()

    async def listen_close(self, network: INetwork, multiaddr: Multiaddr) -> None:  # noqa: ARG002
        await trio.lowlevel.checkpoint()
