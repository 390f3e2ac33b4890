"""What five processes on this machine can do at most: verify every signature, and vote.

    ceiling = measure_ceiling()        # Ceiling(per_second=..., cpu_ms=..., p50_ms=...)

One member streams batches of signed transactions to four others over TCP on loopback. Each
member verifies every transaction, signs one vote for the batch and broadcasts it; a batch is
committed with four valid votes. There is nothing else: no order of arrival, no matching, no
money, no disk, no HTTP, no encryption, no recovery. It uses the same verifier and the same event
loop as a node, so whatever a network of nodes reaches beside it is the price of everything else.
"""

import hashlib
import multiprocessing
import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.queues import Queue
from queue import Empty
from statistics import median
from time import perf_counter, process_time

import trio

from primitives import ed25519

MEMBERS = 5
QUORUM = 4
TRANSACTIONS = 40_000
BATCH_ITEMS = 500
WINDOW_BATCHES = 4  # batches on their way; further ones wait for a commit
SECONDS_MAX = 120.0  # a run that takes longer has failed
FRAME_BYTES_MAX = 1 << 20
_KEYS = 50
_BODY_BYTES = 24
_SIGNED_AT = ed25519.PUBLIC_BYTES + ed25519.SIGNATURE_BYTES
_TRANSACTION_BYTES = _SIGNED_AT + _BODY_BYTES
_TURN_ITEMS = 100  # verifications between two looks at the network
_HEADER = struct.Struct(">IB")
_NUMBER = struct.Struct(">I")
_READ_BYTES = 1 << 18
_BATCH, _VOTE = range(2)


@dataclass(frozen=True)
class Ceiling:
    """Transactions a second at the slowest member, processor time of all five for each, and the
    leader's median from sending a batch to its commit."""

    per_second: float
    cpu_ms: float
    p50_ms: float


@dataclass(frozen=True)
class _Outcome:
    index: int
    seconds: float
    cpu_s: float
    latencies_ms: list[float]


def measure_ceiling(transactions: int = TRANSACTIONS, batch_items: int = BATCH_ITEMS) -> Ceiling:
    """Run the five members once. Raises `RuntimeError` when they do not come to an end."""
    context = multiprocessing.get_context("spawn")
    outcomes: Queue[_Outcome] = context.Queue()
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(MEMBERS)]
    ports = [listener.getsockname()[1] for listener in listeners]
    batches = max(1, transactions // batch_items)
    processes = [
        context.Process(
            target=_run_member,
            args=(index, listeners[index], ports, batches, batch_items, outcomes),
            daemon=True,
        )
        for index in range(MEMBERS)
    ]
    try:
        for process in processes:
            process.start()
        told = [outcomes.get(timeout=SECONDS_MAX) for _ in processes]
    except Empty:
        raise RuntimeError(f"the ceiling was not measured within {SECONDS_MAX:.0f} s") from None
    finally:
        for listener in listeners:
            listener.close()
        for process in processes:
            process.terminate()
            process.join()
    leader = next(item for item in told if item.index == 0)
    seconds = max(item.seconds for item in told)
    count = batches * batch_items
    cpu_ms = sum(item.cpu_s for item in told) * 1_000 / count
    return Ceiling(count / seconds, cpu_ms, median(leader.latencies_ms))


def _run_member(
    index: int,
    listener: socket.socket,
    ports: list[int],
    batches: int,
    batch_items: int,
    outcomes: "Queue[_Outcome]",
) -> None:
    member = _Member(index, batches, batch_items)
    trio.run(member.run, listener, ports, outcomes)


def _key(name: str) -> ed25519.SigningKey:
    return ed25519.SigningKey(hashlib.sha256(name.encode()).digest())


def _signed_batches(batches: int, batch_items: int) -> Iterator[bytes]:
    """Batches of signed transactions: public key, signature, and the body that is signed."""
    keys = [_key(f"trader {number}") for number in range(_KEYS)]
    for batch in range(batches):
        parts = []
        for number in range(batch_items):
            key = keys[number % _KEYS]
            body = struct.pack(">QQQ", batch, number, 7)
            parts += [key.public, key.sign(body), body]
        yield b"".join(parts)


@dataclass
class _Member:
    """One of the five; number 0 leads. Every link is a stream to one other member."""

    index: int
    batches: int
    batch_items: int
    links: list[trio.SocketStream] = field(default_factory=list)
    locks: list[trio.Lock] = field(default_factory=list)
    votes: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    verified: set[int] = field(default_factory=set)
    committed: set[int] = field(default_factory=set)
    sent_at: dict[int, float] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    began_at: float = 0.0
    began_cpu_s: float = 0.0

    async def run(
        self, listener: socket.socket, ports: list[int], outcomes: "Queue[_Outcome]"
    ) -> None:
        """Link up with all others, do the work, tell the outcome, wait to be ended."""
        self._secret = _key(f"member {self.index}")
        self._publics = [_key(f"member {number}").public for number in range(MEMBERS)]
        self._window = trio.Semaphore(WINDOW_BATCHES)
        self._linked, self._done = trio.Event(), trio.Event()
        ready = list(_signed_batches(self.batches, self.batch_items)) if self.index == 0 else []
        async with trio.open_nursery() as nursery:
            accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
            nursery.start_soon(trio.serve_listeners, self._talk, [accepting])
            for port in ports[: self.index]:
                nursery.start_soon(self._talk, await trio.open_tcp_stream("127.0.0.1", port))
            await self._linked.wait()
            if self.index == 0:
                nursery.start_soon(self._lead, ready)
            await self._done.wait()
            seconds = perf_counter() - self.began_at
            cpu_s = process_time() - self.began_cpu_s
            outcomes.put(_Outcome(self.index, seconds, cpu_s, self.latencies_ms))

    async def _lead(self, ready: list[bytes]) -> None:
        for number, data in enumerate(ready):
            await self._window.acquire()
            self.sent_at[number] = perf_counter()
            await self._broadcast(_BATCH, _NUMBER.pack(number) + data)
            await self._on_batch(number, data)

    async def _talk(self, stream: trio.SocketStream) -> None:
        """Read one link for ever; a frame is length, kind, payload."""
        self.links.append(stream)
        self.locks.append(trio.Lock())
        if len(self.links) == MEMBERS - 1:
            self._linked.set()
        buffer = bytearray()
        while data := await stream.receive_some(_READ_BYTES):
            buffer += data
            while len(buffer) >= _HEADER.size:
                size, kind = _HEADER.unpack_from(buffer)
                end = _HEADER.size + size
                if size > FRAME_BYTES_MAX or len(buffer) < end:
                    break
                payload = bytes(memoryview(buffer)[_HEADER.size : end])
                del buffer[:end]
                await self._on_frame(kind, payload)

    async def _on_frame(self, kind: int, payload: bytes) -> None:
        (number,) = _NUMBER.unpack_from(payload)
        if kind == _BATCH:
            await self._on_batch(number, payload[_NUMBER.size :])
        else:
            voter, signature = payload[_NUMBER.size], payload[_NUMBER.size + 1 :]
            if ed25519.verify(self._publics[voter], payload[: _NUMBER.size], signature):
                self._count(number, voter)

    async def _on_batch(self, number: int, data: bytes) -> None:
        """Verify every transaction, then vote."""
        if not self.began_at:
            self.began_at, self.began_cpu_s = perf_counter(), process_time()
        for turn, start in enumerate(range(0, len(data), _TRANSACTION_BYTES), 1):
            signed = data[start : start + _TRANSACTION_BYTES]
            key, signature = signed[: ed25519.PUBLIC_BYTES], signed[ed25519.PUBLIC_BYTES :]
            body = signed[_SIGNED_AT:]
            if not ed25519.verify(key, body, signature[: ed25519.SIGNATURE_BYTES]):
                raise ValueError("a transaction of the ceiling is not signed")
            if turn % _TURN_ITEMS == 0:
                await trio.lowlevel.checkpoint()
        self.verified.add(number)
        slot = _NUMBER.pack(number)
        await self._broadcast(_VOTE, slot + bytes([self.index]) + self._secret.sign(slot))
        self._count(number, self.index)

    def _count(self, number: int, voter: int) -> None:
        """Commit a batch that was verified here and has a quorum."""
        voters = self.votes[number]
        voters.add(voter)
        if len(voters) < QUORUM or number not in self.verified or number in self.committed:
            return
        self.committed.add(number)
        if self.index == 0:
            self.latencies_ms.append((perf_counter() - self.sent_at[number]) * 1_000)
            self._window.release()
        if len(self.committed) == self.batches:
            self._done.set()

    async def _broadcast(self, kind: int, payload: bytes) -> None:
        frame = _HEADER.pack(len(payload), kind) + payload
        for link, lock in zip(self.links, self.locks, strict=True):
            async with lock:
                await link.send_all(frame)
