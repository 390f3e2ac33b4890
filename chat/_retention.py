"""Which messages a room keeps: a function of the set of all that it ever saw, in any order.

Three nested bounds hold: messages of an account in one minute of their own clock, of an account,
of the room. Where one is exceeded, the oldest message inside it leaves, by (time, CID) as signed.
Nested bounds with one strict order over all elements are a laminar matroid: what leaves such a
selection never belongs to the selection from a larger set, so it does not matter in which order
nodes learn of messages, or whether they hear again of one that has left.
"""

from bisect import bisect_left, insort
from typing import Final

MESSAGES_PER_ACCOUNT_MINUTE_MAX: Final = 30  # more with times in one minute: the oldest leaves
MESSAGES_PER_ACCOUNT_MAX: Final = 2_500  # more of one account in a room: its oldest leaves
MESSAGES_PER_ROOM_MAX: Final = 10_000  # more in a room: the oldest leaves
_MINUTE_MS: Final = 60_000

Key = tuple[int, bytes]  # (time in ms as signed, CID): the order in which messages leave


class Retention:
    """The kept keys of one room, sorted, and how many each account has."""

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self._accounts: dict[bytes, list[Key]] = {}
        self._minutes: dict[tuple[bytes, int], list[Key]] = {}

    def offer(self, account: bytes, key: Key) -> Key | None:
        """Keep `key`, which is not kept yet; returns the key that leaves for it, if one does.

        That may be `key` itself: then nothing has changed.
        """
        bounds = (
            (self._minutes.get((account, key[0] // _MINUTE_MS)), MESSAGES_PER_ACCOUNT_MINUTE_MAX),
            (self._accounts.get(account), MESSAGES_PER_ACCOUNT_MAX),
            (self.keys, MESSAGES_PER_ROOM_MAX),
        )
        leaving = None
        for kept, items_max in bounds:  # from the innermost outwards: one removal heals all
            if kept is not None and len(kept) >= items_max:
                leaving = min(kept[0], key)
                break
        if leaving != key:
            insort(self.keys, key)
            insort(self._accounts.setdefault(account, []), key)
            insort(self._minutes.setdefault((account, key[0] // _MINUTE_MS), []), key)
        return leaving

    def remove(self, account: bytes, key: Key) -> None:
        """Forget a key that is kept."""
        _remove(self.keys, key)
        minute = (account, key[0] // _MINUTE_MS)
        _remove(self._accounts[account], key)
        _remove(self._minutes[minute], key)
        if not self._accounts[account]:
            del self._accounts[account]
        if not self._minutes[minute]:
            del self._minutes[minute]

    def in_minute(self, account: bytes, time_ms: int) -> int:
        """How many messages of the account lie in the minute of `time_ms`."""
        return len(self._minutes.get((account, time_ms // _MINUTE_MS), ()))


def _remove(keys: list[Key], key: Key) -> None:
    position = bisect_left(keys, key)
    assert keys[position] == key, "a key that is not kept"
    del keys[position]
