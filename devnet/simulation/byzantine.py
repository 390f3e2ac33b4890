"""Validators that lie: a real replica whose outgoing messages are altered with its own key.

    liar = Adversary(Liar(2, ("equivocate", "spam")), key, genesis, randomness)
    for kind, payload in liar.says(to, Kind.VOTE, payload): ...

What a liar signs, it could sign: nothing here forges the signature of anybody else.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from consensus import (
    BLOCK_BYTES_MAX,
    Block,
    Genesis,
    Kind,
    QuorumCertificate,
    Signer,
    Slot,
    decode_block,
)
from consensus.certificate import Timeout, Vote, VoteSignature, sign_timeout, sign_vote
from consensus.checkpoint import CheckpointVote, sign_checkpoint
from consensus.report import REPORT_ITEMS_MAX, ReportLink, decode_link, link_hash, sign_link
from primitives import codec, dagcbor
from primitives.cid import cid_of
from primitives.codec import Record
from primitives.dagcbor import Link, NotDagCbor
from primitives.faults import RemoteFault
from primitives.hashing import digest

HABITS = (
    "equivocate",
    "false-reports",
    "false-roots",
    "false-timeouts",
    "spam",
    "split-reports",
    "stale-votes",
    "withhold",
)
DIRECTED_HABITS = (
    "false-observations",
    "false-times",
    "forge-certificates",
    "low-proposals",
    "move-certificates",
)  # for directed scenarios; not drawn from seeds, whose scenarios shall stay what they are
REMEMBERED_ITEMS_MAX = 64  # old messages and blocks a liar can come back to
SPAM_BYTES_MAX = 2_000
AHEAD_ROUNDS = 8  # a certificate that is moved or forged names a round so far ahead
FALSE_TIME_MS = 86_400_000  # how far ahead a false clock is
MESSAGE_BYTES_MAX = 1 << 20
HEIGHT_FIELD, PARENT_FIELD, QC_FIELD = 4, 5, 8  # of a block's array
TIME_FIELD, LINKS_FIELD, CHECKPOINT_FIELD, EVIDENCE_FIELD = 7, 10, 11, 12
SIGNATURE_BYTES = 64  # the last of a block

Message = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Liar:
    """A validator that lies, and how; the habits are explained at `Adversary`."""

    index: int
    habits: tuple[str, ...]


class Adversary:
    """Alters what one validator says, for each recipient.

    equivocate      two blocks in its rounds, and votes for both, to two sides of the others
    false-reports   a consistent report that reverses what it saw and invents envelopes
    split-reports   two different links of one sequence, to two sides
    false-roots     another state root than the one computed, to some
    false-timeouts  claims to have seen only an old certificate
    stale-votes     votes for old blocks in new rounds, and repeats old messages
    withhold        says nothing, to some, at times; serves nobody
    spam            garbage of every kind

    Only in directed scenarios:

    false-observations  reports of the EVM chain that nobody can decode
    false-times         reports with a clock that is a day ahead
    forge-certificates  with each vote, a certificate that repeats its own signature
    low-proposals       after skipped rounds builds on an older certificate than it must
    move-certificates   with each vote, an old certificate under a round that is yet to come
    """

    def __init__(
        self, liar: Liar, key: Signer, genesis: Genesis, randomness: random.Random
    ) -> None:
        self.index = liar.index
        self._habits = frozenset(liar.habits)
        self._key = key
        self._lowest: dict[int, QuorumCertificate] = {}
        self._network = genesis.committee.network
        self._members = len(genesis.committee)
        self._random = randomness
        self._times = {genesis.cid: genesis.time_ms}
        self._old: list[Message] = []
        self._old_blocks: list[bytes] = []
        self._twins: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._own: dict[tuple[int, int], bytes] = {}
        self._links: dict[tuple[int, int], bytes] = {}
        self._newest: Block | None = None
        self._lowered = (b"", b"")
        self._known: dict[bytes, Block] = {}
        self._handlers: dict[int, Callable[[int, bytes], bytes]] = {
            Kind.PROPOSAL: self._proposal,
            Kind.VOTE: self._vote,
            Kind.TIMEOUT: self._timeout,
            Kind.LINK: self._link,
            Kind.CHECKPOINT: self._checkpoint,
        }

    @property
    def serves(self) -> bool:
        """Whether it answers this time when others ask it for blocks or envelopes."""
        return "withhold" not in self._habits or self._random.random() < 0.5

    def hears(self, kind: int, payload: bytes) -> None:
        """Remember the blocks that others propose, to be able to build beside them."""
        if kind != Kind.PROPOSAL:
            return
        try:
            block = decode_block(payload, self._network)
        except (RemoteFault, NotDagCbor):
            return  # another liar's garbage
        self._remember(block)

    def says(self, to: int, kind: int, payload: bytes) -> list[Message]:
        """What `to` gets in place of this message."""
        if "withhold" in self._habits and self._random.random() < 0.3:
            return []
        handler = self._handlers.get(kind)
        altered = payload if handler is None else handler(to, payload)
        messages = [(kind, altered)]
        if altered != payload and self._random.random() < 0.2:
            messages.append((kind, payload))  # careless: one recipient hears both
        self._old = [*self._old[-REMEMBERED_ITEMS_MAX:], (kind, payload)]
        if "stale-votes" in self._habits and self._random.random() < 0.1:
            messages.append(self._random.choice(self._old))
        if kind == Kind.VOTE:
            messages += self._false_certificates(payload)
        if "spam" in self._habits and self._random.random() < 0.2:
            messages.append(self._garbage(payload))
        return messages

    def greets(self) -> list[Message]:
        """What a validator gets whose link came up: both blocks of the newest round, in the hope
        that a restarted one has forgotten its vote."""
        if not self._twins:
            return []
        newest = max(self._twins)
        own = self._own.get(newest)
        return [(Kind.PROPOSAL, wire) for wire in (self._twins[newest][1], own) if wire is not None]

    # Messages by kind

    def _proposal(self, to: int, payload: bytes) -> bytes:
        block = decode_block(payload, self._network)
        self._remember(block)
        if "low-proposals" in self._habits and block.author == self.index:
            return self._low(block)
        if "equivocate" not in self._habits or block.author != self.index:
            return payload
        slot = (block.epoch, block.round)
        if slot not in self._twins and block.parent in self._times:
            twin = self._twin(payload, self._times[block.parent])
            self._twins[slot] = (cid_of(twin), twin)
            self._own[slot] = payload
            if len(self._twins) > REMEMBERED_ITEMS_MAX:
                oldest = min(self._twins)
                del self._twins[oldest], self._own[oldest]
        if slot in self._twins and self._other_side(to, block.round):
            return self._twins[slot][1]
        return payload

    def _twin(self, wire: bytes, parent_time_ms: int) -> bytes:
        """A second valid block for the same round: without links, at its parent's time."""
        fields: Any = dagcbor.decode(wire, bytes_max=BLOCK_BYTES_MAX)
        fields[TIME_FIELD], fields[LINKS_FIELD] = parent_time_ms, []
        fields[CHECKPOINT_FIELD], fields[EVIDENCE_FIELD] = None, []
        return self._sealed(fields)

    def _low(self, block: Block) -> bytes:
        """The same proposal one certificate lower; unaltered where that is not known."""
        parent = self._known.get(block.parent)
        below = None if parent is None else self._known.get(parent.parent)
        if block.tc is None or parent is None or below is None:
            return block.wire
        fields: Any = dagcbor.decode(block.wire, bytes_max=BLOCK_BYTES_MAX)
        fields[HEIGHT_FIELD], fields[PARENT_FIELD] = parent.height, Link(parent.parent)
        fields[QC_FIELD] = codec.encode(parent.qc)
        fields[TIME_FIELD], fields[LINKS_FIELD] = below.time_ms, []
        fields[CHECKPOINT_FIELD], fields[EVIDENCE_FIELD] = None, []
        wire = self._sealed(fields)
        self._lowered = block.cid, cid_of(wire)
        return wire

    def _sealed(self, fields: list[Any]) -> bytes:
        """A block of these fields, signed anew."""
        unsigned = dagcbor.encode([*fields[:-1], bytes(SIGNATURE_BYTES)])
        body = decode_block(unsigned, self._network).body()
        signature = self._key.sign(digest(Slot.PROPOSAL.domain, self._network, body))
        return unsigned[:-SIGNATURE_BYTES] + signature

    def _vote(self, to: int, payload: bytes) -> bytes:
        vote = codec.decode(Vote, payload, bytes_max=MESSAGE_BYTES_MAX)
        block = self._lowered[1] if vote.block == self._lowered[0] else vote.block
        if "equivocate" in self._habits and self._other_side(to, vote.round):
            known = self._twins.get((vote.epoch, vote.round))
            block = cid_of(vote.round.to_bytes(8, "big")) if known is None else known[0]
        elif "stale-votes" in self._habits and self._old_blocks and self._random.random() < 0.3:
            block = self._random.choice(self._old_blocks)
        return self._signed(vote, Slot.VOTE, block=block)

    def _timeout(self, _to: int, payload: bytes) -> bytes:
        if "false-timeouts" not in self._habits:
            return payload
        timeout = codec.decode(Timeout, payload, bytes_max=MESSAGE_BYTES_MAX)
        low = self._lowest.get(timeout.epoch, timeout.high_qc)
        return self._signed(timeout, Slot.TIMEOUT, high_qc=low)

    def _link(self, to: int, payload: bytes) -> bytes:
        link = decode_link(payload)
        if link.author != self.index:
            return payload
        if self._habits & {"false-reports", "false-observations", "false-times"}:
            place = (link.epoch, link.sequence)
            if place not in self._links:
                below = self._links.get((link.epoch, link.sequence - 1))
                previous = link.previous if below is None else link_hash(self._network, below)
                self._links[place] = self._false_report(link, payload, previous)
            payload = self._links[place]
            link = decode_link(payload)
        if "split-reports" in self._habits and self._other_side(to, link.sequence):
            return self._report(link, link.previous, [], link.time_ms + 1)
        return payload

    def _false_report(self, link: ReportLink, payload: bytes, previous: bytes) -> bytes:
        """The link of a report that is false from its first link on."""
        items, time_ms, observation = link.items, link.time_ms, link.observation
        if "false-reports" in self._habits:
            phantom = digest("outcry/phantom/1", self._network, payload)
            items = [*reversed(items), phantom][-REPORT_ITEMS_MAX:]
        if "false-times" in self._habits:
            time_ms += FALSE_TIME_MS
        if "false-observations" in self._habits:
            observation = b"what is this"
        link = msgspec.structs.replace(link, observation=observation)
        return self._report(link, previous, items, time_ms)

    def _false_certificates(self, payload: bytes) -> list[Message]:
        """Timeouts that carry certificates which nobody made."""
        vote = codec.decode(Vote, payload, bytes_max=MESSAGE_BYTES_MAX)
        ahead = vote.round + AHEAD_ROUNDS
        made = []
        newest = self._newest if "move-certificates" in self._habits else None
        if newest is not None and newest.epoch == vote.epoch and newest.qc.round > 0:
            made.append(msgspec.structs.replace(newest.qc, round=ahead))
        if "forge-certificates" in self._habits:
            own = sign_vote(self._key, self._network, vote.epoch, ahead, vote.block, self.index)
            signature = VoteSignature(self.index, own.signature)
            made.append(
                QuorumCertificate(vote.epoch, ahead, vote.block, [signature] * self._members)
            )
        return [(int(Kind.TIMEOUT), self._claim(vote, qc)) for qc in made]

    def _claim(self, vote: Vote, qc: QuorumCertificate) -> bytes:
        """A timeout of the vote's round that brings a certificate."""
        timeout = sign_timeout(self._key, self._network, vote.round, qc, None, self.index)
        return codec.encode(timeout)

    def _checkpoint(self, to: int, payload: bytes) -> bytes:
        if "false-roots" not in self._habits or not self._other_side(to, len(self._old)):
            return payload
        vote = codec.decode(CheckpointVote, payload, bytes_max=MESSAGE_BYTES_MAX)
        root = digest("outcry/false-root/1", self._network, vote.root)
        return codec.encode(
            sign_checkpoint(self._key, self._network, vote.epoch, vote.height, root, self.index)
        )

    # How

    def _report(self, link: ReportLink, previous: bytes, items: list[bytes], time_ms: int) -> bytes:
        """Another link of the same sequence."""
        made = sign_link(
            self._key,
            self._network,
            link.epoch,
            link.author,
            link.sequence,
            previous,
            items,
            time_ms,
            link.observation,
        )
        return codec.encode(made)

    def _signed(self, record: Any, slot: Slot, **changes: Any) -> bytes:
        """A vote or timeout with `changes`, signed again."""
        altered: Any = msgspec.structs.replace(record, **changes)
        signature = self._key.sign(digest(slot.domain, self._network, altered.body()))
        final: Record = msgspec.structs.replace(altered, signature=signature)
        return codec.encode(final)

    def _other_side(self, to: int, slot: int) -> bool:
        """Two sides, drawn anew for each slot, the same for all messages of a slot."""
        return random.Random(f"{self.index}/{to}/{slot}").random() < 0.5

    def _garbage(self, payload: bytes) -> Message:
        kind = self._random.choice((*Kind, 0, 99))
        if self._random.random() < 0.5:
            return int(kind), self._random.randbytes(self._random.randrange(SPAM_BYTES_MAX))
        place = self._random.randrange(max(1, len(payload)))
        return int(kind), payload[:place] + self._random.randbytes(1) + payload[place + 1 :]

    def _remember(self, block: Block) -> None:
        self._lowest.setdefault(block.epoch, block.qc)
        self._times[block.cid] = block.time_ms
        while len(self._times) > REMEMBERED_ITEMS_MAX:
            del self._times[next(iter(self._times))]
        self._old_blocks = [*self._old_blocks[-REMEMBERED_ITEMS_MAX:], block.cid]
        self._newest = block
        self._known[block.cid] = block
        while len(self._known) > REMEMBERED_ITEMS_MAX:
            del self._known[next(iter(self._known))]
