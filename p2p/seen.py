"""A bounded memory of what was seen before."""

from collections import OrderedDict


class SeenKeys:
    """The `keys_max` keys used most recently; older ones count as never seen.

    Its methods are those that libp2p's gossip expects of such a cache.
    """

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._keys: OrderedDict[bytes, None] = OrderedDict()

    def has(self, key: bytes) -> bool:
        """Whether `key` was seen; asking keeps it longer."""
        if key not in self._keys:
            return False
        self._keys.move_to_end(key)
        return True

    def add(self, key: bytes) -> bool:
        """Remember `key`; True when it is new."""
        if self.has(key):
            return False
        if len(self._keys) >= self._keys_max:
            self._keys.popitem(last=False)
        self._keys[key] = None
        return True

    def length(self) -> int:
        """How many keys are remembered."""
        return len(self._keys)

    def stop(self) -> None:
        """Nothing runs in the background."""
