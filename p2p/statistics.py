"""What a network member says about itself and its peers."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PeerStatus:
    """One peer at one instant; counts run since the peer was first known.

    address: where it is or was dialled, or where it came from; empty when unknown
    connected: whether any connection to it stands
    linked: whether the stream of frames to it is open (validators only)
    since_ms: Unix time in ms of the last change of `connected`; 0 when it never connected
    bytes, messages: payloads of frames, requests, responses and gossip
    queue_messages, queue_bytes: what waits in its outbox
    dropped: messages not delivered to it, by reason
    refused: what it did against the rules, by fault code
    """

    peer_id: str
    address: str
    validator: int | None
    connected: bool
    linked: bool
    since_ms: int
    connections: int
    bytes_in: int
    bytes_out: int
    messages_in: int
    messages_out: int
    frames_in: int
    frames_out: int
    queue_messages: int
    queue_bytes: int
    dropped: Mapping[str, int]
    refused: Mapping[str, int]
    last_error: str


@dataclass(frozen=True)
class GossipStatistics:
    """What passed through gossip since start."""

    published: int
    delivered: int
    forwarded: int
    duplicates: int
    overflowed: int  # accepted, but the subscriber's queue was full
    seen_payloads: int
    mesh: Mapping[str, int]  # peers in the mesh, by topic


@dataclass(frozen=True)
class RequestStatistics:
    """Requests made and served since start."""

    asked: int
    answered: int
    failed: int  # asked, but refused, late, oversized or unreachable
    served: int
    refused: int  # served with a refusal


@dataclass(frozen=True)
class NetworkStatistics:
    """One network member at one instant; counts run since start."""

    peers_known: int
    peers_connected: int
    validators_linked: int
    bytes_in: int
    bytes_out: int
    messages_in: int
    messages_out: int
    frames_in: int
    frames_out: int
    frames_waiting: int  # received, not yet taken by the upper layer
    links_lost: int  # LinkUp events dropped because nobody took them
    dials: int
    dials_failed: int
    dropped: Mapping[str, int]  # messages not delivered, by reason
    refused: Mapping[str, int]  # what peers did against the rules, by fault code
    contained: int  # exceptions of handlers and of libp2p that a guard caught
    gossip: GossipStatistics
    requests: RequestStatistics
