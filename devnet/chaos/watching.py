"""Looks at every node all the time: is it up, how far is it, did it vote, did it see a lie."""

from typing import Final

import httpx
import msgspec
import trio

from devnet.cluster import Cluster

LOOK_MS: Final = 500  # from one look at a node to the next
LOOK_CLOSELY_MS: Final = 100  # the same while a node comes back
LOOK_TIMEOUT_S: Final = 1.0  # a node that takes longer counts as down
METRICS_BYTES_MAX: Final = 1 << 20  # a longer answer is not read
_EPOCH: Final = "outcry_consensus_epoch"
_ROUND: Final = "outcry_consensus_high_qc_round"
_BEHIND: Final = 'outcry_validator_rounds_behind{validator="'
_EVIDENCE: Final = "outcry_consensus_evidence"
_HEIGHT: Final = "outcry_ledger_height"


class Look(msgspec.Struct, frozen=True):
    """A node's numbers at one look.

    `heard` says for the other validators by name in which (epoch, round) it last heard one's vote.
    """

    at_s: float
    height: int
    evidence: int
    heard: dict[str, tuple[int, int]]


class Evidence(msgspec.Struct, frozen=True):
    """A node said that somebody signed two different things for one slot."""

    seen_by: str
    count: int


class Watch:
    """The newest look at every node, by name; nodes that do not answer are not `up`."""

    def __init__(self, http: httpx.AsyncClient, cluster: Cluster) -> None:
        self._http = http
        self._cluster = cluster
        self._names = [node.name for node in cluster.state.nodes]
        self._close: set[str] = set()
        self.looks: dict[str, Look] = {}
        self.up: set[str] = set()
        self.evidence: dict[str, int] = {}
        self.height_max = 0

    async def run(self) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as nursery:
            for name in self._names:
                nursery.start_soon(self._watch, name)

    def apis(self) -> dict[str, str]:
        """Where the nodes that answer can be reached."""
        return {name: self._cluster.node(name).api for name in self.up}

    def closely(self, name: str, wanted: bool) -> None:
        """Look at a node more often, or as usual again."""
        (self._close.add if wanted else self._close.discard)(name)

    async def look(self, name: str) -> Look | None:
        """Look at a node now; None when it does not answer."""
        api = self._cluster.node(name).api
        try:
            answer = await self._http.get(f"{api}/metrics", timeout=LOOK_TIMEOUT_S)
            if answer.status_code != httpx.codes.OK or len(answer.content) > METRICS_BYTES_MAX:
                self.up.discard(name)
                return None
            numbers, behind = _numbers(answer.text)
            epoch, newest = int(numbers[_EPOCH]), int(numbers[_ROUND])
            look = Look(
                trio.current_time(),
                int(numbers[_HEIGHT]),
                int(numbers[_EVIDENCE]),
                {other: (epoch, newest - rounds) for other, rounds in behind.items()},
            )
        except (httpx.HTTPError, ValueError, KeyError):
            self.up.discard(name)
            return None
        self.looks[name] = look
        self.up.add(name)
        self.height_max = max(self.height_max, look.height)
        if look.evidence > self.evidence.get(name, 0):
            self.evidence[name] = look.evidence
        return look

    def heard(self, name: str) -> tuple[int, int]:
        """The newest (epoch, round) in which any other node heard a vote of `name`."""
        looks = [look for other, look in self.looks.items() if other != name]
        return max((look.heard.get(name, (0, 0)) for look in looks), default=(0, 0))

    async def _watch(self, name: str) -> None:
        while True:
            await self.look(name)
            pause_ms = LOOK_CLOSELY_MS if name in self._close else LOOK_MS
            await trio.sleep(pause_ms / 1_000)

    def found(self) -> list[Evidence]:
        """All evidence that any node ever showed, also if it was killed since."""
        return [Evidence(name, count) for name, count in sorted(self.evidence.items())]


def _numbers(text: str) -> tuple[dict[str, float], dict[str, int]]:
    """Prometheus' text format: plain samples, and how far validators are behind by name."""
    out: dict[str, float] = {}
    behind: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name in (_EVIDENCE, _HEIGHT, _EPOCH, _ROUND):
            out[name] = float(value)
        elif name.startswith(_BEHIND):
            behind[name.removeprefix(_BEHIND).partition('"')[0]] = int(float(value))
    return out, behind
