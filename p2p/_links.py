"""The long-lived streams of frames between validators: one per pair and direction."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost

from p2p._dialler import STABLE_MS, BackOff
from p2p._streams import (
    STREAM_ERRORS,
    STREAM_WINDOW_BYTES,
    CreditReader,
    close_connection,
    open_stream,
    reset,
    send_all,
)
from p2p.faults import MessageTooLarge, OutboxFull, PeerSilent, StrangerStream, StreamBroken
from p2p.frames import KINDS_MAX, MESSAGE_BYTES_MAX, FrameDecoder, Message, encode_frame
from p2p.limits import Limits
from p2p.outbox import Outbox
from p2p.peers import Peer, PeerTable
from primitives.faults import RemoteFault

PROTOCOL: Final = "validator/1"
FRAMES_QUEUE_MAX: Final = 256  # frames for the upper layer; full: reading waits
LINKS_QUEUE_MAX: Final = 256  # LinkUp events; full: they are dropped and counted
HEARTBEAT_MS: Final = 2_000  # an idle stream carries an empty frame this often
READ_IDLE_MS_MAX: Final = 10_000  # longer without a byte: the connection is closed (E507)
OPEN_MS_MAX: Final = 5_000  # a stream that takes longer to open is given up

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PeerFrame:
    """What one validator sent in one frame: (kind, payload) in its order, at least one."""

    validator: int
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The stream to `validator` is open (again): what was sent before may be lost."""

    validator: int


class Link:
    """The outgoing stream to one validator: an outbox and the task that empties it."""

    def __init__(
        self,
        peer: Peer,
        limits: Limits,
        open_stream: Callable[[Peer], Awaitable[INetStream]],
        announce: Callable[[], None],
    ) -> None:
        self.peer = peer
        self.outbox = Outbox(limits.outbox_messages_max, limits.outbox_bytes_max)
        self._open_stream = open_stream
        self._announce = announce
        self._writing: trio.CancelScope | None = None

    def send(self, kind: int, payload: bytes) -> bool:
        """Queue one message; False when the stream is down or has just been dropped."""
        if not self.peer.linked:
            self.peer.drop("not_linked")
            return False
        if self.outbox.put(kind, payload):
            return True
        waiting = self.outbox.statistics()
        self.peer.refuse(OutboxFull(waiting.messages, waiting.bytes))
        self.peer.drop("outbox_full", 1 + self._down())
        return False

    def _down(self) -> int:
        """Stop sending; returns how many messages were given up."""
        self.peer.linked = False
        if self._writing is not None:
            self._writing.cancel()
        return self.outbox.clear()

    async def keep_open(self) -> None:
        """Open the stream whenever a connection stands and write what waits, for ever."""
        back_off = BackOff()
        while True:
            await self.peer.joined.wait()
            opened_at = trio.current_time()
            try:
                await self._run_once()
            except RemoteFault as fault:
                self.peer.refuse(fault)
            except STREAM_ERRORS as error:
                self.peer.failed(error)
                log.debug("link_lost", peer=self.peer.text, error=repr(error))
            if trio.current_time() - opened_at >= STABLE_MS / 1_000:
                back_off.reset()
            with trio.move_on_after(back_off.next_s()):
                await self.peer.lost.wait()

    async def _run_once(self) -> None:
        stream = await self._open_stream(self.peer)
        failure: Exception | None = None
        try:
            self.outbox.clear()
            self.peer.linked = True
            self._announce()
            log.debug("link_up", peer=self.peer.text, validator=self.peer.validator)
            async with trio.open_nursery() as nursery:
                self._writing = nursery.cancel_scope
                nursery.start_soon(self._watch_end, stream, nursery.cancel_scope)
                failure = await self._write(stream)
                nursery.cancel_scope.cancel()
        finally:
            self._writing = None
            self.peer.drop("link_lost", self._down())
            await reset(stream)
        if failure is not None:
            raise failure

    async def _watch_end(self, stream: INetStream, writing: trio.CancelScope) -> None:
        """Stop writing when the other end goes: it never sends on this stream."""
        reader = CreditReader(stream)
        try:
            while await reader.receive_some():
                pass
        except (StreamBroken, *STREAM_ERRORS) as error:
            self.peer.failed(error)
        writing.cancel()

    async def _write(self, stream: INetStream) -> Exception:
        """Write what waits until that fails; returns why."""
        outbox, peer = self.outbox, self.peer
        while True:
            with trio.move_on_after(HEARTBEAT_MS / 1_000):
                await outbox.filled()
            messages = outbox.take()
            frame = encode_frame(messages)
            try:
                await send_all(stream, frame)
            except (RemoteFault, *STREAM_ERRORS) as error:
                peer.drop("link_lost", len(messages))
                return error
            peer.frames_out += 1
            peer.sent(len(frame), len(messages))


class Links:
    """All streams to and from validators."""

    def __init__(
        self, host: BasicHost, protocol: str, peers: PeerTable, own_text: str, limits: Limits
    ) -> None:
        self._host = host
        self._protocol = TProtocol(protocol)
        self._peers = peers
        self._reading: dict[int, trio.CancelScope] = {}
        self._frames_out, self.frames = trio.open_memory_channel[PeerFrame](FRAMES_QUEUE_MAX)
        self._links_out, self.links = trio.open_memory_channel[LinkUp](LINKS_QUEUE_MAX)
        self.events_lost = 0
        own = peers.get(own_text)
        # Who is no validator opens no streams: they would be reset.
        others = () if own is None or own.validator is None else peers
        self.by_validator = {
            peer.validator: self._link(peer, peer.validator, limits)
            for peer in others
            if peer.validator is not None and peer.text != own_text
        }
        host.set_stream_handler(self._protocol, self._receive)

    def _link(self, peer: Peer, validator: int, limits: Limits) -> Link:
        def announce() -> None:
            try:
                self._links_out.send_nowait(LinkUp(validator))
            except trio.WouldBlock:
                self.events_lost += 1

        return Link(peer, limits, self._open, announce)

    def send(self, validator: int, kind: int, payload: bytes) -> bool:
        """Queue one message for `validator`; False when it is not on its way."""
        _check(kind, payload)
        link = self.by_validator.get(validator)
        return link is not None and link.send(kind, payload)

    def broadcast(self, kind: int, payload: bytes) -> None:
        """Queue one message for every other validator."""
        _check(kind, payload)
        for link in self.by_validator.values():
            link.send(kind, payload)

    async def _open(self, peer: Peer) -> INetStream:
        with trio.move_on_after(OPEN_MS_MAX / 1_000):
            return await open_stream(self._host, peer.id, self._protocol)
        raise StreamBroken(f"opening took longer than {OPEN_MS_MAX} ms")

    async def _receive(self, stream: INetStream) -> None:
        """Read one validator's frames until its stream ends.

        From: any peer.
        Checks: the peer id that Noise authenticated is a validator's; framing; silence.
        Effects: frames go to the upper layer, which slows the peer down when it is slow; an
            earlier stream of the same validator ends.
        Errors: `StrangerStream`, `PeerSilent`, `StreamBroken`, those of `FrameDecoder`.
        """
        peer = self._peers.of(stream.muxed_conn.peer_id)
        validator = peer.validator
        if validator is None or self.by_validator.get(validator) is None:
            raise StrangerStream
        earlier = self._reading.get(validator)
        if earlier is not None:
            earlier.cancel()
        with trio.CancelScope() as scope:
            self._reading[validator] = scope
            try:
                await self._read(stream, peer, validator)
            finally:
                if self._reading.get(validator) is scope:
                    del self._reading[validator]
        await reset(stream)

    async def _read(self, stream: INetStream, peer: Peer, validator: int) -> None:
        reader = CreditReader(stream, STREAM_WINDOW_BYTES)
        decoder = FrameDecoder()
        while True:
            data = None
            with trio.move_on_after(READ_IDLE_MS_MAX / 1_000):
                data = await reader.receive_some()
            if data is None:
                await close_connection(stream)
                raise PeerSilent(READ_IDLE_MS_MAX)
            if not data:
                if decoder.pending:
                    raise StreamBroken(f"the stream ended {decoder.pending} bytes into a frame")
                return
            for messages in decoder.feed(data):
                peer.frames_in += 1
                if messages:
                    peer.received(sum(len(payload) for _, payload in messages), len(messages))
                    await self._frames_out.send(PeerFrame(validator, messages))

    def waiting(self) -> int:
        """How many received frames the upper layer has not taken yet."""
        return self.frames.statistics().current_buffer_used


def _check(kind: int, payload: bytes) -> None:
    if not 0 <= kind <= KINDS_MAX:
        raise ValueError(f"kind {kind} is not in 0..{KINDS_MAX}")
    if len(payload) > MESSAGE_BYTES_MAX:
        raise MessageTooLarge(len(payload), MESSAGE_BYTES_MAX)
