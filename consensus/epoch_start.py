"""The start of an epoch as one record: where a restarted replica may begin to replay.

All that an epoch inherits is in it: the start block and its proof, the highest checkpoint carried,
who was accused, and how leaders stand. Reports and their tally start anew with every epoch, so
nothing before the start block is needed but the ids of envelopes that have their place already.
A validator journals the record when the epoch begins; it trusts its own journal.
"""

from typing import Annotated

import msgspec

from consensus.block import HANDOVER_BYTES_MAX
from consensus.certificate import BlockId
from consensus.committee import VALIDATORS_ITEMS_MAX
from consensus.evidence import Index
from consensus.leaders import Failures, Standing
from primitives import codec
from primitives.codec import Record, Unsigned

EPOCH_START_BYTES_MAX = HANDOVER_BYTES_MAX + 16_384  # larger: refused with E351


class Accused(Record):
    epoch: Unsigned
    signer: Index


class Turns(Record):
    """A leader's failures in a row, and the first round in which it may lead again."""

    count: Unsigned
    until: Unsigned


class EpochStart(Record):
    """`epoch` starts on `block` of `height` and `time_ms`, the end block of the epoch before,
    which began above height `before`."""

    epoch: Unsigned
    block: BlockId
    height: Unsigned
    time_ms: Unsigned
    before: Unsigned
    handover: bytes
    checkpoint_height: Unsigned
    accused: Annotated[list[Accused], msgspec.Meta(max_length=2 * VALIDATORS_ITEMS_MAX)]
    standing: Annotated[list[Turns], msgspec.Meta(max_length=VALIDATORS_ITEMS_MAX)]

    def leaders_standing(self) -> Standing:
        return tuple(Failures(item.count, item.until) for item in self.standing)


def decode_epoch_start(wire: bytes) -> EpochStart:
    """Errors: `Malformed`, `Oversized`."""
    return codec.decode(EpochStart, wire, bytes_max=EPOCH_START_BYTES_MAX)
