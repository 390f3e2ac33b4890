"""Gossip: libp2p's mesh, with our own reading, checking, deduplication and rates.

libp2p's `GossipSub` keeps the mesh; `Pubsub` is replaced where a peer's bytes enter, so that
no frame of a peer can raise into the host, start tasks without bound, or grow a table.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.host.basic_host import BasicHost
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V12, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.pubsub.validators import signature_validator

from p2p._streams import STREAM_ERRORS, CreditReader, reset
from p2p.faults import (
    GossipMalformed,
    GossipRateExceeded,
    GossipRefused,
    GossipUnsigned,
    MessageTooLarge,
    NameTaken,
    StreamBroken,
)
from p2p.limits import Limits
from p2p.peers import PEERS_MAX, PeerTable
from p2p.rates import RateTable
from p2p.seen import SeenKeys
from p2p.statistics import GossipStatistics
from primitives.faults import RemoteFault

GOSSIP_BYTES_MAX: Final = 524_288  # larger payloads: announce a hash, let peers request
RPC_BYTES_MAX: Final = 4_194_304  # larger RPCs: the stream is reset with E521
RPC_QUEUE_MESSAGES_MAX: Final = 1_024  # RPCs waiting for one peer; more: dropped by libp2p
RPC_ITEMS_MAX: Final = 1_024  # messages, subscriptions, control entries of one RPC (E521)
TOPICS_MAX: Final = 64  # that one peer may subscribe to; more: ignored
TOPIC_BYTES_MAX: Final = 128  # longer names: ignored
SEEN_ITEMS_MAX: Final = 65_536  # payloads remembered; older ones count as new
IDENTITY_BYTES_MAX: Final = 128  # of a message's sender, key, signature
PENDING_PER_PEER_ITEMS_MAX: Final = 16  # messages kept for a peer whose subscriptions are unknown
IDONTWANT_BYTES_MIN: Final = 4_096  # "do not send me" costs more than a smaller duplicate
HEARTBEAT_S: Final = 1
MESH_DEGREE: Final = 6
MESH_DEGREE_MIN: Final = 4
MESH_DEGREE_MAX: Final = 12

PROTOCOLS: Final = (PROTOCOL_ID_V12,)
_VARINT_BYTES_MAX: Final = 5

Accept = Callable[[bytes], bool]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class GossipMessage:
    """A payload as a peer passed it on; that peer vouches for it, its author may be another."""

    peer: str
    payload: bytes


@dataclass(frozen=True)
class _Subscription:
    name: str
    accept: Accept | None
    queue: trio.MemorySendChannel[GossipMessage]


class _WideQueues(dict[ID, RpcQueue]):
    """libp2p makes each peer's queue 32 RPCs long and drops in silence; these are longer."""

    def __setitem__(self, peer: ID, queue: RpcQueue) -> None:
        queue._queue.max_size = RPC_QUEUE_MESSAGES_MAX
        queue.max_message_size = RPC_BYTES_MAX
        super().__setitem__(peer, queue)


class _Mesh(GossipSub):
    """GossipSub 1.2 without the parts that grow or chatter."""

    def __init__(self) -> None:
        super().__init__(
            protocols=PROTOCOLS,
            degree=MESH_DEGREE,
            degree_low=MESH_DEGREE_MIN,
            degree_high=MESH_DEGREE_MAX,
            heartbeat_interval=HEARTBEAT_S,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,  # ten messages a second, our own included
            eclipse_protection_enabled=False,
            max_pending_messages_per_peer=PENDING_PER_PEER_ITEMS_MAX,
        )
        self.forwarded = 0

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        await super().publish(msg_forwarder, pubsub_msg)
        self.forwarded += 1
        # Filled for the adaptive mode alone, and never emptied without it.
        self.recent_message_deliveries.clear()

    async def _emit_idontwant_for_message(self, msg_id: bytes, topic_ids: Any) -> None:
        message = self.mcache.get(msg_id)
        if message is not None and len(message.data) >= IDONTWANT_BYTES_MIN:
            await super()._emit_idontwant_for_message(msg_id, topic_ids)


class _Wire(Pubsub):
    """Pubsub whose every entry for a peer's bytes is ours."""

    def __init__(self, host: BasicHost, mesh: _Mesh, owner: "Gossip") -> None:
        super().__init__(host, mesh, max_subscriptions_per_peer=TOPICS_MAX)
        self._owner = owner
        self.seen_messages.stop()
        self.seen_messages = SeenKeys(SEEN_ITEMS_MAX)  # type: ignore[assignment]
        self.peer_queues = _WideQueues()
        # Seconds would repeat after a quick restart, and peers drop what they have seen.
        self.counter = time.time_ns()

    async def stream_handler(self, stream: INetStream) -> None:
        """Read one peer's RPCs; the faults go on to the guard, which resets the stream."""
        peer = stream.muxed_conn.peer_id
        try:
            await self._owner.read(peer, CreditReader(stream))
        except (RemoteFault, *STREAM_ERRORS):
            self._handle_dead_peer(peer)
            raise
        await reset(stream)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Say again what this node subscribes to, once the peer's queue exists.

        libp2p says it in its first RPC and announces news through the queue; a subscription
        between the two would never be heard of.
        """
        await super()._handle_new_peer(peer_id)
        queue = self.peer_queues.get(peer_id)
        if queue is not None and self.topic_ids:
            again = [rpc_pb2.RPC.SubOpts(subscribe=True, topicid=each) for each in self.topic_ids]
            queue.push(rpc_pb2.RPC(subscriptions=again))

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        await self._owner.push(msg_forwarder, msg)

    def is_seen(self, msg: rpc_pb2.Message) -> bool:
        """Whether this very message (author and number) came before."""
        return self._is_msg_seen(msg)

    def mark_seen(self, msg: rpc_pb2.Message) -> None:
        """Do not ask peers for this message again."""
        self._mark_msg_seen(msg)


class Gossip:
    """Publishes to topics and delivers what peers pass on, each payload once."""

    def __init__(self, host: BasicHost, peers: PeerTable, limits: Limits, prefix: str) -> None:
        self._own = host.get_id()
        self._peers = peers
        self._prefix = prefix
        self._subscriptions: dict[str, _Subscription] = {}
        self._payloads = SeenKeys(SEEN_ITEMS_MAX)
        self._rates = RateTable(limits.gossip_per_second, PEERS_MAX * TOPICS_MAX)
        self._counts: Counter[str] = Counter()
        self.contained = 0
        self.mesh = _Mesh()
        self.wire = _Wire(host, self.mesh, self)

    # Publishing and subscribing

    async def publish(self, topic: str, payload: bytes) -> None:
        """Hand `payload` to the mesh of `topic`; what was seen before goes no further.

        Errors: `MessageTooLarge`.
        """
        if len(payload) > GOSSIP_BYTES_MAX:
            raise MessageTooLarge(len(payload), GOSSIP_BYTES_MAX)
        if not self._payloads.add(_payload_key(self._prefix + topic, payload)):
            self._counts["duplicates"] += 1
            return
        self._counts["published"] += 1
        await self.wire.publish(self._prefix + topic, payload)

    def subscribe(
        self, topic: str, accept: Accept | None, queue_max: int
    ) -> trio.MemoryReceiveChannel[GossipMessage]:
        """Deliver what peers pass on under `topic`; `announce` must follow.

        Errors: `NameTaken`.
        """
        name = self._prefix + topic
        if name in self._subscriptions:
            raise NameTaken("topic", topic)
        send, receive = trio.open_memory_channel[GossipMessage](queue_max)
        self._subscriptions[name] = _Subscription(name, accept, send)
        return receive

    async def announce(self, topic: str) -> None:
        """Tell all peers of the subscription and join the topic's mesh."""
        await self.wire.subscribe(self._prefix + topic)

    # What peers send

    async def read(self, peer: ID, reader: CreditReader) -> None:
        """Take in one peer's RPCs until its stream ends.

        From: any peer.
        Checks: framing, size, number of entries; then those of `push` for each message.
        Effects: accepted messages are delivered and forwarded; the mesh hears of
            subscriptions and control entries for this network's topics.
        Errors: `GossipMalformed` and `StreamBroken` end the stream, others one message.
        """
        buffer = bytearray()
        while True:
            size = await _read_varint(reader, buffer)
            if size is None:
                return
            if size > RPC_BYTES_MAX:
                raise GossipMalformed(f"an RPC of {size} bytes is above {RPC_BYTES_MAX}")
            body = await reader.receive_exactly(size, buffer)
            await self._take_in(peer, _parse(body))

    async def _take_in(self, peer: ID, rpc: rpc_pb2.RPC) -> None:
        for message in rpc.publish:
            await self.push(peer, message)
        for subscription in rpc.subscriptions:
            if self._is_ours(subscription.topicid):
                self.wire.handle_subscription(peer, subscription)
        if rpc.HasField("control"):
            self._keep_ours(rpc.control)
            rpc.ClearField("senderRecord")  # what a peer says of itself is not used
            await self.mesh.handle_rpc(rpc, peer)

    def _is_ours(self, topic: str) -> bool:
        return topic.startswith(self._prefix) and len(topic.encode()) <= TOPIC_BYTES_MAX

    def _keep_ours(self, control: rpc_pb2.ControlMessage) -> None:
        """Drop entries that would fill tables under foreign names, or make us dial strangers."""
        entries: Any
        for entries in (control.graft, control.prune, control.ihave):
            kept = [entry for entry in entries if entry.topicID in self._subscriptions]
            if len(kept) != len(entries):
                del entries[:]
                entries.extend(kept)
        for prune in control.prune:
            del prune.peers[:]

    async def push(self, forwarder: ID, message: rpc_pb2.Message) -> None:
        """Check, deliver and forward one message; never raises for what a peer sent.

        From: any peer, or this node when it publishes.
        Checks: shape, rate, author's signature, novelty of message and payload, the topic's own.
        Effects: the subscriber gets it; the mesh forwards it.
        Errors: counted against the forwarder: `GossipMalformed`, `GossipRateExceeded`,
            `GossipUnsigned`, `GossipRefused`.
        """
        try:
            if forwarder == self._own:
                self.wire.mark_seen(message)
            elif not self._admit(forwarder, message):
                return
            await self.mesh.publish(forwarder, message)
        except RemoteFault as fault:
            self._peers.of(forwarder).refuse(fault)
        except Exception as error:  # guard: of a peer
            self.contained += 1
            log.warning("gossip_contained", peer=str(forwarder), exc_info=error)

    def _admit(self, forwarder: ID, message: rpc_pb2.Message) -> bool:
        """Whether a peer's message is new and right; it is delivered then."""
        peer = self._peers.of(forwarder)
        subscription = self._subscription_of(message)
        if not self._rates.take((peer.text, subscription.name), trio.current_time()):
            raise GossipRateExceeded(self._rates.per_second)
        if self.wire.is_seen(message) or message.from_id == self._own.to_bytes():
            self._counts["duplicates"] += 1
            return False
        if not _is_signed(message):
            raise GossipUnsigned
        self.wire.mark_seen(message)
        payload = bytes(message.data)
        key = _payload_key(subscription.name, payload)
        if self._payloads.has(key):
            self._counts["duplicates"] += 1
            return False
        if not self._accepts(subscription, payload):
            raise GossipRefused
        self._payloads.add(key)
        peer.received(len(payload))
        try:
            subscription.queue.send_nowait(GossipMessage(peer.text, payload))
            self._counts["delivered"] += 1
        except (trio.WouldBlock, trio.BrokenResourceError):
            self._counts["overflowed"] += 1
        return True

    def _subscription_of(self, message: rpc_pb2.Message) -> _Subscription:
        """The one topic that `message` is for.

        Errors: `GossipMalformed` for any other shape than a message of this network's.
        """
        if len(message.topicIDs) != 1:
            raise GossipMalformed(f"a message names {len(message.topicIDs)} topics")
        subscription = self._subscriptions.get(message.topicIDs[0])
        if subscription is None:
            raise GossipMalformed("a message is for a topic that was not asked for")
        if len(message.data) > GOSSIP_BYTES_MAX:
            raise GossipMalformed(f"a payload of {len(message.data)} bytes is too large")
        if len(message.seqno) != 8 or not message.from_id:
            raise GossipMalformed("a message has no author or number")
        if max(map(len, (message.from_id, message.key, message.signature))) > IDENTITY_BYTES_MAX:
            raise GossipMalformed("a message's author is too long")
        return subscription

    def _accepts(self, subscription: _Subscription, payload: bytes) -> bool:
        if subscription.accept is None:
            return True
        try:
            return bool(subscription.accept(payload))
        except Exception as error:  # guard: of a topic's own check
            self.contained += 1
            log.warning("gossip_check_failed", topic=subscription.name, exc_info=error)
            return False

    def statistics(self) -> GossipStatistics:
        """What passed through so far."""
        counts = self._counts
        return GossipStatistics(
            published=counts["published"],
            delivered=counts["delivered"],
            forwarded=self.mesh.forwarded,
            duplicates=counts["duplicates"],
            overflowed=counts["overflowed"],
            seen_payloads=self._payloads.length(),
            mesh={name: len(peers) for name, peers in self.mesh.mesh.items()},
        )


def _payload_key(topic: str, payload: bytes) -> bytes:
    digest = hashlib.sha256(topic.encode())
    digest.update(b"\x00")
    digest.update(payload)
    return digest.digest()


def _is_signed(message: rpc_pb2.Message) -> bool:
    try:
        return bool(signature_validator(message))
    except Exception:  # noqa: BLE001  # guard: libp2p raises anything on malformed keys
        return False


def _parse(body: bytes) -> rpc_pb2.RPC:
    rpc = rpc_pb2.RPC()
    try:
        rpc.ParseFromString(body)
    except Exception as error:  # guard: protobuf's DecodeError has no stable home
        raise GossipMalformed("an RPC is no protobuf") from error
    items = len(rpc.publish) + len(rpc.subscriptions)
    if rpc.HasField("control"):
        control = rpc.control
        for entries in (control.graft, control.prune):
            items += len(entries)
        for wanted in (control.ihave, control.iwant, control.idontwant):
            items += len(wanted) + sum(len(entry.messageIDs) for entry in wanted)
    if items > RPC_ITEMS_MAX:
        raise GossipMalformed(f"an RPC has {items} entries")
    return rpc


async def _read_varint(reader: CreditReader, buffer: bytearray) -> int | None:
    """The next length prefix; None when the stream ends before one begins."""
    while True:
        value = 0
        for index, byte in enumerate(buffer[:_VARINT_BYTES_MAX]):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                del buffer[: index + 1]
                return value
        if len(buffer) >= _VARINT_BYTES_MAX:
            raise GossipMalformed("an RPC's length is no varint of 32 bits")
        data = await reader.receive_some()
        if not data:
            if buffer:
                raise StreamBroken("the stream ended inside an RPC's length")
            return None
        buffer += data
