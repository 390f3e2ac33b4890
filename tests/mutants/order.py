"""Mistakes in what follows from committed blocks: order, time, evidence, checkpoints."""

from contextlib import AbstractContextManager
from dataclasses import replace

from consensus import Broadcast, Kind, Replica, _duties, _validity
from consensus._state import ReplicaState
from consensus._validity import Validity
from consensus.checkpoint import CHECKPOINT_BYTES_MAX, CheckpointVote, sign_checkpoint
from devnet.simulation import Liar, Weather, full_node
from node import execution
from primitives import codec
from tests.mutants.engines import Directed, scenario
from tests.mutants.registry import Mutant, patched


def order_by_arrival() -> AbstractContextManager[None]:
    commit = ReplicaState.commit

    def commit_as_seen(self, node):
        seen = {} if self.reporter is None else list(self.reporter._reported)
        places = {name: place for place, name in enumerate(seen)}
        return [
            replace(item, batch=tuple(sorted(item.batch, key=lambda n: places.get(n, 0))))
            for item in commit(self, node)
        ]

    return patched((ReplicaState, "commit", commit_as_seen))


def take_the_newest_time() -> AbstractContextManager[None]:
    def block_time(frontier, parent_time_ms, _committee):
        return max(parent_time_ms, *(tip.time_ms for tip in frontier))

    return patched((_duties, "block_time", block_time), (_validity, "block_time", block_time))


def accuse_in_every_block() -> AbstractContextManager[None]:
    check_on, evidence_for = Validity.check_on, Replica._evidence_for

    def unaccused(parent):
        return replace(parent, accused=frozenset())

    return patched(
        (
            Validity,
            "check_on",
            lambda self, block, parent: check_on(self, block, unaccused(parent)),
        ),
        (Replica, "_evidence_for", lambda self, parent: evidence_for(self, unaccused(parent))),
    )


def sign_what_the_first_one_computed() -> AbstractContextManager[None]:
    on_checkpoint = Replica._on_checkpoint

    def repeat(self, payload, sender, now_ms):
        effects = on_checkpoint(self, payload, sender, now_ms)
        vote = codec.decode(CheckpointVote, payload, bytes_max=CHECKPOINT_BYTES_MAX)
        state, identity = self._state, self._state.identity
        if identity is None or vote.height in state.checkpoints._own:
            return effects
        network = state.committee.network
        own = sign_checkpoint(
            identity.key, network, vote.epoch, vote.height, vote.root, identity.index
        )
        return [*effects, Broadcast(Kind.CHECKPOINT, codec.encode(own))]

    return patched((Replica, "_on_checkpoint", repeat))


def do_without_envelopes() -> AbstractContextManager[None]:
    """Neither the vote nor the execution waits for the envelopes of a batch."""
    gather = execution.gather

    def gather_some(mempool, ids, fetched, domain):
        return gather(mempool, [name for name in ids if name in mempool], fetched, domain)

    return patched(
        (ReplicaState, "missing", lambda _self, _ahead: []),
        (full_node, "missing", lambda _mempool, _ids: set()),
        (full_node, "gather", gather_some),
    )


BURSTS = Weather(delay_ms=(1, 60), drop_ppm=20_000)

MUTANTS = [
    Mutant(
        "order-by-arrival",
        "A batch is executed in the order in which its envelopes came to this node.",
        "own",
        order_by_arrival,
        Directed(scenario(pause_ms=7, weather=BURSTS)),
        "agreement",
    ),
    Mutant(
        "block-time-of-the-newest-clock",
        "The time of a block is the newest that any validator reported, not the median.",
        "own",
        take_the_newest_time,
        Directed(scenario(liars=(Liar(1, ("false-times",)),))),
        "block-time",
        "only the leader's own clock for its block: validity of the others refuses that",
    ),
    Mutant(
        "evidence-in-every-block",
        "Blocks accuse a validator again and again for the same contradiction.",
        "own",
        accuse_in_every_block,
        Directed(scenario(liars=(Liar(2, ("equivocate",)),))),
        "evidence-once",
        "planted in the leader and in validity, which repeats the rule",
    ),
    Mutant(
        "checkpoint-signed-without-execution",
        "A validator that is behind signs the state root that the first other one signed.",
        "own",
        sign_what_the_first_one_computed,
        Directed(scenario(liars=(Liar(3, ("false-roots",)),))),
        "one-signature-per-slot",
    ),
    Mutant(
        "envelopes-not-waited-for",
        "A validator votes without the envelopes of the batch, and executes those that it has.",
        "own",
        do_without_envelopes,
        Directed(scenario(nodes="full", pause_ms=20, weather=BURSTS)),
        "conservation",
        "a vote without the envelopes alone shows nothing: more than a third of the power, honest "
        "and with journaled envelopes, reported each one of a batch, and execution waits for them",
    ),
]
