"""Blocks above the committed tip, and what is certified among them."""

from collections.abc import Iterator
from dataclasses import dataclass

from consensus.block import Block
from consensus.certificate import QuorumCertificate
from consensus.frontier import Frontier
from consensus.leaders import Standing

BLOCKS_ITEMS_MAX = 8_192  # uncommitted blocks; at the limit new ones are not kept


@dataclass(frozen=True, slots=True)
class Node:
    """A block whose ancestors are all known, and what follows from it and them.

    frontier           how far reports have come
    checkpoint_height  the highest checkpoint that it or an ancestor carries
    accused            (epoch, validator) pairs that evidence in it or an ancestor proved guilty
    standing           leaders' failures up to it
    settled            `standing` of the newest ancestor that its certificate makes final: it
                       decides who leads on top of it
    ends, ended, end   it is the end block of its epoch; it or an ancestor is; which one
    block              None for the first of an epoch, which is the end block of the one before
    """

    cid: bytes
    round: int
    height: int
    time_ms: int
    parent: bytes
    frontier: Frontier
    checkpoint_height: int
    accused: frozenset[tuple[int, int]]
    standing: Standing
    settled: Standing
    ends: bool
    ended: bool
    end: bytes | None
    block: Block | None

    @property
    def has_content(self) -> bool:
        return self.block is not None and any(
            link.items or link.observation for link in self.block.links
        )


class BlockTree:
    """The committed tip and everything known above it."""

    def __init__(self, root: Node) -> None:
        self._nodes = {root.cid: root}
        self.tip = root

    def __len__(self) -> int:
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def get(self, cid: bytes) -> Node | None:
        return self._nodes.get(cid)

    def insert(self, node: Node) -> bool:
        """Add a node whose parent is known; whether there was room."""
        if len(self._nodes) >= BLOCKS_ITEMS_MAX:
            return False
        self._nodes[node.cid] = node
        return True

    def branch(self, node: Node) -> Iterator[Node]:
        """`node` and its ancestors, newest first, down to but without the committed tip.

        Empty when the node does not descend from the tip.
        """
        path = []
        while node.height > self.tip.height:
            path.append(node)
            parent = self._nodes.get(node.parent)
            if parent is None:
                return iter(())
            node = parent
        return iter(path if node.cid == self.tip.cid else ())

    def committable(self, certificate: QuorumCertificate) -> Node | None:
        """The block that a certificate commits by the two-chain rule, if it does.

        B1, certified by `certificate`, carries the certificate of its parent B0; B0 is final
        when their rounds are consecutive. Looking at parents alone, without rounds, would let
        two branches commit.
        """
        child = self._nodes.get(certificate.block)
        if child is None or child.block is None:
            return None
        parent = self._nodes.get(child.parent)
        if parent is None or parent.block is None or parent.height <= self.tip.height:
            return None
        return parent if child.round == parent.round + 1 else None

    def commit(self, node: Node) -> None:
        """Make `node` the tip and forget what cannot become final any more."""
        self.tip = node
        self._nodes = {
            cid: other
            for cid, other in self._nodes.items()
            if other.height > node.height or cid == node.cid
        }
