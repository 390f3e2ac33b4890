"""One question, one answer, on a stream of its own.

    request  = length u32, payload
    response = status u8, length u32, payload

Status 0 answers; status 1 refuses, and its payload is `CODE sentence` in UTF-8.
"""

import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost

from p2p._dialler import Dialler
from p2p._streams import STREAM_ERRORS, CreditReader, finish, open_stream, reset, send_all
from p2p.faults import (
    SENTENCE_BYTES_MAX,
    NameTaken,
    PeerFault,
    PeerUnreachable,
    RequestFault,
    RequestRateExceeded,
    RequestRefused,
    RequestTimeout,
    RequestTooLarge,
    RequestUnanswered,
    ResponseMalformed,
    ResponseTooLarge,
)
from p2p.limits import Limits
from p2p.peers import PEERS_MAX, Peer, PeerTable
from p2p.rates import RateTable
from p2p.statistics import RequestStatistics
from primitives.faults import RemoteFault

SERVE_MS_MAX: Final = 15_000  # reading, answering and writing one request; longer: reset
REFUSAL_BYTES_MAX: Final = SENTENCE_BYTES_MAX + 8
ANSWERED: Final = 0
REFUSED: Final = 1

Handler = Callable[[str, bytes], Awaitable[bytes]]

_LENGTH = struct.Struct(">I")
_RESPONSE = struct.Struct(">BI")

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Service:
    name: str
    handler: Handler
    request_bytes_max: int
    response_bytes_max: int
    rates: RateTable


class Requests:
    """Asks peers and answers them."""

    def __init__(self, host: BasicHost, peers: PeerTable, dialler: Dialler, limits: Limits) -> None:
        self._host = host
        self._peers = peers
        self._dialler = dialler
        self._limits = limits
        self._services: dict[str, _Service] = {}
        self.contained = 0
        self._asked = self._answered = self._failed = self._served = self._refused = 0

    def serve(
        self,
        protocol: str,
        handler: Handler,
        *,
        request_bytes_max: int,
        response_bytes_max: int,
        per_second: float,
    ) -> None:
        """Answer `protocol` (its full name) with `handler(peer id, request)`.

        Errors: `NameTaken`.
        """
        if protocol in self._services:
            raise NameTaken("protocol", protocol)
        rates = RateTable(per_second, PEERS_MAX)
        service = _Service(protocol, handler, request_bytes_max, response_bytes_max, rates)
        self._services[protocol] = service

        async def receive(stream: INetStream) -> None:
            await self._receive(stream, service)

        self._host.set_stream_handler(TProtocol(protocol), receive)

    async def _receive(self, stream: INetStream, service: _Service) -> None:
        """Answer one request.

        From: any peer.
        Checks: size, rate per peer and protocol, requests under way, SERVE_MS_MAX in all.
        Effects: the handler's; one response, which refuses when the handler does.
        Errors: `RequestTimeout`, `StreamBroken`; everything else becomes the response.
        """
        peer = self._peers.of(stream.muxed_conn.peer_id)
        peer.requests += 1
        try:
            with trio.move_on_after(SERVE_MS_MAX / 1_000):
                reader = CreditReader(stream)
                await send_all(stream, await self._respond(reader, service, peer))
                await finish(stream, reader)
                return
            raise RequestTimeout(SERVE_MS_MAX)
        finally:
            peer.requests -= 1

    async def _respond(self, reader: CreditReader, service: _Service, peer: Peer) -> bytes:
        try:
            request = await self._read_request(reader, service, peer)
        except RequestFault as fault:
            self._refused += 1
            peer.refuse(fault)
            return _refusal(fault)
        try:
            answer = await service.handler(peer.text, request)
            if len(answer) > service.response_bytes_max:
                raise ResponseTooLarge(len(answer), service.response_bytes_max)
        except RemoteFault as fault:
            self._refused += 1
            log.debug("request_refused", peer=peer.text, protocol=service.name, code=fault.code)
            return _refusal(fault)
        except Exception as error:  # guard: of a request's handler
            self._refused += 1
            self.contained += 1
            log.warning("request_handler_failed", protocol=service.name, exc_info=error)
            return _refusal(RequestUnanswered())
        self._served += 1
        peer.sent(len(answer))
        return _RESPONSE.pack(ANSWERED, len(answer)) + answer

    async def _read_request(self, reader: CreditReader, service: _Service, peer: Peer) -> bytes:
        if peer.requests > self._limits.requests_per_peer_max:
            raise RequestRateExceeded(self._limits.requests_per_peer_max, "at once")
        if not service.rates.take(peer.text, trio.current_time()):
            raise RequestRateExceeded(service.rates.per_second, "per second")
        buffer = bytearray()
        (size,) = _LENGTH.unpack(await reader.receive_exactly(_LENGTH.size, buffer))
        if size > service.request_bytes_max:
            raise RequestTooLarge(size, service.request_bytes_max)
        request = await reader.receive_exactly(size, buffer)
        peer.received(size)
        return request

    async def request(
        self,
        peer_text: str,
        protocol: str,
        payload: bytes,
        *,
        deadline_ms: int,
        response_bytes_max: int,
    ) -> bytes:
        """The answer of the peer written as `peer_text` to `payload`.

        Dials the peer when it is not connected and an address is known.
        Errors: `RequestRefused`, `RequestTimeout`, `ResponseTooLarge`, `ResponseMalformed`,
            `PeerUnreachable`.
        """
        peer = self._peers.get(peer_text)
        if peer is None:
            raise PeerUnreachable(peer_text, "it was never seen")
        self._asked += 1
        try:
            with trio.move_on_after(deadline_ms / 1_000):
                answer = await self._ask(peer, protocol, payload, response_bytes_max)
                self._answered += 1
                return answer
            raise RequestTimeout(deadline_ms)
        except (RequestFault, PeerUnreachable) as fault:
            self._failed += 1
            peer.failed(fault)
            raise
        except (PeerFault, *STREAM_ERRORS) as error:
            self._failed += 1
            peer.failed(error)
            raise PeerUnreachable(peer_text, f"{type(error).__name__}: {error}") from error

    async def _ask(
        self, peer: Peer, protocol: str, payload: bytes, response_bytes_max: int
    ) -> bytes:
        await self._dialler.connect(peer)
        stream = await open_stream(self._host, peer.id, TProtocol(protocol))
        try:
            await send_all(stream, _LENGTH.pack(len(payload)) + payload)
            peer.sent(len(payload))
            reader, buffer = CreditReader(stream), bytearray()
            head = await reader.receive_exactly(_RESPONSE.size, buffer)
            status, size = _RESPONSE.unpack(head)
            if status not in (ANSWERED, REFUSED):
                raise ResponseMalformed(f"status {status} is neither an answer nor a refusal")
            limit = response_bytes_max if status == ANSWERED else REFUSAL_BYTES_MAX
            if size > limit:
                raise ResponseTooLarge(size, limit)
            body = await reader.receive_exactly(size, buffer)
        finally:
            await reset(stream)
        peer.received(size)
        if status == REFUSED:
            code, _, sentence = body.decode(errors="replace").partition(" ")
            raise RequestRefused(code, sentence)
        return body

    def statistics(self) -> RequestStatistics:
        """Requests asked and served so far."""
        return RequestStatistics(
            asked=self._asked,
            answered=self._answered,
            failed=self._failed,
            served=self._served,
            refused=self._refused,
        )


def _refusal(fault: RemoteFault) -> bytes:
    text = f"{fault.code} {fault.sentence}".encode()[:REFUSAL_BYTES_MAX]
    return _RESPONSE.pack(REFUSED, len(text)) + text
