"""Keeps a connection to every peer whose address is known."""

import random
from typing import Any, Final

import structlog
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.host.basic_host import BasicHost

from p2p._host import swarm_of
from p2p.addresses import PeerAddress
from p2p.faults import PeerUnreachable
from p2p.peers import Peer

RECONNECT_DELAY_MS_MIN: Final = 200
RECONNECT_DELAY_MS_MAX: Final = 5_000  # back-off stops growing here
RECONNECT_JITTER: Final = 0.5  # a delay is drawn from delay * (1 -+ this)
DIAL_MS_MAX: Final = 5_000  # an address that takes longer is given up
STABLE_MS: Final = 2_000  # a connection that lived this long resets the back-off

log = structlog.get_logger(__name__)


class BackOff:
    """Delays that double from RECONNECT_DELAY_MS_MIN to RECONNECT_DELAY_MS_MAX, with jitter."""

    def __init__(self) -> None:
        self._delay_ms = RECONNECT_DELAY_MS_MIN

    def reset(self) -> None:
        """Begin at the shortest delay again."""
        self._delay_ms = RECONNECT_DELAY_MS_MIN

    def next_s(self) -> float:
        """The next delay, in seconds."""
        delay_ms = self._delay_ms
        self._delay_ms = min(2 * delay_ms, RECONNECT_DELAY_MS_MAX)
        return with_jitter(delay_ms)


def with_jitter(delay_ms: int) -> float:
    """`delay_ms` spread by RECONNECT_JITTER, in seconds, so that peers do not march in step."""
    return delay_ms / 1_000 * random.uniform(1 - RECONNECT_JITTER, 1 + RECONNECT_JITTER)


class Dialler:
    """Dials by itself: libp2p would try one address per peer and then refuse it for 60 s."""

    def __init__(self, host: BasicHost, own_text: str) -> None:
        self._swarm = swarm_of(host)
        self._own_text = own_text
        self._dialling: dict[str, trio.Event] = {}
        self.dials = 0
        self.failed = 0

    async def keep_connected(self, peer: Peer) -> None:
        """Dial `peer` whenever no connection to it stands, for ever."""
        back_off = BackOff()
        # The lower peer id dials first, so that two peers rarely dial each other at once.
        courtesy_ms = RECONNECT_DELAY_MS_MIN if self._own_text > peer.text else 0
        delay_s = with_jitter(courtesy_ms)
        while True:
            if not peer.connected:
                await _sleep_unless_joined(peer, delay_s)
            if peer.connected:
                joined_at = trio.current_time()
                await peer.lost.wait()
                if trio.current_time() - joined_at >= STABLE_MS / 1_000:
                    back_off.reset()
                    delay_s = with_jitter(courtesy_ms)
                else:
                    delay_s = back_off.next_s()
                continue
            try:
                await self.connect(peer)
            except PeerUnreachable as fault:
                log.debug("dial_failed", peer=peer.text, reason=fault.sentence)
                delay_s = back_off.next_s()

    async def connect(self, peer: Peer) -> None:
        """Return when a connection to `peer` stands; one task dials, others wait for it.

        Errors: `PeerUnreachable` when no address answered within DIAL_MS_MAX each.
        """
        while not peer.connected:
            under_way = self._dialling.get(peer.text)
            if under_way is None:
                break
            await under_way.wait()
        if peer.connected:
            return
        if not peer.addresses:
            raise PeerUnreachable(peer.text, "no address is known")
        done = self._dialling[peer.text] = trio.Event()
        try:
            await self._dial_all(peer)
        finally:
            del self._dialling[peer.text]
            done.set()

    async def _dial_all(self, peer: Peer) -> None:
        for address in list(peer.addresses):
            if peer.connected:
                return
            await self._dial(peer, address)
        if not peer.connected:
            raise PeerUnreachable(peer.text, peer.last_error or "no answer")

    async def _dial(self, peer: Peer, address: PeerAddress) -> None:
        self.dials += 1
        try:
            with trio.fail_after(DIAL_MS_MAX / 1_000):
                connection: Any = await self._swarm.dial_addr(address.transport, address.peer)
        except (BaseLibp2pError, trio.TooSlowError, trio.BrokenResourceError, OSError) as error:
            self.failed += 1
            peer.failed(error)
            return
        except Exception as error:  # noqa: BLE001  # guard: handshake errors have any type
            self.failed += 1
            peer.failed(error)
            log.warning("dial_contained", peer=peer.text, error=repr(error))
            return
        log.debug("dialled", peer=peer.text, address=str(address), closed=connection.is_closed)


async def _sleep_unless_joined(peer: Peer, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await peer.joined.wait()
