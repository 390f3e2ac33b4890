"""WebSocket /v1/stream: subscriptions and submissions over one connection.

    -> {"op": "subscribe", "channel": "trades", "market": "BTC-USD", "id": 1}
    <- {"type": "snapshot", "channel": "trades", "market": "BTC-USD", "id": 1, ...}

A request that is refused gets an error message, and the stream goes on, up to a bound. A stream
that reads more slowly than updates come is cut off: it can begin again from snapshots. Nothing
here ever waits for a client but the task that writes to it.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
import trio
from starlette.websockets import WebSocket, WebSocketDisconnect

from node.api.allowance import refused
from node.api.door import Door, client_of
from node.api.envelopes import submit_many
from node.api.faults import (
    DeadlinePassed,
    NotSubscribed,
    StreamIdle,
    TooManyFaults,
    TooManyStreams,
    TooManySubscriptions,
    TooSlow,
)
from node.api.hub import Hub, Subscription
from node.api.refusals import refusal_of
from node.api.route import JSON, Services, read_body
from node.api.texts import unhexed
from node.api.topics import (
    ErrorMessage,
    Ping,
    PongMessage,
    ReceiptsMessage,
    Request,
    RequestId,
    Submit,
    Subscribe,
    Topic,
    Unsubscribe,
    UnsubscribedMessage,
    topic_of,
)
from node.faults import BadRequest, NotReady, TooManyRequests
from primitives.faults import RemoteFault

log = structlog.get_logger(__name__)

STREAMS_MAX: Final = 128  # more: refused with E487 before they begin
SUBSCRIPTIONS_MAX: Final = 64  # more on one stream: refused with E481
OUTGOING_ITEMS_MAX: Final = 256  # messages that wait to be written; more: cut off with 4008
OUTGOING_BYTES_MAX: Final = 4 << 20  # likewise
MESSAGES_PER_SECOND_MAX: Final = 200  # more of a client on one stream: refused with E429
FAULTS_MAX: Final = 50  # refused messages; then the stream ends with 4029
IDLE_TIMEOUT_S: Final = 300.0  # without subscriptions and messages: ends with 4009
OPERATION_DEADLINE_S: Final = 10.0  # an answer that takes longer: E491
CLOSE_REASON_BYTES_MAX: Final = 123  # RFC 6455 section 5.5: the rest of the sentence is cut off

CLOSE_CODES: Final[Mapping[str, int]] = {
    NotReady.code: 1001,
    TooSlow.code: 4008,
    StreamIdle.code: 4009,
    TooManyFaults.code: 4029,
    "E484": 1013,
    "E490": 1011,
}

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True)
class StreamStatistics:
    """Streams and subscriptions now; messages since start, and why streams ended, by code."""

    streams: int
    topics: int
    subscriptions: int
    changes: int
    feeds_lost: int
    received: int
    ended: Mapping[str, int]


class Streams:
    """All streams of a node."""

    def __init__(self, services: Services, hub: Hub, door: Door) -> None:
        self._services = services
        self._hub = hub
        self._door = door
        self._open: set[_Stream] = set()
        self._received = 0
        self._ended: Counter[str] = Counter()

    async def serve(self, websocket: WebSocket) -> None:
        """One stream, from the handshake to its end."""
        client = client_of(websocket.scope)
        allowed, standing = self._services.allowance.spend_request(client)
        if not allowed:
            fault: RemoteFault = refused(standing, "requests")
            await websocket.send_denial_response(self._door.refuse(fault))
            return
        if len(self._open) >= STREAMS_MAX:
            await websocket.send_denial_response(self._door.refuse(TooManyStreams(STREAMS_MAX)))
            return
        stream = _Stream(websocket, client, self._services, self._hub, self._door)
        self._open.add(stream)
        try:
            await websocket.accept()
            await stream.run()
        except WebSocketDisconnect:
            pass
        finally:
            self._open.discard(stream)
            self._received += stream.received
            self._ended[stream.ending.code if stream.ending else "client"] += 1

    def stop(self) -> None:
        """End all streams: the node stops."""
        for stream in list(self._open):
            stream.end(NotReady("this node stops; reconnect to another one"))

    def statistics(self) -> StreamStatistics:
        hub = self._hub.statistics()
        return StreamStatistics(
            streams=len(self._open),
            topics=hub.topics,
            subscriptions=hub.subscriptions,
            changes=hub.changes,
            feeds_lost=hub.feeds_lost,
            received=self._received + sum(stream.received for stream in self._open),
            ended=dict(self._ended),
        )


class _Stream:
    """One connection: a task that reads, one that writes, and a bounded queue between them."""

    def __init__(
        self, websocket: WebSocket, client: str, services: Services, hub: Hub, door: Door
    ) -> None:
        self._websocket = websocket
        self._client = client
        self._services = services
        self._hub = hub
        self._door = door
        self._subscriptions: dict[Topic, Subscription] = {}
        self._outgoing, self._to_write = trio.open_memory_channel[bytes](OUTGOING_ITEMS_MAX)
        self._outgoing_bytes = 0
        self._second = 0
        self._in_second = 0
        self._faults = 0
        self.received = 0
        self.ending: RemoteFault | None = None

    async def run(self) -> None:
        """Until the client leaves, or `end` was called."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, nursery.cancel_scope)
                await self._read()
                nursery.cancel_scope.cancel()
        finally:
            for subscription in self._subscriptions.values():
                self._hub.leave(subscription)
            self._outgoing.close()

    # What the hub calls

    def offer(self, payload: bytes) -> None:
        """Queue a message; a full queue ends the stream."""
        if self.ending is not None:
            return
        self._outgoing_bytes += len(payload)
        if self._outgoing_bytes > OUTGOING_BYTES_MAX:
            self.end(TooSlow())
            return
        try:
            self._outgoing.send_nowait(payload)
        except trio.WouldBlock:
            self.end(TooSlow())

    def end(self, fault: RemoteFault) -> None:
        """End the stream for this reason; what has not been written yet is dropped."""
        if self.ending is None:
            self.ending = fault
            self._outgoing.close()

    # The tasks

    async def _write(self, scope: trio.CancelScope) -> None:
        async for payload in self._to_write:
            if self.ending is not None:
                break
            await self._websocket.send_text(payload.decode())
            self._outgoing_bytes -= len(payload)
        if self.ending is not None:
            reason = f"{self.ending.code}: {self.ending.sentence}".encode()
            await self._websocket.close(
                CLOSE_CODES.get(self.ending.code, 1011),
                reason[:CLOSE_REASON_BYTES_MAX].decode(errors="ignore"),
            )
        scope.cancel()

    async def _read(self) -> None:
        while True:
            with trio.move_on_after(IDLE_TIMEOUT_S) as waiting:
                message = await self._websocket.receive()
            if waiting.cancelled_caught:
                if not self._subscriptions:
                    self.end(StreamIdle(IDLE_TIMEOUT_S))
                continue
            if message["type"] == "websocket.disconnect":
                return
            self.received += 1
            await self._take(message.get("text"))

    async def _take(self, text: str | None) -> None:
        """Answer one message of the client."""
        request: Any = None
        try:
            self._count_message()
            if text is None:
                raise BadRequest("binary messages are not taken here; send JSON text")
            request = read_body(JSON, Request, text.encode(errors="surrogatepass"))
            with trio.move_on_after(OPERATION_DEADLINE_S):
                await self._answer(request)
                return
            raise DeadlinePassed(OPERATION_DEADLINE_S)
        except RemoteFault as fault:
            self._refuse(fault, None if request is None else request.id)
        except Exception:  # guard: a mistake in one operation must not end the node
            log.exception("operation_failed", op=type(request).__name__)
            self._refuse(self._door.count_mistake(), None if request is None else request.id)

    def _count_message(self) -> None:
        """Errors: `TooManyRequests`."""
        second = int(trio.current_time())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second > MESSAGES_PER_SECOND_MAX:
            raise TooManyRequests(
                f"at most {MESSAGES_PER_SECOND_MAX} messages per second; send more slowly"
            )

    def _refuse(self, fault: RemoteFault, request: RequestId) -> None:
        self.offer(_encode(ErrorMessage(request, refusal_of(fault))))
        self._faults += 1
        if self._faults >= FAULTS_MAX:
            self.end(TooManyFaults(FAULTS_MAX))

    # The operations

    async def _answer(self, request: Request) -> None:
        if isinstance(request, Subscribe):
            await self._subscribe(request)
        elif isinstance(request, Unsubscribe):
            self._unsubscribe(request)
        elif isinstance(request, Ping):
            self.offer(_encode(PongMessage(request.id)))
        else:
            await self._submit(request)

    async def _subscribe(self, request: Subscribe) -> None:
        """Errors: `BadRequest`, `UnknownMarket`, `TooManySubscriptions`, the snapshot's."""
        topic = self._topic(request)
        if topic in self._subscriptions:
            raise BadRequest("this is subscribed already; unsubscribe first for a new snapshot")
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise TooManySubscriptions(SUBSCRIPTIONS_MAX)
        self._subscriptions[topic] = await self._hub.subscribe(topic, self, request.id)

    def _unsubscribe(self, request: Unsubscribe) -> None:
        """Errors: `BadRequest`, `UnknownMarket`, `NotSubscribed`."""
        topic = self._topic(request)
        subscription = self._subscriptions.pop(topic, None)
        if subscription is None:
            raise NotSubscribed
        self._hub.leave(subscription)
        self.offer(
            _encode(
                UnsubscribedMessage(**{"channel": topic.channel, **topic.fields()}, id=request.id)
            )
        )

    async def _submit(self, request: Submit) -> None:
        """Errors: `BadRequest`, `TooManyRequests`."""
        wires = [unhexed(text) for text in request.envelopes]
        found = await submit_many(self._services, self._client, wires)
        self.offer(_encode(ReceiptsMessage(request.id, found.results)))

    def _topic(self, request: Subscribe | Unsubscribe) -> Topic:
        node = self._services.node
        return topic_of(request, node.genesis, node.chat.rooms)
