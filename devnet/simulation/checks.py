"""What must hold in every simulation, as named checks.

A check sees `Facts` about honest validators only, and yields a sentence for every violation.
Names are stable: mutants and failure files refer to them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from consensus import Kind, decode_block
from consensus.certificate import Timeout, Vote
from consensus.checkpoint import CheckpointVote
from consensus.handover import decode_handover
from consensus.report import decode_link
from devnet.simulation.agreement_node import START_MS
from devnet.simulation.node import History
from primitives import codec

MESSAGE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Violation:
    """A check that did not hold."""

    check: str
    sentence: str
    at_ms: int


@dataclass
class Facts:
    """What the world has seen so far of honest validators and of traders.

    `submitted` are the ids of all envelopes that traders signed; `accepted` by id the honest
    validators that gave a receipt; `faults` (validator, what it raised).
    """

    network: bytes
    submitted: set[bytes] = field(default_factory=set)
    accepted: dict[bytes, set[int]] = field(default_factory=dict)
    faults: list[tuple[int, str]] = field(default_factory=list)


class Check(Protocol):
    """One property. `name` is stable."""

    name: str

    def sent(self, validator: int, kind: int, payload: bytes) -> Iterator[str]:
        """An honest validator sends a message of the agreement."""

    def audit(self, facts: Facts, histories: Mapping[int, History]) -> Iterator[str]:
        """Look at everything again; `histories` are those of all honest validators."""


class _Quiet:
    """Sees nothing; checks override what they look at."""

    def sent(self, validator: int, kind: int, payload: bytes) -> Iterator[str]:
        del validator, kind, payload
        return iter(())

    def audit(self, facts: Facts, histories: Mapping[int, History]) -> Iterator[str]:
        del facts, histories
        return iter(())


class Agreement(_Quiet):
    """No two honest validators ever executed different blocks or batches at one height."""

    name = "agreement"

    def __init__(self) -> None:
        self._blocks: tuple[bytes, ...] = ()
        self._batches: tuple[tuple[bytes, ...], ...] = ()

    def audit(self, facts: Facts, histories: Mapping[int, History]) -> Iterator[str]:
        del facts
        for validator, history in histories.items():
            length = min(len(history.blocks), len(self._blocks))
            if history.blocks[:length] != self._blocks[:length]:
                height = _first_difference(history.blocks, self._blocks)
                yield f"v{validator} has another block at height {height} than others before"
            elif history.batches[:length] != self._batches[:length]:
                height = _first_difference(history.batches, self._batches)
                yield f"v{validator} has another batch at height {height} than others before"
            elif len(history.blocks) > length:
                self._blocks, self._batches = history.blocks, history.batches


class Validity(_Quiet):
    """What is executed was signed and handed in by a trader, and is executed once."""

    name = "validity"

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, set[bytes]]] = {}

    def audit(self, facts: Facts, histories: Mapping[int, History]) -> Iterator[str]:
        for validator, history in histories.items():
            heights, executed = self._seen.get(validator, (0, set()))
            if heights > len(history.batches):  # the process lost blocks that it will fetch again
                heights, executed = 0, set()
            for batch in history.batches[heights:]:
                for name in batch:
                    if name not in facts.submitted:
                        yield f"v{validator} executed {name.hex()[:16]}, which no trader signed"
                    if name in executed:
                        yield f"v{validator} executed {name.hex()[:16]} twice"
                    executed.add(name)
            self._seen[validator] = (len(history.batches), executed)


class OneSignaturePerSlot(_Quiet):
    """An honest key never signs two statements for one slot, restarts included."""

    name = "one-signature-per-slot"

    def __init__(self, network: bytes) -> None:
        self._network = network
        self._slots: dict[tuple[int, str, int, int], bytes] = {}

    def sent(self, validator: int, kind: int, payload: bytes) -> Iterator[str]:
        found = _slot(self._network, kind, payload)
        if found is None:
            return
        author, name, epoch, number, statement = found
        if author != validator:
            return  # passes on what another one signed
        first = self._slots.setdefault((validator, name, epoch, number), statement)
        if first != statement:
            yield f"v{validator} signed two {name}s for {number} of epoch {epoch}"


class Conservation(_Quiet):
    """All money adds up, and equal heights have equal roots."""

    name = "conservation"

    def __init__(self) -> None:
        self._roots: tuple[bytes, ...] = ()

    def audit(self, facts: Facts, histories: Mapping[int, History]) -> Iterator[str]:
        del facts
        for validator, history in histories.items():
            if history.imbalance:
                yield f"v{validator}: {history.imbalance}"
            length = min(len(history.roots), len(self._roots))
            if history.roots[:length] != self._roots[:length]:
                height = _first_difference(history.roots, self._roots)
                yield f"v{validator} has another root at height {height} than others before"
            elif len(history.roots) > length:
                self._roots = history.roots


class EqualCheckpoints(_Quiet):
    """Certified roots are those that every honest validator computed."""

    name = "equal-checkpoints"

    def __init__(self) -> None:
        self._certified: dict[int, bytes] = {}

    def audit(self, facts: Facts, histories: Mapping[int, History]) -> Iterator[str]:
        del facts
        for validator, history in histories.items():
            for height, root in history.checkpoints.items():
                if self._certified.setdefault(height, root) != root:
                    yield f"v{validator} knows another certified root at height {height}"
            for height, root in self._certified.items():
                if height <= len(history.roots) and history.roots[height - 1] != root:
                    yield f"v{validator} computed another root than certified at height {height}"


class NoLocalFault(_Quiet):
    """Honest validators never stop because of themselves."""

    name = "no-local-fault"

    def audit(self, facts: Facts, histories: Mapping[int, History]) -> Iterator[str]:
        del histories
        for validator, what in facts.faults:
            yield f"v{validator}: {what}"


class BlockTime(_Quiet):
    """No block that an honest validator proposes is later than all of genesis and honest clocks."""

    name = "block-time"

    def __init__(self, network: bytes) -> None:
        self._network = network
        self._newest_ms = START_MS

    def sent(self, validator: int, kind: int, payload: bytes) -> Iterator[str]:
        if kind == Kind.LINK:
            link = decode_link(payload)
            if link.author == validator:
                self._newest_ms = max(self._newest_ms, link.time_ms)
        elif kind == Kind.PROPOSAL:
            block = decode_block(payload, self._network)
            # Own links may have become durable, and never left, before a crash.
            own = [link.time_ms for link in block.links if link.author == validator]
            self._newest_ms = max([self._newest_ms, *own])
            if block.links and block.time_ms > self._newest_ms:
                ahead = block.time_ms - self._newest_ms
                yield f"v{validator} proposes a block {ahead} ms later than any honest clock"


class EvidenceOnce(_Quiet):
    """A chain accuses a validator at most once per epoch."""

    name = "evidence-once"

    def __init__(self, network: bytes) -> None:
        self._network = network
        self._blocks: dict[bytes, tuple[bytes, frozenset[tuple[int, int]]]] = {}

    def sent(self, validator: int, kind: int, payload: bytes) -> Iterator[str]:
        if kind != Kind.PROPOSAL:
            return
        block = decode_block(payload, self._network)
        accused = frozenset((item.epoch, item.signer) for item in block.evidence)
        self._blocks[block.cid] = block.parent, accused
        below = self._blocks.get(block.parent) if accused else None
        while below is not None:
            parent, before = below
            for epoch, signer in sorted(accused & before):
                yield f"v{validator} accuses v{signer} a second time in epoch {epoch}"
            below = self._blocks.get(parent)


class HandoverProof(_Quiet):
    """Whoever says that an epoch is over proves it: by two certified blocks in consecutive rounds,
    one on the other."""

    name = "handover-proof"

    def __init__(self, network: bytes) -> None:
        self._network = network

    def sent(self, validator: int, kind: int, payload: bytes) -> Iterator[str]:
        proof = None
        if kind == Kind.PROPOSAL:
            proof = decode_block(payload, self._network).handover
        elif kind == Kind.HANDOVER:
            proof = payload
        if proof is not None and not self._proves(proof):
            yield f"v{validator} hands an epoch over without two consecutive certificates"

    def _proves(self, proof: bytes) -> bool:
        handover = decode_handover(proof)
        newest = decode_block(handover.block, self._network)
        certified = handover.qc.block == newest.cid and handover.qc.round == newest.round
        return certified and newest.qc.round + 1 == newest.round


class LockNamed(_Quiet):
    """A timeout names a certificate at least as high as that in any block that its author voted
    for in its round or an earlier one, whichever of the two was said first."""

    name = "lock-named"

    def __init__(self, network: bytes) -> None:
        self._network = network
        self._certified: dict[bytes, int] = {}
        self._votes: dict[tuple[int, int], dict[int, int]] = {}
        self._timeouts: dict[tuple[int, int], dict[int, int]] = {}

    def sent(self, validator: int, kind: int, payload: bytes) -> Iterator[str]:
        if kind == Kind.PROPOSAL:
            block = decode_block(payload, self._network)
            self._certified[block.cid] = block.qc.round
        elif kind == Kind.VOTE:
            vote = codec.decode(Vote, payload, bytes_max=MESSAGE_BYTES_MAX)
            lock, place = self._certified.get(vote.block), (validator, vote.epoch)
            if vote.voter == validator and lock is not None:
                self._votes.setdefault(place, {})[vote.round] = lock
                timeouts = self._timeouts.get(place, {})
                for round_, named in timeouts.items():
                    if vote.round <= round_ and lock > named:
                        yield self._sentence(validator, vote.round, lock, round_, named)
        elif kind == Kind.TIMEOUT:
            timeout = codec.decode(Timeout, payload, bytes_max=MESSAGE_BYTES_MAX)
            named, place = timeout.high_qc.round, (validator, timeout.epoch)
            if timeout.voter == validator:
                self._timeouts.setdefault(place, {})[timeout.round] = named
                for voted, lock in self._votes.get(place, {}).items():
                    if voted <= timeout.round and lock > named:
                        yield self._sentence(validator, voted, lock, timeout.round, named)

    @staticmethod
    def _sentence(validator: int, voted: int, lock: int, given_up: int, named: int) -> str:
        return (
            f"v{validator} voted in round {voted} on a certificate of round {lock} "
            f"and gave up round {given_up} naming that of round {named}"
        )


LIVENESS = "liveness-after-heal"


def all_checks(network: bytes) -> list[Check]:
    """A fresh one of each; liveness is judged by the world, which has the time."""
    return [
        NoLocalFault(),
        OneSignaturePerSlot(network),
        Agreement(),
        Validity(),
        Conservation(),
        EqualCheckpoints(),
        BlockTime(network),
        EvidenceOnce(network),
        HandoverProof(network),
        LockNamed(network),
    ]


NAMES = (*(check.name for check in all_checks(bytes(32))), LIVENESS)


def unfinished(
    facts: Facts, histories: Mapping[int, History], height: int, voters: frozenset[int]
) -> str:
    """Why `liveness-after-heal` does not hold yet; empty when it does.

    Every validator of `voters`, the honest ones that are up, must be beyond `height` and have
    executed all that any of them accepted.
    """
    wanted = [name for name, by in sorted(facts.accepted.items()) if not by.isdisjoint(voters)]
    for validator in sorted(voters):
        history = histories[validator]
        if len(history.blocks) <= height:
            return f"v{validator} is at height {len(history.blocks)}, not beyond {height}"
        executed = {name for batch in history.batches for name in batch}
        missing = [name for name in wanted if name not in executed]
        if missing:
            who = sorted(facts.accepted[missing[0]])
            return (
                f"v{validator} has not executed {len(missing)} of {len(wanted)} accepted "
                f"envelopes, {missing[0].hex()[:16]} accepted by {who} among them"
            )
    return ""


def _first_difference(one: tuple[object, ...], other: tuple[object, ...]) -> int:
    pairs = enumerate(zip(one, other, strict=False), 1)
    return next(height for height, (a, b) in pairs if a != b)


def _slot(network: bytes, kind: int, payload: bytes) -> tuple[int, str, int, int, bytes] | None:
    """(author, name of the kind, epoch, number of the slot, what was said); None for others."""
    match kind:
        case Kind.PROPOSAL:
            block = decode_block(payload, network)
            return block.author, "block", block.epoch, block.round, block.cid
        case Kind.VOTE:
            vote = codec.decode(Vote, payload, bytes_max=MESSAGE_BYTES_MAX)
            return vote.voter, "vote", vote.epoch, vote.round, vote.block
        case Kind.TIMEOUT:
            timeout = codec.decode(Timeout, payload, bytes_max=MESSAGE_BYTES_MAX)
            return timeout.voter, "timeout", timeout.epoch, timeout.round, timeout.body()
        case Kind.LINK:
            link = decode_link(payload)
            return link.author, "report link", link.epoch, link.sequence, payload
        case Kind.CHECKPOINT:
            root = codec.decode(CheckpointVote, payload, bytes_max=MESSAGE_BYTES_MAX)
            return root.voter, "state root", root.epoch, root.height, root.root
        case _:
            return None
