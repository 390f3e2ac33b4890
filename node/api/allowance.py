"""How much one client may ask of this node: requests and envelopes per second, by address.

    allowance = Allowance(requests_per_second=2_000, envelopes_per_second=5_000)
    stand = allowance.spend_request(client)     # raises TooManyRequests

Windows are fixed seconds, counted in a table of bounded size: when it is full, the windows that
ended are dropped, and if none has, newcomers share one entry.
"""

import ipaddress
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from node.faults import TooManyRequests

CLIENTS_ITEMS_MAX: Final = 20_000  # further clients share one entry until windows end
_V6_PREFIX_BITS: Final = 64  # what one IPv6 customer usually has
_SHARED: Final = "shared"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a client stands in the present window; `reset_s` is when the next one begins."""

    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % self.remaining),
            (b"x-ratelimit-reset", b"%d" % self.reset_s),
        ]


@dataclass(frozen=True)
class AllowanceStatistics:
    """Clients in the table, and what was refused since start."""

    clients: int
    refused_requests: int
    refused_envelopes: int


class _Windows(Storage):
    """Counters with an end, in one dict of bounded size. No threads, unlike `memory://`."""

    STORAGE_SCHEME = None

    def __init__(self, clock: Callable[[], float], items_max: int) -> None:
        super().__init__()
        self._clock = clock
        self._items_max = items_max
        self._counts: dict[str, tuple[int, float]] = {}
        self._forgot = -math.inf

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def base_exceptions(self) -> type[Exception]:
        return KeyError

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now = self._clock()
        if key not in self._counts and len(self._counts) >= self._items_max:
            self._forget(now, expiry)
        key = self._place(key)
        count, ends = self._counts.get(key, (0, 0.0))
        if ends <= now:
            count, ends = 0, now + expiry
        self._counts[key] = (count + amount, ends)
        return count + amount

    def _place(self, key: str) -> str:
        """The entry that stands for `key`; the shared one is the only one above the bound."""
        known = key in self._counts or len(self._counts) < self._items_max
        return key if known else _SHARED

    def _forget(self, now: float, expiry: float) -> None:
        """Drop the windows that ended, at most once per window: it costs a look at each."""
        if now - self._forgot < expiry:
            return
        self._forgot = now
        self._counts = {key: held for key, held in self._counts.items() if held[1] > now}

    def _entry(self, key: str) -> tuple[int, float]:
        count, ends = self._counts.get(self._place(key), (0, 0.0))
        now = self._clock()
        return (count, ends) if ends > now else (0, now)

    def get(self, key: str) -> int:
        return self._entry(key)[0]

    def get_expiry(self, key: str) -> float:
        return self._entry(key)[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int | None:
        count = len(self._counts)
        self._counts.clear()
        return count

    def clear(self, key: str) -> None:
        self._counts.pop(key, None)


class Allowance:
    """What all clients spent in the present second."""

    def __init__(
        self,
        requests_per_second: int,
        envelopes_per_second: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        clients_max: int = CLIENTS_ITEMS_MAX,
    ) -> None:
        self._clock = clock
        self._windows = _Windows(clock, clients_max)
        self._limiter = FixedWindowRateLimiter(self._windows)
        self._requests = RateLimitItemPerSecond(requests_per_second, 1, "requests")
        self._envelopes = RateLimitItemPerSecond(envelopes_per_second, 1, "envelopes")
        self._refused = {"requests": 0, "envelopes": 0}

    def spend_request(self, client: str) -> tuple[bool, Standing]:
        """Count a request of `client`: whether it is within the allowance, where it stands."""
        allowed = self._limiter.hit(self._requests, client)
        if not allowed:
            self._refused["requests"] += 1
        return allowed, self._standing(self._requests, client)

    def spend_envelopes(self, client: str, count: int) -> None:
        """Count `count` envelopes of `client`.

        Errors: `TooManyRequests`; then none of them was taken.
        """
        if not self._limiter.test(self._envelopes, client, cost=count):
            self._refused["envelopes"] += count
            raise refused(self._standing(self._envelopes, client), "envelopes")
        self._limiter.hit(self._envelopes, client, cost=count)

    def statistics(self) -> AllowanceStatistics:
        return AllowanceStatistics(
            len(self._windows), self._refused["requests"], self._refused["envelopes"]
        )

    def _standing(self, item: RateLimitItem, client: str) -> Standing:
        stats = self._limiter.get_window_stats(item, client)
        reset_s = math.ceil(max(0.0, stats.reset_time - self._clock()))
        return Standing(item.amount, stats.remaining, reset_s)


def refused(standing: Standing, what: str) -> TooManyRequests:
    """The fault for a client that spent its allowance."""
    return TooManyRequests(
        f"at most {standing.limit} {what} per second; wait {max(1, standing.reset_s)} s, then go on"
    )


def client_key(host: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, _V6_PREFIX_BITS), strict=False))
    return str(address)
