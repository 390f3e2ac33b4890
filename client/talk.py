"""Chat as a trader sees it: signing messages, and checking those that a node shows.

A message's author signs its room and the messages that it follows; its CID covers all of it. So
a node can keep messages back, but it cannot change one or make one up.
"""

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence

import msgspec

from client.faults import ForgedMessage
from client.stream import Stream
from client.views import ChatView
from client.wallet import Wallet
from primitives.cid import from_text, to_text
from primitives.faults import RemoteFault

SEEN_CIDS_MAX = 2_048  # more than a node sends in a snapshot, so that none is shown twice


class Said(msgspec.Struct, frozen=True):
    """What a node answers to a message that it took."""

    cid: str


class _Messages(msgspec.Struct):
    messages: list[ChatView]


def sign_talk(wallet: Wallet, network: bytes, room: str, heads: Sequence[str], text: str) -> bytes:
    """The wire bytes of a message by the wallet's trading key, at this machine's clock.

    Errors: the `ChatFault` with which every node would refuse it.
    """
    # The room's front door brings what nodes need too; only who talks loads it.
    from chat import HEADS_ITEMS_MAX, sign_message

    now_us = time.time_ns() // 1_000  # grows with every message, and after a restart too
    followed = [from_text(head) for head in heads][-HEADS_ITEMS_MAX:]
    return sign_message(
        wallet.trading, network, room, wallet.account, now_us, now_us // 1_000, followed, text
    )


def check_talk(messages: Sequence[ChatView], network: bytes, endpoint: str) -> None:
    """Errors: `ForgedMessage` unless every message is signed by the key that it names."""
    from chat import Message, admit_message, wire_of

    for shown in messages:
        try:
            message = Message(
                network,
                shown.room,
                bytes.fromhex(shown.account[2:]),
                bytes.fromhex(shown.key[2:]),
                shown.sequence,
                shown.time_ms,
                [from_text(head) for head in shown.heads],
                shown.text,
                bytes.fromhex(shown.signature[2:]),
            )
            admitted = admit_message(wire_of(message), network)
        except (RemoteFault, ValueError):
            raise ForgedMessage(endpoint, shown.cid) from None
        if to_text(admitted.cid) != shown.cid:
            raise ForgedMessage(endpoint, shown.cid)


async def each_once(stream: Stream, network: bytes, endpoint: str) -> AsyncIterator[ChatView]:
    """The messages of a chat stream, checked, without those that a new snapshot repeats.

    Errors: `ForgedMessage`, and those of the stream.
    """
    seen: OrderedDict[str, None] = OrderedDict()
    async for update in stream:
        found = msgspec.convert(update.data, _Messages).messages
        fresh = [item for item in found if item.cid not in seen]
        check_talk(fresh, network, endpoint)
        for item in fresh:
            seen[item.cid] = None
            yield item
        while len(seen) > SEEN_CIDS_MAX:
            seen.popitem(last=False)
