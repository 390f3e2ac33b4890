"""TCP relays between nodes on loopback: links that can be cut and restored without privileges.

    python -m devnet.relays     # a Setup on the first line of standard input, Cuts on the next

One relay stands for one node dialling another. A cut is silence, as on a network that drops
packets: nothing is read on, nothing is closed, new connections hang; what waited is delivered
when the link is whole again. The process ends with its standard input, so it never outlives
whoever started it.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec
import trio

CONNECTIONS_MAX: Final = 1_024  # more at once: closed right after they are accepted
CHUNK_BYTES: Final = 65_536  # read in one go, and the most that waits in a relay
DIAL_MS_MAX: Final = 5_000  # a target that takes longer to answer: the connection is closed
LINE_BYTES_MAX: Final = 1 << 20  # a longer line of control ends the process
BACKLOG_CONNECTIONS_MAX: Final = 128

Pair = tuple[str, str]


class RelayPlan(msgspec.Struct, frozen=True):
    """What `source` dials at `listen` (port 0: any) leads to `target` at `to`."""

    source: str
    target: str
    listen: tuple[str, int]
    to: tuple[str, int]


class Setup(msgspec.Struct, frozen=True):
    """The first line: all relays. It is answered with `Ports`."""

    relays: list[RelayPlan]


class Ports(msgspec.Struct, frozen=True):
    """Where the relays listen, in the order of the setup."""

    ports: list[int]


class Cuts(msgspec.Struct, frozen=True):
    """A later line: all directions (from, to) that are cut from now on. Answered with itself."""

    cut: list[Pair]


class RelayStatistics(msgspec.Struct, frozen=True):
    """Since start; `open` connections stand now."""

    accepted: int
    refused: int
    open: int
    bytes: int
    directions_cut: int


class Relays:
    """All relays of one cluster, carried by one nursery."""

    def __init__(self) -> None:
        self._cut: frozenset[Pair] = frozenset()
        self._changed = trio.Event()
        self._counts = {"accepted": 0, "refused": 0, "open": 0, "bytes": 0}

    def set_cuts(self, pairs: Iterable[Pair]) -> None:
        """Cut exactly these directions; all others are whole."""
        self._cut = frozenset(pairs)
        self._changed.set()
        self._changed = trio.Event()

    async def listen(self, nursery: trio.Nursery, plan: RelayPlan) -> int:
        """Serve one relay in `nursery`; its port. Errors: OSError when it cannot listen."""
        host, port = plan.listen
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG_CONNECTIONS_MAX)
        nursery.start_soon(
            trio.serve_listeners, lambda stream: self._carry(stream, plan), listeners
        )
        bound: int = listeners[0].socket.getsockname()[1]
        return bound

    async def _carry(self, near: trio.SocketStream, plan: RelayPlan) -> None:
        """One connection of `source` to `target` until either end closes it."""
        if self._counts["open"] >= CONNECTIONS_MAX:
            self._counts["refused"] += 1
            return
        self._counts["accepted"] += 1
        self._counts["open"] += 1
        there, back = (plan.source, plan.target), (plan.target, plan.source)
        try:
            await self._whole(there, back)
            with trio.fail_after(DIAL_MS_MAX / 1_000):
                far = await trio.open_tcp_stream(*plan.to)
            async with far, trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, near, far, there, nursery.cancel_scope)
                nursery.start_soon(self._pump, far, near, back, nursery.cancel_scope)
        except (OSError, trio.TooSlowError):
            return  # as a host that does not answer
        finally:
            self._counts["open"] -= 1
            await trio.aclose_forcefully(near)

    async def _pump(
        self,
        source: trio.SocketStream,
        target: trio.SocketStream,
        direction: Pair,
        both: trio.CancelScope,
    ) -> None:
        """Carry bytes one way; the connection ends with the first end that closes."""
        try:
            while True:
                data = await source.receive_some(CHUNK_BYTES)
                await self._whole(direction)
                if not data:
                    break
                await target.send_all(data)
                self._counts["bytes"] += len(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self._whole(direction)
        both.cancel()

    async def _whole(self, *directions: Pair) -> None:
        """Wait until none of these directions is cut."""
        while any(item in self._cut for item in directions):
            await self._changed.wait()

    def statistics(self) -> RelayStatistics:
        counts = self._counts
        return RelayStatistics(
            counts["accepted"], counts["refused"], counts["open"], counts["bytes"], len(self._cut)
        )


class Lines:
    """Lines of JSON on a stream of bytes, each at most LINE_BYTES_MAX."""

    def __init__(self, receive: Callable[[], Any]) -> None:
        self._receive = receive
        self._buffer = bytearray()

    async def next(self) -> bytes | None:
        """The next line; None at the end of the stream, or when a line is too long."""
        while b"\n" not in self._buffer:
            data = await self._receive()
            if not data or len(self._buffer) > LINE_BYTES_MAX:
                return None
            self._buffer += data
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line


async def _main() -> None:
    control = trio.lowlevel.FdStream(sys.stdin.fileno())
    lines = Lines(control.receive_some)
    first = await lines.next()
    if first is None:
        return
    setup = msgspec.json.decode(first, type=Setup)
    relays = Relays()
    async with trio.open_nursery() as nursery:
        answer(Ports([await relays.listen(nursery, plan) for plan in setup.relays]))
        while (line := await lines.next()) is not None:
            cuts = msgspec.json.decode(line, type=Cuts)
            relays.set_cuts(cuts.cut)
            answer(cuts)
        nursery.cancel_scope.cancel()


def answer(value: msgspec.Struct) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    trio.run(_main)
