"""Frames, requests and gossip between peers; what they mean is the upper layers' business.

    config = NetworkConfig(network_id, seed, validators={peer_id: 0}, bootstrap=[address])
    async with open_network(config) as network:
        network.broadcast(VOTE, vote)
        async for frame in network.frames:
            for kind, payload in frame.messages:
                handle(frame.validator, kind, payload)

Validators hold one stream of frames to each other; anybody may ask (`request`, `serve`) and
gossip (`publish`, `subscribe`). Whatever peers send, no exception of it reaches the host:
faults are counted per peer and by code, see `p2p.faults`.
"""

from p2p._gossip import GOSSIP_BYTES_MAX as GOSSIP_BYTES_MAX
from p2p._gossip import GossipMessage as GossipMessage
from p2p._links import LinkUp as LinkUp
from p2p._links import PeerFrame as PeerFrame
from p2p.addresses import PeerAddress as PeerAddress
from p2p.addresses import parse_address as parse_address
from p2p.addresses import peer_id_of_public_key as peer_id_of_public_key
from p2p.addresses import peer_id_of_seed as peer_id_of_seed
from p2p.configuration import NetworkConfig as NetworkConfig
from p2p.faults import PeerUnreachable as PeerUnreachable
from p2p.faults import RequestRefused as RequestRefused
from p2p.faults import RequestTimeout as RequestTimeout
from p2p.frames import FRAME_BYTES_MAX as FRAME_BYTES_MAX
from p2p.frames import MESSAGE_BYTES_MAX as MESSAGE_BYTES_MAX
from p2p.limits import Limits as Limits
from p2p.logs import quiet_libp2p as quiet_libp2p
from p2p.network import Network as Network
from p2p.network import open_network as open_network
from p2p.statistics import NetworkStatistics as NetworkStatistics
from p2p.statistics import PeerStatus as PeerStatus
