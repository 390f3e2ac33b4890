"""The 16-ary tree against a definition that is too slow to use and too short to be wrong."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from primitives.merkle import ARITY, MerkleTree, verify

ZERO = bytes(32)
indexes = st.integers(0, 5_000)
leaves_of_32 = st.binary(min_size=32, max_size=32)
leaf_maps = st.dictionaries(indexes, leaves_of_32, max_size=40)


def reference_root(leaves: dict[int, bytes]) -> bytes:
    count = max(leaves, default=0) + 1
    level, number = dict(leaves), 0
    while True:
        rows = -(-count // ARITY)
        above = {}
        for row in {index // ARITY for index in level}:
            children = b"".join(level.get(row * ARITY + i, ZERO) for i in range(ARITY))
            above[row] = sha256(bytes([number]) + children).digest() if any(children) else ZERO
        number += 1
        if rows == 1:
            top = above.get(0, ZERO)
            return sha256(b"outcry/merkle/1" + bytes([number]) + top).digest()
        level, count = above, rows


@given(st.lists(leaf_maps, min_size=1, max_size=4))
def test_the_root_depends_on_the_leaves_alone_and_equals_the_reference(updates):
    tree, merged = MerkleTree(), {}
    for update in updates:
        tree.update(update)
        merged.update(update)
    assert tree.root == reference_root(merged)


@given(st.dictionaries(indexes, leaves_of_32.filter(any), min_size=1, max_size=40), st.data())
def test_every_leaf_has_a_proof_and_no_other_leaf_fits_it(leaves, data):
    tree = MerkleTree()
    root = tree.update(leaves)
    index = data.draw(st.sampled_from(sorted(leaves)))
    path = tree.proof(index)
    assert verify(root, index, leaves[index], path)
    other = bytes(byte ^ 1 for byte in leaves[index])
    assert not verify(root, index, other, path)
    assert (
        not verify(root, index ^ 1, leaves[index], path) or leaves.get(index ^ 1) == leaves[index]
    )
    assert not verify(root, index, leaves[index], path[:-1])


def test_an_empty_tree_proves_nothing():
    with pytest.raises(IndexError):
        MerkleTree().proof(0)


def test_wrong_leaves_are_refused():
    with pytest.raises(ValueError, match="32 bytes"):
        MerkleTree().update({0: b"short"})
    with pytest.raises(ValueError, match="index"):
        MerkleTree().update({-1: ZERO})
