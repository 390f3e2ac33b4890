"""Authors, their messages, and chat services on real indexes."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chat import AdmittedMessage, ChatService, admit_message, sign_message
from primitives.ed25519 import SigningKey
from storage import Index

NETWORK = b"n" * 32
ROOM = "OUT-USD"
NOW_MS = 1_800_000_000_000


class Author:
    """A trader with one key; every message gets the next sequence number."""

    def __init__(self, number: int) -> None:
        self.key = SigningKey(number.to_bytes(32, "big"))
        self.account = number.to_bytes(20, "big")
        self.sequence = 0

    def wire(
        self,
        text: str = "hello",
        time_ms: int = NOW_MS,
        heads: tuple[bytes, ...] = (),
        *,
        sequence: int | None = None,
        room: str = ROOM,
        network: bytes = NETWORK,
    ) -> bytes:
        self.sequence += 1
        number = self.sequence if sequence is None else sequence
        return sign_message(self.key, network, room, self.account, number, time_ms, heads, text)

    def message(
        self, text: str = "hello", time_ms: int = NOW_MS, heads: tuple[bytes, ...] = ()
    ) -> AdmittedMessage:
        return admit_message(self.wire(text, time_ms, heads), NETWORK)


class Node:
    """A chat service on an index of its own, which can be restarted."""

    def __init__(self, path: Path, authorize: Callable[[bytes, bytes, int], bool]) -> None:
        self._path = path
        self._authorize = authorize
        self._open()

    def _open(self) -> None:
        self.index = Index.open(self._path, NETWORK)
        self.chat = ChatService(self.index, NETWORK, [ROOM, "BTC-USD"], self._authorize)

    def restart(self) -> None:
        self.close()
        self._open()

    def close(self) -> None:
        self.index.close()

    def texts(self, room: str = ROOM) -> list[str]:
        return [kept.message.text for kept in self.chat.history(room, 200)]

    def pull(self, other: "Node", now_ms: int = NOW_MS + 600_000) -> list[str]:
        """Synchronise from `other`; the texts that the history gained."""
        gained: list[str] = []
        request: bytes | None = self.chat.sync_request(ROOM)
        while request:
            absorbed = self.chat.absorb(other.chat.sync_response(request), now_ms)
            gained += [kept.message.text for kept in absorbed.shown]
            request = absorbed.next_request
        return gained


@pytest.fixture
def author() -> Author:
    return Author(1)


@pytest.fixture
def authors() -> Callable[[int], list[Author]]:
    return lambda count: [Author(number) for number in range(1, count + 1)]


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def make(authorize: Callable[[bytes, bytes, int], bool] = lambda *_: True) -> Node:
        nodes.append(Node(tmp_path / f"node{len(nodes)}.db", authorize))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def node(make_node: Callable[..., Node]) -> Node:
    return make_node()
