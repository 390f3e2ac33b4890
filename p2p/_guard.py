"""The guard over everything that peers start in this process.

libp2p runs stream handlers in the nursery that holds the host: one exception from one of them,
whoever caused it, ends the process. Here they end, are logged and counted.
"""

from typing import Any, Final

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID

from p2p._host import swarm_of
from p2p._streams import STREAM_ERRORS, reset
from p2p.faults import FlowViolated, PeerSilent, StreamBroken, StreamsExceeded
from p2p.limits import Limits
from p2p.peers import PEERS_MAX, Peer, PeerTable
from p2p.rates import RateTable
from primitives.faults import RemoteFault

BUFFERED_BYTES_MAX: Final = 67_108_864  # unread bytes of one connection; more: closed with E506
PING_MS_MAX: Final = 20_000  # a ping unanswered for longer: closed with E507
WATCH_MS: Final = 250  # between two looks at the connections

log = structlog.get_logger(__name__)


class Guard:
    """Wraps the one entry point of inbound streams, and watches the buffers behind it."""

    def __init__(self, host: BasicHost, peers: PeerTable, limits: Limits) -> None:
        self._swarm = swarm_of(host)
        self._peers = peers
        self._limits = limits
        self._rates = RateTable(limits.streams_per_second, PEERS_MAX)
        self._handle = self._swarm.common_stream_handler
        self.contained = 0
        self._swarm.set_stream_handler(self._guarded)

    async def _guarded(self, stream: INetStream) -> None:
        """Run libp2p's handler for one inbound stream.

        From: any connected peer.
        Checks: the peer's open streams and its streams per second.
        Effects: whatever the protocol's handler does.
        Errors: none leaves; a RemoteFault is counted against the peer, anything else is
            contained, and either resets the stream.
        """
        peer = self._peers.of(stream.muxed_conn.peer_id)
        peer.streams += 1
        try:
            self._admit(peer)
            await self._handle(stream)
        except RemoteFault as fault:
            peer.refuse(fault)
            await reset(stream)
        except STREAM_ERRORS as error:
            peer.failed(error)
            await reset(stream)
        except Exception as error:  # guard: of a peer's stream
            self.contained += 1
            peer.refuse(StreamBroken(f"the handler of {stream.get_protocol()} gave up"))
            log.warning("handler_contained", peer=peer.text, error=repr(error), exc_info=error)
            await reset(stream)
        finally:
            peer.streams -= 1

    def _admit(self, peer: Peer) -> None:
        if peer.streams > self._limits.streams_per_peer_max:
            raise StreamsExceeded(self._limits.streams_per_peer_max, "at once")
        if not self._rates.take(peer.text, trio.current_time()):
            raise StreamsExceeded(self._limits.streams_per_second, "per second")

    async def watch_connections(self) -> None:
        """Close connections of peers that overrun their windows or are gone without a word.

        libp2p's Yamux notes an overrun and stores the bytes all the same; it pings, and does
        nothing when no answer comes.
        """
        unanswered: dict[trio.Event, float] = {}
        while True:
            await trio.sleep(WATCH_MS / 1_000)
            now_s = trio.current_time()
            still: dict[trio.Event, float] = {}
            for connection in self._swarm.get_connections():
                muxed: Any = connection.muxed_conn
                ping: trio.Event = muxed._ping_event
                if not ping.is_set():
                    still[ping] = unanswered.get(ping, now_s)
                fault = _fault_of(muxed, now_s - still.get(ping, now_s))
                if fault is not None:
                    self._peers.of(muxed.peer_id).refuse(fault)
                    await self.contain("close_connection", muxed.peer_id, connection.close)
            unanswered = still

    async def contain(self, what: str, peer: ID, act: Any) -> None:
        """Await `act()`; what it raises is logged and counted, never passed on."""
        try:
            await act()
        except Exception as error:  # noqa: BLE001  # guard: of a peer
            self.contained += 1
            self._peers.of(peer).failed(error)
            log.warning("contained", what=what, peer=str(peer), error=repr(error))


def _fault_of(muxed: Any, unanswered_s: float) -> RemoteFault | None:
    held = sum(len(buffer) for buffer in muxed.stream_buffers.values())
    if held > BUFFERED_BYTES_MAX:
        return FlowViolated(held, BUFFERED_BYTES_MAX)
    if unanswered_s * 1_000 > PING_MS_MAX:
        return PeerSilent(PING_MS_MAX)
    return None
