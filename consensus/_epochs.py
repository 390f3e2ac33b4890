"""The epochs so far: who decides in each, and where it began."""

from bisect import bisect_left
from dataclasses import dataclass

from consensus.committee import Committee
from consensus.faults import WrongEpoch

EPOCHS_KEPT_ITEMS_MAX = 2  # what is signed for an older epoch is refused with E303


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where the current epoch began: its start block, whose proof of being final is `handover`.

    The genesis has no handover.
    """

    cid: bytes
    time_ms: int
    handover: bytes | None


class Epochs:
    """Committees by epoch. Heights above the last epoch's beginning belong to the current one."""

    def __init__(self, first: Committee) -> None:
        self.first = first.epoch
        self.current = first
        self._committees = {first.epoch: first}
        self._began: list[tuple[int, int]] = [(0, first.epoch)]

    def begin(self, height: int) -> Committee:
        """The next epoch begins above `height`; its committee."""
        committee = self.current = self.current.next()
        self._committees[committee.epoch] = committee
        self._began.append((height, committee.epoch))
        if len(self._began) > EPOCHS_KEPT_ITEMS_MAX:
            del self._committees[self._began.pop(0)[1]]
        return committee

    def resume(self, epoch: int, height: int, before: int) -> None:
        """Go to `epoch`, which begins above `height`; the one before it began above `before`."""
        while self.current.epoch < epoch - 1:
            self.current = self.current.next()
        self._committees = {self.current.epoch: self.current}
        self._began = [(before, self.current.epoch)]
        self.begin(height)

    @property
    def before(self) -> int:
        """The height above which the epoch before the current one began."""
        return self._began[-2][0] if len(self._began) > 1 else 0

    def committee(self, epoch: int) -> Committee:
        """Errors: `WrongEpoch` for one to come, or one that is long over."""
        committee = self._committees.get(epoch)
        if committee is None:
            raise WrongEpoch(f"signed for epoch {epoch} while in {self.current.epoch}")
        return committee

    def of_height(self, height: int) -> int | None:
        """The epoch of the block at `height` if it is the current one or the one before: a
        validator that restarts knows no others, and all must judge alike."""
        place = bisect_left(self._began, (height, 0)) - 1
        epoch = self._began[place][1] if place >= 0 else self.first
        return epoch if epoch >= self.current.epoch - 1 else None
