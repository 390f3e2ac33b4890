"""Token buckets: what a peer may do per second, with a burst."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

BURST_S: Final = 2.0  # a bucket holds this many seconds' worth of tokens, at least one


class TokenBucket:
    """Grants `per_second` tokens a second and stores at most BURST_S seconds' worth."""

    __slots__ = ("_capacity", "_per_second", "_tokens", "_updated_s")

    def __init__(self, per_second: float, now_s: float) -> None:
        self._per_second = per_second
        self._capacity = max(1.0, per_second * BURST_S)
        self._tokens = self._capacity
        self._updated_s = now_s

    def take(self, now_s: float) -> bool:
        """Spend one token; False when there is none."""
        elapsed = max(0.0, now_s - self._updated_s)
        self._updated_s = now_s
        self._tokens = min(self._capacity, self._tokens + elapsed * self._per_second)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class RateTable:
    """One bucket per key; the key used longest ago is forgotten at `keys_max`.

    Forgetting refills a bucket, so `keys_max` must be above the number of peers times what
    each of them can name.
    """

    def __init__(self, per_second: float, keys_max: int) -> None:
        self.per_second = per_second
        self._keys_max = keys_max
        self._buckets: OrderedDict[Hashable, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: Hashable, now_s: float) -> bool:
        """Spend one token of `key`; False when it has none."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._keys_max:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = TokenBucket(self.per_second, now_s)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now_s)
