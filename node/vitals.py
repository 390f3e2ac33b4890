"""What an operator watches: which numbers of a node's parts grow, and what they are called.

    metrics = [*of_parts({"consensus": replica.statistics(), ...}), *of_validators(...)]
    metrics += await trio.to_thread.run_sync(of_disk, index, journal, folder)

Consensus knows validators by index, people by name: here the one becomes the other. What the chain
itself counts (transactions, trades, deposits) is shown as gauges: a restart replays it, and a
counter that falls and rises again would look like all of it happening at once.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from consensus import ReplicaStatistics
from node.metrics import Metric, Shown, from_statistics
from p2p import PeerStatus
from storage import Index, Journal
from storage.faults import QueriesBusy, QueryTooSlow

log = structlog.get_logger(__name__)

_CODE: Final = {"refused": "code"}
_BY_VALIDATOR: Final = frozenset({"missed_votes", "rounds_behind"})  # see `of_validators`
SHOWN: Final[Mapping[str, Shown]] = {
    "consensus": Shown(
        frozenset({"votes", "proposals", "timeouts", "refused", "certified", "timed_out"})
        | {"certified_timed", "quorum_delay_ms_total"},
        _CODE,
        hidden=_BY_VALIDATOR,
    ),
    "ledger": Shown(frozenset({"fetched", "observations_refused"})),
    "mempool": Shown(frozenset({"expired"})),
    "intake": Shown(frozenset({"accepted", "pushed", "received", "refused"}), _CODE),
    "sync": Shown(
        frozenset({"chain_requests", "blocks_fetched", "envelopes_fetched", "batches_fetched"})
        | {"failures"}
    ),
    "chat": Shown(frozenset({"synchronised", "absorbed", "failures"})),
    "feed": Shown(frozenset({"published", "cut_off"})),
    "p2p": Shown(
        frozenset({"bytes_in", "bytes_out", "messages_in", "messages_out"})
        | {"frames_in", "frames_out", "links_lost", "dials", "dials_failed", "dropped"}
        | {"refused", "contained", "published", "delivered", "forwarded", "duplicates"}
        | {"overflowed", "asked", "answered", "failed", "served"},
        {**_CODE, "dropped": "reason", "mesh": "topic"},
    ),
    "exchange": Shown(),
    "driver": Shown(frozenset({"events", "flushes", "flush_ms_total", "refused"})),
    "anchor": Shown(frozenset({"signatures_refused", "sent", "failures"})),
    "index": Shown(frozenset({"queries", "commits", "puts", "gets", "misses"})),
    "journal": Shown(frozenset({"writes", "entries", "slots_refused"})),
}
"""How each part of a node is shown, as `outcry_<part>_...`."""


@dataclass(frozen=True)
class PeerTraffic:
    """The link to one validator.

    connected         a connection stands
    linked            the stream of frames to it is open
    queue_messages    messages that wait for it
    queue_bytes       bytes that wait for it
    dropped           messages that it did not get, whatever the reason
    refused           what it did against the rules
    """

    connected: bool
    linked: bool
    queue_messages: int
    queue_bytes: int
    bytes_in: int
    bytes_out: int
    dropped: int
    refused: int


_TRAFFIC: Final = frozenset({"bytes_in", "bytes_out", "dropped", "refused"})
_LINK: Final = frozenset({"linked", "queue_messages", "queue_bytes"})


def named(names: Sequence[str], index: int) -> str:
    """The name of the validator with this index; the index itself for one without a name."""
    return names[index] if 0 <= index < len(names) else str(index)


def of_parts(parts: Mapping[str, object]) -> Iterator[Metric]:
    """The statistics of a node's parts by the part's name, which is one of `SHOWN`."""
    for part, statistics in parts.items():
        yield from from_statistics(f"outcry_{part}", statistics, SHOWN[part])


def of_node(name: str, role: str, version: str, rss_bytes: int) -> Iterator[Metric]:
    """Which node this is."""
    labels = {"name": name, "role": role, "version": version}
    yield Metric("outcry_node_info", "Which node this is; always 1.", 1, labels)
    yield Metric("outcry_node_resident_bytes", "Memory of the node's process.", rss_bytes)


def of_agreement(
    names: Sequence[str], replica: ReplicaStatistics, accused: Sequence[int], *, signing: bool
) -> Iterator[Metric]:
    """What a validator knows of itself and of the others, by name.

    Only for validators: a gateway hears no votes, so everybody would seem to miss them.
    """
    yield Metric(
        "outcry_consensus_signing",
        "1 while this validator signs, 0 while it only watches.",
        signing,
    )
    # The name from before there were counters; what reads a restart's votes still uses it.
    yield Metric("outcry_consensus_votes", "See outcry_consensus_votes_total.", replica.votes)
    rounds = replica.rounds
    told = "Certified rounds since start to which its vote did not come, even late."
    for key, count in rounds.missed_votes.items():
        labels = {"validator": named(names, int(key))}
        yield Metric("outcry_validator_missed_votes_total", told, count, labels, grows=True)
    told = "How far its newest vote is behind the newest certificate, in rounds."
    for key, count in rounds.rounds_behind.items():
        labels = {"validator": named(names, int(key))}
        yield Metric("outcry_validator_rounds_behind", told, count, labels)
    for index, name in enumerate(names):
        labels = {"validator": name}
        yield Metric(
            "outcry_validator_passed_over",
            "1 while it does not lead because its rounds failed.",
            index in replica.passed_over,
            labels,
        )
        yield Metric(
            "outcry_validator_accused",
            "1 when final blocks prove that it signed twice, in this epoch or the last.",
            index in accused,
            labels,
        )


def of_peers(
    names: Sequence[str], peers: Sequence[PeerStatus], *, is_validator: bool
) -> Iterator[Metric]:
    """The links to the other validators, by name. Other peers are too many to be shown.

    Frames go between validators only: a gateway has connections, but no links and no queues.
    """
    shown = Shown(_TRAFFIC, hidden=frozenset() if is_validator else _LINK)
    for peer in peers:
        if peer.validator is None:
            continue
        traffic = PeerTraffic(
            peer.connected,
            peer.linked,
            peer.queue_messages,
            peer.queue_bytes,
            peer.bytes_in,
            peer.bytes_out,
            sum(peer.dropped.values()),
            sum(peer.refused.values()),
        )
        labels = {"validator": named(names, peer.validator)}
        for metric in from_statistics("outcry_peer", traffic, shown):
            yield metric._replace(labels=labels)


def of_disk(index: Index, journal: Journal | None, folder: Path) -> list[Metric]:
    """Index, journal, and the disk below `folder`. Reads files: call it in a thread.

    While the index is too busy to be asked, its numbers are left out.
    """
    usage = shutil.disk_usage(folder)
    metrics = [
        Metric("outcry_disk_size_bytes", "Size of the disk with this node's data.", usage.total),
        Metric("outcry_disk_free_bytes", "What is free of it for this node.", usage.free),
    ]
    try:
        metrics += of_parts({"index": index.statistics()})
    except (QueriesBusy, QueryTooSlow) as fault:
        log.warning("index_not_measured", code=fault.code, reason=fault.sentence)
    if journal is not None:
        metrics += of_parts({"journal": journal.statistics()})
    return metrics
