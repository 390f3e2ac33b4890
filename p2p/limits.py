"""What one network member grants its peers; what happens at a limit is said beside it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Rates and sizes of one node; the defaults suit up to 32 validators.

    Bounds that both ends must agree on are constants of `p2p.frames` and `p2p.gossip`.
    """

    connections_max: int = 256  # more: refused at the handshake
    strangers_max: int = 160  # more peers that are no validators: disconnected (E508)
    connections_per_peer_max: int = 8  # more: refused at the handshake
    streams_per_peer_max: int = 64  # more open inbound streams: reset (E505)
    streams_per_second: float = 200.0  # per peer, inbound; more: reset (E505)
    requests_per_peer_max: int = 16  # more at once: refused (E536)
    gossip_per_second: float = 500.0  # per peer and topic; more: dropped (E523)
    outbox_messages_max: int = 16_384  # more waiting: the stream is dropped (E511)
    outbox_bytes_max: int = 33_554_432  # more waiting: the stream is dropped (E511)
