"""Which nonces of a trading key were used: a window instead of a counter.

    window = NonceWindow()
    window.use(7)
    window.use(7)         # raises NonceUsed

Envelopes of one key may arrive in any order. Every nonce can be used once, down to
`NONCE_WINDOW` below the highest used one; older ones count as used.
"""

from exchange.faults import NonceUsed

NONCE_WINDOW = 1_024  # nonces further below the highest used one are refused: E104
NONCES_AHEAD_MAX = 1_000_000  # nonces further above the next unused one are refused: E104

_MASK = (1 << NONCE_WINDOW) - 1


class NonceWindow:
    """The used nonces of one key.

    `next` is one above the highest used nonce. Bit i of `gaps` is set when nonce `next - 1 - i`
    is still unused: a client that simply counts keeps it at zero, which costs nothing.
    """

    __slots__ = ("gaps", "next")

    def __init__(self) -> None:
        self.next = 0
        self.gaps = 0

    @property
    def range(self) -> range:
        """The nonces that are not refused outright for being too low or too high."""
        return range(max(0, self.next - NONCE_WINDOW), self.next + NONCES_AHEAD_MAX)

    def is_free(self, nonce: int) -> bool:
        """Whether `nonce` may be used now."""
        behind = self.next - 1 - nonce
        if behind < 0:
            return -behind <= NONCES_AHEAD_MAX
        return bool(self.gaps >> behind & 1)

    def check(self, nonce: int) -> None:
        """Errors: `NonceUsed` when `nonce` was used or is outside the window."""
        if not self.is_free(nonce):
            raise NonceUsed(nonce, self.range)

    def use(self, nonce: int) -> None:
        """Mark `nonce` as used.

        Errors: `NonceUsed`, as `check`.
        """
        if nonce == self.next and not self.gaps:
            self.next = nonce + 1
            return
        self.check(nonce)
        skipped = nonce - self.next
        if skipped < 0:
            self.gaps ^= 1 << (-1 - skipped)
            return
        shift = min(skipped, NONCE_WINDOW)
        self.gaps = (self.gaps << (shift + 1) | ((1 << shift) - 1) << 1) & _MASK
        self.next = nonce + 1

    def encode(self) -> bytes:
        """The gaps as bytes, big-endian, without leading zeros."""
        return self.gaps.to_bytes((self.gaps.bit_length() + 7) // 8, "big")
