"""All rooms of a node: who may post, what is kept on disk, and how nodes come to agree.

*One rule for what is refused.* A refusal that depends on when or where a message arrives (the
rate of arrival, a clock, a sequence number used at this node) is made only by `accept`, at the
door where the message enters. What `absorb` takes from other nodes is refused only for what the
message itself, or the committed chain, decides: its form, its signature, the key's authority at
the time it names. So a message that one node took reaches all, whatever each thought of it when
it was gossiped. What keeps a hostile node from flooding others by synchronisation are bounds
that are functions of the set of messages (`chat._retention`); and a message from the future is
left aside until its time has come, when it is offered again.

Two messages of one key with the same sequence number, posted at two nodes, are both kept.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock
from typing import Final

import structlog

from chat._rates import PostRates
from chat._retention import MESSAGES_PER_ACCOUNT_MINUTE_MAX
from chat.faults import (
    ChatFault,
    ClockSkew,
    DuplicateSequence,
    HistoryDamaged,
    KeyNotAuthorized,
    MalformedSync,
    RateLimited,
    TooOld,
    UnknownRoom,
)
from chat.message import AdmittedMessage, Message, admit_block, admit_message, wire_of
from chat.room import Change, Room, RoomStatistics
from chat.synchronisation import (
    Cursor,
    SyncResponse,
    decode_request,
    decode_response,
    request_for,
    wanted,
)
from primitives import codec
from storage import ChatRow, Index

CLOCK_SKEW_MS_MAX: Final = 60_000  # a post further from this node's clock: ClockSkew
ROOMS_ITEMS_MAX: Final = 256  # more rooms: ValueError when the service is made
_MINUTE_MS: Final = 60_000

Authorize = Callable[[bytes, bytes, int], bool]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KeptMessage:
    """A message and its CID, as shown to readers."""

    cid: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Accepted:
    """What `accept` did with a message.

    `is_new` is False for one that was here already: do not pass it on again. `shown` are the
    messages that the history gained, in causal order: none while this one waits for what it
    follows, several when others waited for it.
    """

    cid: bytes
    is_new: bool
    shown: tuple[KeptMessage, ...]


@dataclass(frozen=True, slots=True)
class Absorbed:
    """What a page of a synchronisation brought.

    `kept` are the CIDs that were new, `shown` what the history gained, `refused` counts by the
    code of the fault. `next_request` goes to the same peer, at most SYNC_PAGES_MAX times.
    """

    kept: tuple[bytes, ...]
    shown: tuple[KeptMessage, ...]
    refused: Mapping[str, int]
    next_request: bytes | None


@dataclass(frozen=True, slots=True)
class ChatStatistics:
    """What all rooms hold, and what was refused since start, by code."""

    rooms: Mapping[str, RoomStatistics]
    accepted: int
    absorbed: int
    refused: Mapping[str, int]
    accounts: int


class ChatService:
    """The rooms of one node, kept in its index. Threads take turns; calls block on the disk.

    `authorize(account, key, time_ms)` tells whether the committed chain gave the key the scope to
    chat at that time. Its answer for a past time must not change with later blocks, except by
    a block with an earlier time (then call `recheck`); otherwise histories differ.
    """

    def __init__(
        self, index: Index, network: bytes, rooms: Sequence[str], authorize: Authorize
    ) -> None:
        """Load what the index keeps of each room.

        Errors: `HistoryDamaged`, and the local faults of `storage`.
        """
        if len(rooms) > ROOMS_ITEMS_MAX:
            raise ValueError(f"{len(rooms)} rooms, at most {ROOMS_ITEMS_MAX}")
        self._index = index
        self._network = network
        self._authorize = authorize
        self._lock = RLock()
        self._rates = PostRates()
        self._refused: Counter[str] = Counter()
        self._accepted = 0
        self._absorbed = 0
        self._rooms = {name: self._load(name) for name in rooms}

    @property
    def rooms(self) -> tuple[str, ...]:
        """The names of all rooms."""
        return tuple(self._rooms)

    def accept(self, wire: bytes, now_ms: int) -> Accepted:
        """Take a message that enters here: posted by a client, or gossiped by a peer.

        From: anybody.
        Checks: form, signature, room, time within CLOCK_SKEW_MS_MAX of `now_ms`, the key's
            authority, a new sequence number, the account's rate.
        Effects: kept durably; shown when all that it follows is.
        Errors: every `ChatFault` but those of pages and synchronisation; local faults of
            `storage`, after which nothing of it is kept.
        """
        try:
            with self._lock:
                return self._accept(wire, now_ms)
        except ChatFault as fault:
            self._refused[fault.code] += 1
            raise

    def history(self, room: str, limit: int, before: bytes | None = None) -> list[KeptMessage]:
        """The last `limit` messages of a room before `before` (None: the newest), oldest first.

        Errors: `UnknownRoom`, `PageInvalid`, `UnknownCursor`.
        """
        with self._lock:
            found = self._room(room)
            return [KeptMessage(cid, found.message(cid)) for cid in found.page(limit, before)]

    def heads(self, room: str) -> list[bytes]:
        """What the next message in the room should follow.

        Errors: `UnknownRoom`.
        """
        with self._lock:
            return self._room(room).heads()

    def missing(self, room: str) -> list[bytes]:
        """CIDs of messages that others wait for: reason to synchronise, or to fetch the blocks.

        Errors: `UnknownRoom`.
        """
        with self._lock:
            return self._room(room).missing()

    def sync_request(self, room: str) -> bytes:
        """The first request of a synchronisation; carry it to a peer's `sync_response`.

        Errors: `UnknownRoom`.
        """
        with self._lock:
            return self._request(self._room(room), None)

    def sync_response(self, request: bytes) -> bytes:
        """Messages that the sender of `request` lacks, one page of them.

        From: any peer. Checks: form, network, room. Effects: none.
        Errors: `MalformedSync`, `UnknownRoom`.
        """
        asked = decode_request(request, self._network)
        with self._lock:
            room = self._room(asked.room)
            page, more = wanted(asked, room.shown_keys())
            messages = [wire_of(room.message(cid)) for _, cid in page]
        after = Cursor(*page[-1]) if more else None
        return codec.encode(SyncResponse(self._network, asked.room, messages, after))

    def absorb(self, response: bytes, now_ms: int) -> Absorbed:
        """Take what a peer's `sync_response` brought.

        From: the peer that was asked.
        Checks: form, signatures, the keys' authority; not the rate, not the age.
        Effects: kept durably in one transaction. Messages from the future, of keys that are not
            (yet) authorised, or forged are passed over and counted.
        Errors: `MalformedSync`, `UnknownRoom`; local faults of `storage`.
        """
        page = decode_response(response, self._network)
        with self._lock:
            room = self._room(page.room)
            refused: Counter[str] = Counter()
            admitted: list[AdmittedMessage] = []
            for wire in page.messages:
                try:
                    admitted.append(self._admit_synced(wire, room, now_ms))
                except ChatFault as fault:
                    refused[fault.code] += 1
            changes = [room.add(message, now_ms, offered=True) for message in admitted]
            if page.after is None:
                changes.append(room.settle())
            total = _sum(room, changes)
            self._persist(room, total, admitted)
            self._refused.update(refused)
            self._absorbed += len(total.kept)
            following = None if page.after is None else self._request(room, page.after)
            return Absorbed(total.kept, _shown(room, total), refused, following)

    def tick(self, now_ms: int) -> tuple[KeptMessage, ...]:
        """Show what has waited too long for what it follows; call it every second or so."""
        shown: list[KeptMessage] = []
        with self._lock:
            for room in self._rooms.values():
                change = room.tick(now_ms)
                self._persist(room, change, ())
                shown += _shown(room, change)
        return tuple(shown)

    def recheck(self, account: bytes, key: bytes) -> list[bytes]:
        """Drop what a key signed without authority; call it when a block changes its scope.

        A message may have come before the block that took the key's powers at an earlier time.
        Returns the CIDs dropped.
        """
        dropped: list[bytes] = []
        with self._lock:
            for room in self._rooms.values():
                void = [
                    cid
                    for cid in room.of_key(account, key)
                    if not self._authorize(account, key, room.message(cid).time_ms)
                ]
                change = room.drop(void)
                self._persist(room, change, ())
                dropped += change.dropped
        return dropped

    def statistics(self) -> ChatStatistics:
        """What all rooms hold at this instant."""
        with self._lock:
            rooms = {name: room.statistics() for name, room in self._rooms.items()}
            return ChatStatistics(
                rooms, self._accepted, self._absorbed, dict(self._refused), len(self._rates)
            )

    def _accept(self, wire: bytes, now_ms: int) -> Accepted:
        admitted = admit_message(wire, self._network)
        message = admitted.message
        room = self._room(message.room)
        if admitted.cid in room:
            return Accepted(admitted.cid, False, ())
        if abs(message.time_ms - now_ms) > CLOCK_SKEW_MS_MAX:
            raise ClockSkew(message.time_ms, now_ms, CLOCK_SKEW_MS_MAX)
        self._check_authority(message)
        if room.is_sequence_used(message):
            raise DuplicateSequence(message.sequence)
        if room.in_minute(message.account, message.time_ms) >= MESSAGES_PER_ACCOUNT_MINUTE_MAX:
            raise RateLimited(_MINUTE_MS - message.time_ms % _MINUTE_MS)
        if wait_ms := self._rates.take(message.account, now_ms):
            raise RateLimited(wait_ms)
        change = room.add(admitted, now_ms)
        if admitted.cid not in room:
            raise TooOld("older than all that this room keeps; sign it again with the time of now")
        self._persist(room, change, (admitted,))
        self._accepted += 1
        return Accepted(admitted.cid, True, _shown(room, change))

    def _admit_synced(self, wire: bytes, room: Room, now_ms: int) -> AdmittedMessage:
        admitted = admit_message(wire, self._network)
        message = admitted.message
        if message.room != room.name:
            raise MalformedSync("a message of another room")
        if message.time_ms > now_ms + CLOCK_SKEW_MS_MAX:
            raise ClockSkew(message.time_ms, now_ms, CLOCK_SKEW_MS_MAX)
        if admitted.cid not in room:
            self._check_authority(message)
        return admitted

    def _check_authority(self, message: Message) -> None:
        if not self._authorize(message.account, message.key, message.time_ms):
            raise KeyNotAuthorized(
                "the account's owner gave this key no chat scope at that time; authorise it first"
            )

    def _room(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None:
            raise UnknownRoom(name)
        return room

    def _request(self, room: Room, after: Cursor | None) -> bytes:
        return codec.encode(request_for(self._network, room.name, room.shown_keys(), after))

    def _load(self, name: str) -> Room:
        room = Room(name)
        kept: list[tuple[AdmittedMessage, bool]] = []
        for row in self._index.chat(name):
            block = self._index.blocks.get(row.cid)
            if block is None:
                raise HistoryDamaged(row.cid, "its block is not in the store")
            try:
                admitted = admit_block(block, self._network)
            except ChatFault as fault:
                raise HistoryDamaged(row.cid, fault.sentence) from fault
            kept.append((admitted, bool(row.shown)))
        change = room.load(kept)
        if change.dropped:
            self._index.record_chat([], dropped=change.dropped)
        log.info("chat_room_loaded", room=name, messages=len(room))
        return room

    def _persist(self, room: Room, change: Change, admitted: Sequence[AdmittedMessage]) -> None:
        """Make a change durable. If that fails, the room becomes again what the disk holds."""
        if not (change.kept or change.shown or change.dropped):
            return
        new = {message.cid: message for message in admitted if message.cid in change.kept}
        rows = [
            ChatRow(
                room.name,
                cid,
                message.message.account,
                message.message.sequence,
                message.message.time_ms,
                int(room.is_shown(cid)),
            )
            for cid, message in new.items()
        ]
        blocks = [(cid, message.block) for cid, message in new.items()]
        earlier = [cid for cid in change.shown if cid not in new]
        try:
            self._index.record_chat(rows, blocks, shown=earlier, dropped=change.dropped)
        except BaseException:
            self._rooms[room.name] = self._load(room.name)
            raise


def _sum(room: Room, changes: Sequence[Change]) -> Change:
    """Several changes of a room as one: what came and left in between is not in it."""
    kept = dict.fromkeys(cid for change in changes for cid in change.kept)
    dropped = dict.fromkeys(cid for change in changes for cid in change.dropped)
    shown = room.in_order(cid for change in changes for cid in change.shown)
    return Change(
        tuple(cid for cid in kept if cid in room),
        tuple(shown),
        tuple(cid for cid in dropped if cid not in kept),
    )


def _shown(room: Room, change: Change) -> tuple[KeptMessage, ...]:
    return tuple(KeptMessage(cid, room.message(cid)) for cid in change.shown)
