"""The order in which messages are shown: after all that they follow, then by time, then by CID.

A message's place is max(its own time, the latest place of those it follows + 1). Sorting by
(place, CID) is therefore a topological order, and a function of the set of messages alone:
wrong clocks cannot put an answer before its question.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping

from chat.message import Message


class CausalOrder:
    """The shown messages of a room, sorted; kept up as messages come and go."""

    def __init__(self, messages: Mapping[bytes, Message], children: Mapping[bytes, set[bytes]]):
        """`messages` and `children` (by the CID followed) are the room's own, read here only."""
        self._messages = messages
        self._children = children
        self._places: dict[bytes, int] = {}
        self._sorted: list[tuple[int, bytes]] = []
        self._heads: set[bytes] = set()
        self._stale = False

    def __contains__(self, cid: bytes) -> bool:
        return cid in self._places

    def __len__(self) -> int:
        return len(self._places)

    def show(self, cid: bytes) -> None:
        """Add a message. Those it follows that are not shown count as absent."""
        place = self._place(cid)
        self._places[cid] = place
        insort(self._sorted, (place, cid))
        self._heads.difference_update(self._messages[cid].heads)
        if self._shown_children(cid):
            self._stale = True  # their places may rise
        else:
            self._heads.add(cid)

    def hide(self, cid: bytes) -> None:
        """Take a message out again."""
        place = self._places.pop(cid)
        if not self._stale:
            del self._sorted[bisect_left(self._sorted, (place, cid))]
        self._heads.discard(cid)
        for parent in self._messages[cid].heads:
            if parent in self._places and not self._shown_children(parent):
                self._heads.add(parent)
        if any(
            self._places[child] == place + 1 > self._messages[child].time_ms
            for child in self._shown_children(cid)
        ):
            self._stale = True  # their places may fall

    def cids(self) -> list[bytes]:
        """All shown messages in order."""
        self._refresh()
        return [cid for _, cid in self._sorted]

    def page(self, limit: int, before: bytes | None) -> list[bytes]:
        """The last `limit` messages before the shown message `before` (None: the end), in order."""
        self._refresh()
        end = len(self._sorted)
        if before is not None:
            end = bisect_left(self._sorted, (self._places[before], before))
        return [cid for _, cid in self._sorted[max(0, end - limit) : end]]

    def heads(self, items_max: int) -> list[bytes]:
        """The newest messages that nothing shown follows, at most `items_max`, newest first."""
        self._refresh()
        newest = sorted(self._heads, key=lambda cid: (self._places[cid], cid), reverse=True)
        return newest[:items_max]

    def sorted(self, cids: Iterable[bytes]) -> list[bytes]:
        """Some shown messages in order."""
        self._refresh()
        return sorted(cids, key=lambda cid: (self._places[cid], cid))

    def _shown_children(self, cid: bytes) -> list[bytes]:
        return [child for child in self._children.get(cid, ()) if child in self._places]

    def _place(self, cid: bytes) -> int:
        message = self._messages[cid]
        follows = [self._places[head] + 1 for head in message.heads if head in self._places]
        return max([message.time_ms, *follows])

    def _refresh(self) -> None:
        """Compute all places anew after a change in the middle, parents before children."""
        if not self._stale:
            return
        waiting = {
            cid: sum(head in self._places for head in self._messages[cid].heads)
            for cid in self._places
        }
        ready = [cid for cid, count in waiting.items() if not count]
        for cid in ready:  # grows while it is walked
            self._places[cid] = self._place(cid)
            for child in self._shown_children(cid):
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)
        self._sorted = sorted((place, cid) for cid, place in self._places.items())
        self._stale = False
