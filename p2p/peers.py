"""The peers that are or were known, and what each of them did."""

import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

import structlog
import trio
from libp2p.peer.id import ID

from p2p.addresses import PeerAddress
from p2p.faults import AddressesExceeded
from p2p.outbox import OutboxStatistics
from p2p.statistics import PeerStatus
from primitives.faults import RemoteFault

PEERS_MAX: Final = 1_024  # more: the disconnected peer unused for longest is forgotten
ADDRESSES_PER_PEER_MAX: Final = 8  # more: refused with E543
DIALLED_PEERS_MAX: Final = 256  # more: refused with E543
ERROR_CHARACTERS_MAX: Final = 256  # longer error texts are cut

_NOTHING_WAITS: Final = OutboxStatistics(0, 0)

log = structlog.get_logger(__name__)


class Peer:
    """One peer: its addresses, its connections as notified, its counters.

    `joined` is set while a connection stands, `lost` while none does.
    """

    def __init__(self, peer: ID, validator: int | None) -> None:
        self.id = peer
        self.text = str(peer)
        self.validator = validator
        self.addresses: list[PeerAddress] = []
        self.seen_at = ""
        self.connections = 0
        self.linked = False
        self.since_ms = 0
        self.joined = trio.Event()
        self.lost = trio.Event()
        self.lost.set()
        self.bytes_in = self.bytes_out = 0
        self.messages_in = self.messages_out = 0
        self.frames_in = self.frames_out = 0
        self.streams = 0
        self.requests = 0
        self.dropped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.last_error = ""

    @property
    def connected(self) -> bool:
        """Whether any connection stands."""
        return self.connections > 0

    def set_connections(self, count: int) -> None:
        """Take note that `count` connections stand now."""
        before, self.connections = self.connections, count
        if (before > 0) == (count > 0):
            return
        self.since_ms = time.time_ns() // 1_000_000
        if count:
            self.lost = trio.Event()
            self.joined.set()
        else:
            self.joined = trio.Event()
            self.lost.set()

    def received(self, size: int, messages: int = 1) -> None:
        """Count `messages` payloads of `size` bytes in total from this peer."""
        self.bytes_in += size
        self.messages_in += messages

    def sent(self, size: int, messages: int = 1) -> None:
        """Count `messages` payloads of `size` bytes in total to this peer."""
        self.bytes_out += size
        self.messages_out += messages

    def failed(self, error: BaseException) -> None:
        """Remember why the last thing tried with this peer failed."""
        self.last_error = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS_MAX]

    def refuse(self, fault: RemoteFault) -> None:
        """Count a fault of this peer; the first of its kind is a warning in the log."""
        first = not self.refused[fault.code]
        self.refused[fault.code] += 1
        self.failed(fault)
        write = log.warning if first else log.debug
        write("peer_refused", peer=self.text, code=fault.code, reason=fault.sentence)

    def drop(self, reason: str, messages: int = 1) -> None:
        """Count messages that this peer will not get."""
        if messages:
            self.dropped[reason] += messages

    def status(self, queue: OutboxStatistics = _NOTHING_WAITS) -> PeerStatus:
        """This peer at this instant; `queue` is what waits in its outbox."""
        return PeerStatus(
            peer_id=self.text,
            address=str(self.addresses[0]) if self.addresses else self.seen_at,
            validator=self.validator,
            connected=self.connected,
            linked=self.linked,
            since_ms=self.since_ms,
            connections=self.connections,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            messages_in=self.messages_in,
            messages_out=self.messages_out,
            frames_in=self.frames_in,
            frames_out=self.frames_out,
            queue_messages=queue.messages,
            queue_bytes=queue.bytes,
            dropped=dict(self.dropped),
            refused=dict(self.refused),
            last_error=self.last_error,
        )


class PeerTable:
    """All peers that are remembered; validators and dialled peers are never forgotten."""

    def __init__(self, validators: Mapping[str, int]) -> None:
        self._validators = dict(validators)
        self._peers: OrderedDict[str, Peer] = OrderedDict()
        self.forgotten_refused: Counter[str] = Counter()
        for text in self._validators:
            self.of(ID.from_string(text))

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def __len__(self) -> int:
        return len(self._peers)

    def of(self, peer: ID) -> Peer:
        """The record of `peer`, made when there is none."""
        text = str(peer)
        known = self._peers.get(text)
        if known is None:
            self._make_room()
            known = self._peers[text] = Peer(peer, self._validators.get(text))
        else:
            self._peers.move_to_end(text)
        return known

    def get(self, text: str) -> Peer | None:
        """The record of the peer written as `text`, if there is one."""
        return self._peers.get(text)

    def add_address(self, address: PeerAddress) -> tuple[Peer, bool]:
        """Remember where a peer can be dialled; True when it had no address before.

        Errors: `AddressesExceeded`.
        """
        peer = self.of(address.peer)
        if address in peer.addresses:
            return peer, False
        first = not peer.addresses
        if first and sum(bool(other.addresses) for other in self) >= DIALLED_PEERS_MAX:
            raise AddressesExceeded(DIALLED_PEERS_MAX, "of different peers")
        if len(peer.addresses) >= ADDRESSES_PER_PEER_MAX:
            raise AddressesExceeded(ADDRESSES_PER_PEER_MAX, "of this peer")
        peer.addresses.append(address)
        return peer, first

    def strangers(self) -> int:
        """How many connected peers are no validators."""
        return sum(peer.connected and peer.validator is None for peer in self._peers.values())

    def _make_room(self) -> None:
        if len(self._peers) < PEERS_MAX:
            return
        for text, peer in self._peers.items():
            if peer.validator is None and not peer.connected and not peer.addresses:
                self.forgotten_refused.update(peer.refused)
                del self._peers[text]
                return
