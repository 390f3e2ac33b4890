"""A room: a set of messages, and the one history that every node derives from it.

    room = Room("OUT-USD")
    change = room.add(admitted, now_ms)
    room.page(limit=50)

*What is kept* is a function of all messages ever seen (`chat._retention`), *how it is sorted* a
function of what is shown (`chat._causality`); so nodes that have seen the same messages, in
whatever order and however often, show the same history.

*Waiting* only delays. A message that follows unknown ones is kept, but shown when they arrive;
or when a peer shows it without having them; or after PARENT_WAIT_MS_MAX, because those it names
may have left every room long ago, or never have existed. When they come after all, the order
is computed anew. Nothing is ever dropped for what it follows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from chat._causality import CausalOrder
from chat._retention import Key, Retention
from chat.faults import PageInvalid, UnknownCursor
from chat.message import HEADS_ITEMS_MAX, AdmittedMessage, Message

WAITING_ITEMS_MAX: Final = 512  # more: what waited longest is shown without what it follows
PARENT_WAIT_MS_MAX: Final = 30_000  # after this a message is shown without what it follows
MISSING_ITEMS_MAX: Final = 64  # more missing messages: named when these have come
PAGE_MESSAGES_MAX: Final = 200  # a larger page: PageInvalid


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation did: CIDs newly kept, newly shown (in causal order), and no longer kept."""

    kept: tuple[bytes, ...] = ()
    shown: tuple[bytes, ...] = ()
    dropped: tuple[bytes, ...] = ()


NOTHING: Final = Change()


@dataclass(frozen=True, slots=True)
class RoomStatistics:
    """What a room holds; `missing` counts messages that others follow and nobody sent yet."""

    shown: int
    waiting: int
    missing: int
    heads: int


class Room:
    """The messages of one room. Not safe for concurrent use: its owner holds a lock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._messages: dict[bytes, Message] = {}
        self._children: dict[bytes, set[bytes]] = {}  # also of CIDs that are not here
        self._retention = Retention()
        self._order = CausalOrder(self._messages, self._children)
        self._awaited: dict[bytes, set[bytes]] = {}  # waiting message -> what it waits for
        self._since_ms: dict[bytes, int] = {}  # waiting message -> when it began
        self._offered: set[bytes] = set()  # waiting messages that a peer already shows
        self._sequences: dict[tuple[bytes, bytes, int], set[bytes]] = {}

    def __contains__(self, cid: bytes) -> bool:
        return cid in self._messages

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, admitted: AdmittedMessage, now_ms: int, *, offered: bool = False) -> Change:
        """Keep a message, unless it is older than all that a full room keeps.

        `offered` tells that a peer shows it. Again: nothing changes.
        """
        cid = admitted.cid
        if cid in self._messages:
            if offered and cid in self._awaited:
                self._offered.add(cid)
            return NOTHING
        dropped = self._keep(admitted)
        if cid not in self._messages:
            return NOTHING
        shown = self._drop(dropped) if dropped else []
        awaited = {head for head in admitted.message.heads if head not in self._order}
        if awaited:
            self._awaited[cid] = awaited
            self._since_ms[cid] = now_ms
            if offered:
                self._offered.add(cid)
        else:
            shown += self._show([cid])
        if len(self._awaited) > WAITING_ITEMS_MAX:
            shown += self._show([next(iter(self._awaited))])
        return self._change([cid], shown, [dropped] if dropped else [])

    def load(self, kept: Iterable[tuple[AdmittedMessage, bool]]) -> Change:
        """Fill an empty room with (message, was shown); what waited is shown at the next `tick`.

        Returns what the bounds of this version no longer keep.
        """
        dropped: list[bytes] = []
        waiting: list[bytes] = []
        for admitted, was_shown in kept:
            if (leaving := self._keep(admitted)) is not None:
                dropped.append(leaving)
                if leaving != admitted.cid:
                    self._drop(leaving)
            if admitted.cid not in self._messages:
                continue
            if was_shown:
                self._order.show(admitted.cid)
            else:
                waiting.append(admitted.cid)
        for cid in waiting:
            if cid in self._messages:
                self._awaited[cid] = {
                    head for head in self._messages[cid].heads if head not in self._order
                }
                self._since_ms[cid] = 0
        return Change(dropped=tuple(dropped))

    def tick(self, now_ms: int) -> Change:
        """Show what has waited too long."""
        late = [
            cid for cid, since in self._since_ms.items() if now_ms >= since + PARENT_WAIT_MS_MAX
        ]
        return self._change([], self._show(late), [])

    def settle(self) -> Change:
        """Show what peers show although they do not have what it follows either.

        To be called when a peer has sent all that it shows.
        """
        return self._change([], self._show(sorted(self._offered)), [])

    def drop(self, cids: Iterable[bytes]) -> Change:
        """Take messages out, for a reason that every node shares."""
        dropped = [cid for cid in cids if cid in self._messages]
        shown: list[bytes] = []
        for cid in dropped:
            shown += self._drop(cid)
        return self._change([], shown, dropped)

    def message(self, cid: bytes) -> Message:
        """A kept message; KeyError for others."""
        return self._messages[cid]

    def is_shown(self, cid: bytes) -> bool:
        """Whether the message is part of the history."""
        return cid in self._order

    def history(self) -> list[bytes]:
        """All shown messages in causal order."""
        return self._order.cids()

    def in_order(self, cids: Iterable[bytes]) -> list[bytes]:
        """Those of `cids` that are shown, in causal order."""
        return self._order.sorted({cid for cid in cids if cid in self._order})

    def page(self, limit: int, before: bytes | None = None) -> list[bytes]:
        """The last `limit` messages before `before` (None: the newest), in causal order.

        Errors: `PageInvalid`, `UnknownCursor`.
        """
        if not 1 <= limit <= PAGE_MESSAGES_MAX:
            raise PageInvalid(limit, PAGE_MESSAGES_MAX)
        if before is not None and before not in self._order:
            raise UnknownCursor("that message is not kept here; begin again at the newest page")
        return self._order.page(limit, before)

    def heads(self) -> list[bytes]:
        """What a new message should follow: the newest that nothing follows yet."""
        return self._order.heads(HEADS_ITEMS_MAX)

    def missing(self) -> list[bytes]:
        """CIDs that waiting messages follow and that are not here."""
        found: dict[bytes, None] = {}
        for awaited in self._awaited.values():
            found.update(dict.fromkeys(sorted(awaited - self._messages.keys())))
            if len(found) >= MISSING_ITEMS_MAX:
                break
        return list(found)[:MISSING_ITEMS_MAX]

    def shown_keys(self) -> list[Key]:
        """(time, CID) of all shown messages, ascending: the set that is synchronised."""
        return [key for key in self._retention.keys if key[1] in self._order]

    def in_minute(self, account: bytes, time_ms: int) -> int:
        """How many kept messages of the account lie in the minute of `time_ms`."""
        return self._retention.in_minute(account, time_ms)

    def is_sequence_used(self, message: Message) -> bool:
        """Whether the key used this sequence number for a message that is kept."""
        return (message.account, message.key, message.sequence) in self._sequences

    def of_key(self, account: bytes, key: bytes) -> list[bytes]:
        """All kept messages that the key signed for the account."""
        return [
            cid
            for cid, message in self._messages.items()
            if message.key == key and message.account == account
        ]

    def statistics(self) -> RoomStatistics:
        """What the room holds at this instant."""
        return RoomStatistics(
            len(self._order), len(self._awaited), len(self.missing()), len(self.heads())
        )

    def _keep(self, admitted: AdmittedMessage) -> bytes | None:
        """Keep a message if the bounds allow; returns the CID that must leave, maybe its own."""
        message, cid = admitted.message, admitted.cid
        leaving = self._retention.offer(message.account, (message.time_ms, cid))
        if leaving is not None and leaving[1] == cid:
            return cid
        self._messages[cid] = message
        for head in message.heads:
            self._children.setdefault(head, set()).add(cid)
        slot = (message.account, message.key, message.sequence)
        self._sequences.setdefault(slot, set()).add(cid)
        return None if leaving is None else leaving[1]

    def _drop(self, cid: bytes) -> list[bytes]:
        """Forget a kept message; returns what no longer has to wait for it."""
        if cid in self._order:
            self._order.hide(cid)
        self._stop_waiting(cid)
        message = self._messages.pop(cid)
        self._retention.remove(message.account, (message.time_ms, cid))
        for head in message.heads:
            siblings = self._children[head]
            siblings.discard(cid)
            if not siblings:
                del self._children[head]
        slot = (message.account, message.key, message.sequence)
        self._sequences[slot].discard(cid)
        if not self._sequences[slot]:
            del self._sequences[slot]
        return self._show(self._freed_by(cid))

    def _show(self, cids: Iterable[bytes]) -> list[bytes]:
        """Show these whatever they wait for, and all that then waits for nothing."""
        shown: list[bytes] = []
        ready = list(cids)
        while ready:
            cid = ready.pop()
            if cid in self._order:
                continue
            self._stop_waiting(cid)
            self._order.show(cid)
            shown.append(cid)
            ready += self._freed_by(cid)
        return shown

    def _freed_by(self, cid: bytes) -> list[bytes]:
        """Waiting messages for which `cid` was the last that they awaited."""
        freed = []
        for child in self._children.get(cid, ()):
            awaited = self._awaited.get(child)
            if awaited is not None:
                awaited.discard(cid)
                if not awaited:
                    freed.append(child)
        return freed

    def _stop_waiting(self, cid: bytes) -> None:
        self._awaited.pop(cid, None)
        self._since_ms.pop(cid, None)
        self._offered.discard(cid)

    def _change(self, kept: list[bytes], shown: list[bytes], dropped: list[bytes]) -> Change:
        still = [cid for cid in shown if cid in self._order]
        if len(still) > 1:
            still = self._order.sorted(still)
        return Change(tuple(kept), tuple(still), tuple(dropped))
