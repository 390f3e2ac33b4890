"""A 16-ary SHA-256 Merkle tree over dense indexes, updated level by level.

    tree = MerkleTree()
    tree.update({0: leaf_a, 7: leaf_b})
    tree.root, tree.proof(7)

A node is the SHA-256 of a level byte and its 16 children; where no child was ever set the
children are zero words and so is the node. The tree grows a level when an index needs it, and
the root binds the depth. Leaves are 32-byte digests made by the caller under a domain of its
own: no leaf can pass for a node.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

ARITY = 16
_DEPTH_MAX = 8
LEAVES_ITEMS_MAX = ARITY**_DEPTH_MAX  # larger indexes are a programming error: ValueError
_ZERO = bytes(32)
_ROW_BYTES = ARITY * 32


class MerkleTree:
    """The tree over leaves 0..n-1; `root` is always that of the last `update`."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray(_ROW_BYTES)]
        self._count = 0
        self.root = _top(self._levels)

    def __len__(self) -> int:
        return self._count

    def update(self, leaves: Mapping[int, bytes]) -> bytes:
        """Set the leaves at the given indexes, 32 bytes each, and return the new root."""
        if not leaves:
            return self.root
        highest = max(leaves)
        if not 0 <= min(leaves) <= highest < LEAVES_ITEMS_MAX:
            raise ValueError(f"leaf index outside 0..{LEAVES_ITEMS_MAX - 1}")
        self._count = max(self._count, highest + 1)
        self._grow(highest)
        base = self._levels[0]
        for index, leaf in leaves.items():
            if len(leaf) != len(_ZERO):
                raise ValueError("a leaf has 32 bytes")
            base[index * 32 : index * 32 + 32] = leaf
        touched = {index // ARITY for index in leaves}
        for number in range(len(self._levels) - 1):
            below, above = self._levels[number], self._levels[number + 1]
            for row in touched:
                start = row * _ROW_BYTES
                above[row * 32 : row * 32 + 32] = _hash(number, below[start : start + _ROW_BYTES])
            touched = {row // ARITY for row in touched}
        self.root = _top(self._levels)
        return self.root

    def leaf(self, index: int) -> bytes:
        """The leaf at `index`, zero bytes where none was set."""
        return bytes(self._levels[0][index * 32 : index * 32 + 32])

    def proof(self, index: int) -> list[list[bytes]]:
        """For each level from the leaves up, the 15 siblings on the way, left to right."""
        if not 0 <= index < self._count:
            raise IndexError(f"leaf {index} of {self._count}")
        path = []
        for level in self._levels:
            start = index // ARITY * _ROW_BYTES
            row = [bytes(level[start + i * 32 : start + i * 32 + 32]) for i in range(ARITY)]
            path.append(row[: index % ARITY] + row[index % ARITY + 1 :])
            index //= ARITY
        return path

    def _grow(self, highest: int) -> None:
        """Make room for index `highest`. The depth depends on the leaf count alone."""
        slots = highest + 1
        for number in range(_DEPTH_MAX):
            if number == len(self._levels):
                top = bytearray(_ROW_BYTES)
                top[:32] = _hash(number - 1, self._levels[-1][:_ROW_BYTES])
                self._levels.append(top)
            level = self._levels[number]
            rows = -(-slots // ARITY)
            if len(level) < rows * _ROW_BYTES:
                # Doubling keeps growth linear over many small updates.
                level.extend(bytes(max(rows * _ROW_BYTES, 2 * len(level)) - len(level)))
            if rows == 1:
                return
            slots = rows


def verify(root: bytes, index: int, leaf: bytes, path: Sequence[Sequence[bytes]]) -> bool:
    """Whether `leaf` stands at `index` of the tree with this root; `path` as from `proof`."""
    node = leaf
    for number, siblings in enumerate(path):
        if len(siblings) != ARITY - 1 or any(len(item) != len(_ZERO) for item in siblings):
            return False
        row = [*siblings[: index % ARITY], node, *siblings[index % ARITY :]]
        node = _hash(number, b"".join(row))
        index //= ARITY
    return index == 0 and len(path) > 0 and _seal(len(path), node) == root


def _top(levels: Sequence[bytearray]) -> bytes:
    return _seal(len(levels), _hash(len(levels) - 1, levels[-1][:_ROW_BYTES]))


def _seal(depth: int, node: bytes) -> bytes:
    """Bind the depth, so that a proof for one depth says nothing about another."""
    return sha256(b"outcry/merkle/1" + bytes([depth]) + node).digest()


def _hash(level: int, row: bytes | bytearray) -> bytes:
    return sha256(bytes([level]) + row).digest() if any(row) else _ZERO
