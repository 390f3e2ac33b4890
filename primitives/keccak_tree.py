"""Binary keccak trees whose inclusion proofs a contract checks.

A tree is padded with zero words to the next power of two; an inner node is
keccak(0x01 || left || right). Leaves are made by `anchors`, which tags them 0x00.
"""

from collections.abc import Sequence

from primitives.anchors import EMPTY_ACCUMULATOR as _PADDING
from primitives.anchors import keccak

_NODE = b"\x01"


def levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """All levels of the tree over `leaves`, leaves first, root last.

    `leaves` are 32-byte words, at least one; the lowest level comes back padded.
    """
    if not leaves:
        raise ValueError("a tree needs at least one leaf")
    width = 1 << (len(leaves) - 1).bit_length()
    level = [*leaves, *[_PADDING] * (width - len(leaves))]
    out = [level]
    while len(level) > 1:
        level = [_node(level[i], level[i + 1]) for i in range(0, len(level), 2)]
        out.append(level)
    return out


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over `leaves`; the zero word when there are none."""
    return levels(leaves)[-1][0] if leaves else _PADDING


def proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The siblings of leaf `index`, lowest first."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"leaf {index} of {len(leaves)}")
    siblings = []
    for level in levels(leaves)[:-1]:
        siblings.append(level[index ^ 1])
        index >>= 1
    return siblings


def verify(expected_root: bytes, leaf: bytes, index: int, siblings: Sequence[bytes]) -> bool:
    """Whether `leaf` stands at `index` under `expected_root`, as the contract would decide."""
    node = leaf
    for sibling in siblings:
        node = _node(sibling, node) if index & 1 else _node(node, sibling)
        index >>= 1
    return index == 0 and node == expected_root


def _node(left: bytes, right: bytes) -> bytes:
    return keccak(_NODE + left + right)
