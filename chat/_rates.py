"""How fast an account may post here: a token bucket each."""

from collections import OrderedDict
from typing import Final

POSTS_PER_MINUTE_MAX: Final = 30  # more on the long run: RateLimited
POSTS_BURST_MAX: Final = 10  # more at once: RateLimited
ACCOUNTS_ITEMS_MAX: Final = 10_000  # more: the bucket used longest ago is forgotten, so refilled
_MINUTE_MS: Final = 60_000
_POST_COST: Final = _MINUTE_MS  # a bucket counts posts x milliseconds, in integers
_BUCKET_FULL: Final = POSTS_BURST_MAX * _POST_COST


class PostRates:
    """The buckets of all accounts that posted lately."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # (level, at ms)

    def take(self, account: bytes, now_ms: int) -> int:
        """Spend one post; 0, or in how many milliseconds there will be one to spend."""
        level, at_ms = self._buckets.pop(account, (_BUCKET_FULL, now_ms))
        level = min(_BUCKET_FULL, level + max(0, now_ms - at_ms) * POSTS_PER_MINUTE_MAX)
        wait_ms = 0
        if level >= _POST_COST:
            level -= _POST_COST
        else:
            wait_ms = -(-(_POST_COST - level) // POSTS_PER_MINUTE_MAX)
        self._buckets[account] = (level, max(now_ms, at_ms))
        if len(self._buckets) > ACCOUNTS_ITEMS_MAX:
            self._buckets.popitem(last=False)
        return wait_ms

    def __len__(self) -> int:
        return len(self._buckets)
