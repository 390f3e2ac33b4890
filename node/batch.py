"""A batch as an IPLD block: the envelopes that one committed block made executable, in order.

    [domain, network, height, block link, previous batch link or null, root, [envelope, ...]]

Walking from the newest batch over `previous` and `block` reaches everything that ever was
executed; `root` is the state root after the batch.
"""

from dataclasses import dataclass

from primitives import dagcbor
from primitives.cid import cid_of
from primitives.dagcbor import Link
from primitives.faults import RemoteFault

BATCH_BYTES_MAX = 8 << 20  # 256 envelopes of the largest size fit; larger: refused with E002
_DOMAIN = "outcry/batch/1"
_FIELDS = 7


@dataclass(frozen=True, slots=True)
class Batch:
    height: int
    block: bytes
    previous: bytes | None
    root: bytes
    envelopes: tuple[bytes, ...]

    def encode(self, network: bytes) -> bytes:
        previous = None if self.previous is None else Link(self.previous)
        return dagcbor.encode(
            [
                _DOMAIN,
                network,
                self.height,
                Link(self.block),
                previous,
                self.root,
                list(self.envelopes),
            ]
        )

    def cid(self, network: bytes) -> bytes:
        return cid_of(self.encode(network))


class NotABatch(RemoteFault):
    """The block is not a batch of this network."""

    code = "E406"


def decode_batch(data: bytes, network: bytes) -> Batch:
    """Errors: `NotDagCbor`, `Oversized`, `NotABatch`."""
    value = dagcbor.decode(data, bytes_max=BATCH_BYTES_MAX)
    if not isinstance(value, list) or len(value) != _FIELDS or value[:2] != [_DOMAIN, network]:
        raise NotABatch("not a batch of this network")
    _, _, height, block, previous, root, envelopes = value
    shaped = (
        type(height) is int
        and isinstance(block, Link)
        and (previous is None or isinstance(previous, Link))
        and isinstance(root, bytes)
        and isinstance(envelopes, list)
        and all(isinstance(item, bytes) for item in envelopes)
    )
    if not shaped:
        raise NotABatch("a field of the batch has the wrong shape")
    return Batch(
        height,
        block.cid,
        None if previous is None else previous.cid,
        root,
        tuple(envelopes),
    )
