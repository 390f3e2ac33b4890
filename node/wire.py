"""What nodes say to each other beside the agreement's own messages.

Pushed between validators, with kinds from 16 on: packed envelopes, signatures of rollup blocks.
Asked of any node: envelopes by id, blocks above a height, batches by height, chat history.
"""

from enum import IntEnum
from typing import Annotated

import msgspec

from consensus import BLOCK_BYTES_MAX, QuorumCertificate
from primitives.codec import Bytes32, Bytes65, Record, Unsigned

PACKED_ITEMS_MAX = 512  # envelopes in one message; more are packed into the next
PACKED_BYTES_MAX = 256 << 10  # likewise; gossip carries twice as much
ROLLUP_SIGNATURE_BYTES_MAX = 256
ENVELOPES_WANTED_ITEMS_MAX = 256
REQUEST_BYTES_MAX = 16_384
RESPONSE_BYTES_MAX = 9 << 20  # a batch of the largest size fits
CHAIN_BLOCKS_ITEMS_MAX = 128  # blocks in one answer; the rest is asked for again
CHAIN_BYTES_MAX = 2 * BLOCK_BYTES_MAX  # likewise

PROTOCOL_ENVELOPES = "envelopes/1"
PROTOCOL_CHAIN = "chain/1"
PROTOCOL_BATCHES = "batches/1"
PROTOCOL_CHAT = "chat/1"
TOPIC_ENVELOPES = "envelopes"
TOPIC_CHAT = "chat"


class NodeKind(IntEnum):
    """Message kinds beside those of `consensus.Kind`."""

    ENVELOPES = 16
    ROLLUP_SIGNATURE = 17


Packed = Annotated[list[bytes], msgspec.Meta(max_length=PACKED_ITEMS_MAX)]


class RollupSignature(Record):
    """A validator's signature of rollup block `number`, by its EVM key."""

    number: Unsigned
    digest: Bytes32
    signature: Bytes65


class EnvelopesWanted(Record):
    ids: Annotated[list[Bytes32], msgspec.Meta(max_length=ENVELOPES_WANTED_ITEMS_MAX)]


class ChainWanted(Record):
    """Blocks above `height`, please."""

    height: Unsigned


class ChainAnswer(Record):
    """Blocks in ascending order and the certificate of the last; `more` says there are more."""

    blocks: Annotated[list[bytes], msgspec.Meta(max_length=CHAIN_BLOCKS_ITEMS_MAX)]
    high_qc: QuorumCertificate
    more: bool


class BatchesWanted(Record):
    """The executed batches from `first` on, at most `count`."""

    first: Unsigned
    count: Annotated[int, msgspec.Meta(ge=1, le=CHAIN_BLOCKS_ITEMS_MAX)]


class BatchesAnswer(Record):
    """Batches in ascending order of height, as their DAG-CBOR blocks."""

    batches: Annotated[list[bytes], msgspec.Meta(max_length=CHAIN_BLOCKS_ITEMS_MAX)]


def pack(wires: list[bytes]) -> list[list[bytes]]:
    """Cut envelopes into groups that fit one message each."""
    groups: list[list[bytes]] = []
    size = 0
    for wire in wires:
        full = not groups or len(groups[-1]) >= PACKED_ITEMS_MAX
        if full or size + len(wire) > PACKED_BYTES_MAX:
            groups.append([])
            size = 0
        groups[-1].append(wire)
        size += len(wire)
    return groups
