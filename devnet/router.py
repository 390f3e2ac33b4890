"""A router in user space between network namespaces, with latency, jitter, loss and cuts.

    python -m devnet.router     # a RouterSetup on the first line of standard input, then Cuts

Every node's namespace ends in a TUN device that this process holds: it reads IP packets, and
writes each to the device of its destination after the link's delay, or drops it. TCP in the
kernel sees real loss and real round trips, on any kernel that has TUN. The devices vanish with
the process, and the process ends with its standard input. Needs CAP_NET_ADMIN.
"""

import errno
import fcntl
import heapq
import os
import random
import selectors
import struct
import sys
import time
from typing import Final

import msgspec

from devnet.relays import LINE_BYTES_MAX, Cuts, Pair, answer

TUN_PATH: Final = "/dev/net/tun"
PACKET_BYTES_MAX: Final = 65_536
PACKETS_PER_TURN_MAX: Final = 64  # read from one device before the next has its turn
WAITING_PACKETS_MAX: Final = 20_000  # more on their way: dropped, as a full router does
PPM: Final = 1_000_000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IPV4_HEADER_BYTES: Final = 20
_IPV4: Final = 4


class Device(msgspec.Struct, frozen=True):
    """The link of one node: the device's name (at most 15 characters) and its IPv4 address."""

    node: str
    device: str
    address: str


class RouterSetup(msgspec.Struct, frozen=True):
    """The first line. `host` is the device of the machine itself: neither delayed nor cut.

    delay_ms, jitter_ms: one way, jitter evenly in +-; order within a direction is kept
    loss_ppm: packets lost in a million
    """

    devices: list[Device]
    host: str
    delay_ms: int
    jitter_ms: int
    loss_ppm: int
    seed: int


class RouterReady(msgspec.Struct, frozen=True):
    """The devices exist, and may be moved to their namespaces."""

    devices: list[str]


class Router:
    """Moves packets between devices: (node, address) to file descriptor."""

    def __init__(self, setup: RouterSetup, files: dict[str, int]) -> None:
        self._setup = setup
        self._files = files
        self._node_at = {_packed(item.address): item.node for item in setup.devices}
        self._random = random.Random(setup.seed)
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._last_due: dict[Pair, float] = {}
        self._number = 0
        self.cut: frozenset[Pair] = frozenset()
        self.lost = self.dropped = self.carried = 0

    def take(self, source: str, packet: bytes, now: float) -> None:
        """Decide what becomes of a packet that `source` sent."""
        if len(packet) < _IPV4_HEADER_BYTES or packet[0] >> 4 != _IPV4:
            return
        target = self._node_at.get(packet[16:20])
        if target is None:
            return
        due = self._due(source, target, now)
        if due is None:
            return
        if len(self._waiting) >= WAITING_PACKETS_MAX:
            self.dropped += 1
            return
        self._number += 1
        heapq.heappush(self._waiting, (due, self._number, self._files[target], packet))

    def _due(self, source: str, target: str, now: float) -> float | None:
        """When a packet arrives, None when it never does."""
        setup = self._setup
        if setup.host in (source, target):
            return now
        if (source, target) in self.cut:
            self.lost += 1
            return None
        if setup.loss_ppm and self._random.random() * PPM < setup.loss_ppm:
            self.lost += 1
            return None
        delay_ms = setup.delay_ms + self._random.uniform(-setup.jitter_ms, setup.jitter_ms)
        due = max(now + max(0.0, delay_ms) / 1_000, self._last_due.get((source, target), 0.0))
        self._last_due[source, target] = due
        return due

    def deliver(self, now: float) -> float | None:
        """Hand over what is due; seconds until the next packet, None when none waits."""
        while self._waiting and self._waiting[0][0] <= now:
            _, _, file, packet = heapq.heappop(self._waiting)
            try:
                os.write(file, packet)
                self.carried += 1
            except OSError as error:
                if error.errno not in (errno.EIO, errno.EAGAIN, errno.EINVAL):
                    raise  # EIO: the device is not up (yet); EAGAIN: its queue is full
                self.dropped += 1
        return self._waiting[0][0] - now if self._waiting else None


def open_device(name: str) -> int:
    """A new TUN device; it exists as long as the file descriptor. Errors: OSError."""
    file = os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
    try:
        fcntl.ioctl(file, _TUNSETIFF, request)
    except OSError:
        os.close(file)
        raise
    return file


def _packed(address: str) -> bytes:
    return bytes(int(part) for part in address.split("."))


def _main() -> None:
    first = sys.stdin.buffer.readline(LINE_BYTES_MAX)
    if not first:
        return
    setup = msgspec.json.decode(first, type=RouterSetup)
    files = {item.node: open_device(item.device) for item in setup.devices}
    router = Router(setup, files)
    with selectors.DefaultSelector() as selector:
        for node, file in files.items():
            selector.register(file, selectors.EVENT_READ, node)
        selector.register(sys.stdin.buffer, selectors.EVENT_READ, None)
        answer(RouterReady([item.device for item in setup.devices]))
        pause: float | None = None
        while _turn(selector, router, pause):
            pause = router.deliver(time.monotonic())


def _turn(selector: selectors.BaseSelector, router: Router, pause: float | None) -> bool:
    """Read what has come, waiting for it at most `pause` seconds; False at the end of control."""
    for key, _ in selector.select(None if pause is None else max(0.0, pause)):
        if key.data is None:
            line = sys.stdin.buffer.readline(LINE_BYTES_MAX)
            if not line:
                return False
            cuts = msgspec.json.decode(line, type=Cuts)
            router.cut = frozenset(cuts.cut)
            answer(cuts)
            continue
        _read(key.fd, key.data, router)
    return True


def _read(file: int, node: str, router: Router) -> None:
    now = time.monotonic()
    for _ in range(PACKETS_PER_TURN_MAX):
        try:
            packet = os.read(file, PACKET_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:  # the device is down: its namespace goes
                raise
            return
        router.take(node, packet, now)


if __name__ == "__main__":
    _main()
