"""Which nonce to sign with next, when many envelopes of one key are on their way at once.

    nonces = Nonces()
    nonces.learn(account.next)      # what the exchange says; never goes back
    nonce = nonces.take()

The exchange keeps a window per key, so envelopes may arrive in any order; a client that simply
counts costs it nothing. Numbers that were handed out are not used again, even when an envelope
was refused: the gap is harmless.
"""

import secrets

SKIP_NONCES_MAX = 256  # how far a collision with another program may make the count jump


class Nonces:
    """The counter of one trading key in this process."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._collisions = 0

    @property
    def is_known(self) -> bool:
        """Whether the exchange's count was learned."""
        return self._next is not None

    @property
    def collisions(self) -> int:
        """How often a nonce turned out to be taken."""
        return self._collisions

    def learn(self, lowest: int) -> None:
        """The exchange has used everything it counts below `lowest`."""
        self._next = lowest if self._next is None else max(self._next, lowest)

    def take(self) -> int:
        """A nonce that this process never used. `learn` must have been called."""
        if self._next is None:
            raise RuntimeError("the exchange's count is not known yet")
        nonce = self._next
        self._next += 1
        return nonce

    def collided(self, nonce: int, lowest: int) -> None:
        """`nonce` was taken by another program; the exchange now counts from `lowest`.

        Envelopes of the other program may be on their way too, so the count jumps by chance,
        further with every collision.
        """
        self._collisions += 1
        reach = min(SKIP_NONCES_MAX, 4 << min(self._collisions, 8))
        self.learn(max(lowest, nonce + 1) + secrets.randbelow(reach))
