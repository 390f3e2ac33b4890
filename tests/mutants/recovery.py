"""Mistakes in starting again and in catching up."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from consensus import Replica
from consensus._state import ReplicaState
from devnet.simulation import Disturbance, Liar, Weather, World
from devnet.simulation.full_files import JOURNAL_PATH
from devnet.simulation.full_node import FullNode
from exchange import Observation
from node.execution import OBSERVATION_BYTES_MAX, Execution
from node.sync import Sync
from primitives import codec
from tests.mutants.engines import Directed, Seeded, scenario
from tests.mutants.journaling import not_journaled
from tests.mutants.registry import Mutant, patched
from tests.mutants.syncing import Fetching


def ask_only_the_one_that_was_named() -> AbstractContextManager[None]:
    targets = Sync._targets

    def first_only(self, first):
        return first or targets(self, first)

    return patched((Sync, "_targets", first_only))


def change_what_is_walked_through() -> AbstractContextManager[None]:
    """Blocks whose parents came are taken out of the very mapping that the loop walks."""
    retry = Replica._retry_orphans

    def retry_in_place(self, now_ms):
        for block in self._orphans.values():
            if self._state.tree.get(block.parent) is not None:
                del self._orphans[block.cid]
                self._insert(block, self._state.tree.get(block.parent))
        return retry(self, now_ms)

    return patched((Replica, "_retry_orphans", retry_in_place))


def trust_every_observation() -> AbstractContextManager[None]:
    def decode(_self, data):
        return codec.decode(Observation, data, bytes_max=OBSERVATION_BYTES_MAX) if data else None

    return patched((Execution, "_observation", decode))


def commit_newest_first() -> AbstractContextManager[None]:
    commit = ReplicaState.commit

    def backwards(self, node):
        return commit(self, node)[::-1]

    return patched((ReplicaState, "commit", backwards))


def watch_nothing() -> AbstractContextManager[None]:
    resume = Replica.resume

    def resume_at_once(self, journal: Mapping, now_ms, *, watch=False):
        del watch
        return resume(self, journal, now_ms)

    return patched((Replica, "resume", resume_at_once))


def lose_the_journal(world: World) -> None:
    """Validator 1 loses its vote journal while it is down, and starts."""
    node = world.processes[1].node
    assert isinstance(node, FullNode)
    world.crash(1)
    for files in (node.disk._files, node.disk._durable_files):
        for name in [name for name in files if name.startswith(str(JOURNAL_PATH))]:
            del files[name]
    world.start(1)


CRASHES = tuple(
    Disturbance("crash", at, at + 60, (at // 100 % 4,), at // 50 % 5, "effects")
    for at in range(200, 1_900, 100)
)
EQUIVOCATOR = (Liar(2, ("equivocate",)),)

MUTANTS = [
    Mutant(
        "last-vote-not-persisted",
        "The vote leaves before the journal knows of it.",
        "narwhal #488",
        lambda: not_journaled("vote"),
        Directed(scenario(*CRASHES, liars=EQUIVOCATOR)),
        "one-signature-per-slot",
    ),
    Mutant(
        "proposal-not-journaled",
        "A leader keeps its proposal in memory only.",
        "PROTOCOL 1",
        lambda: not_journaled("proposal"),
        Directed(scenario(*CRASHES)),
        "one-signature-per-slot",
    ),
    Mutant(
        "report-link-not-journaled",
        "A link of the own report is kept in memory only.",
        "own",
        lambda: not_journaled("report"),
        Directed(scenario(*CRASHES)),
        "one-signature-per-slot",
    ),
    Mutant(
        "ancestors-newest-first",
        "What a certificate commits is executed from the newest block down.",
        "mysticeti, asonnino/hotstuff",
        commit_newest_first,
        Seeded(),
        "agreement",
    ),
    Mutant(
        "state-sync-without-fallback",
        "Blocks are asked of the validator that spoke of them, and of nobody else.",
        "cometbft #3878, cosmos-sdk #19242",
        ask_only_the_one_that_was_named,
        Fetching(),
        "catches-up",
        "in node.sync, whose requests the simulator models but does not run",
    ),
    Mutant(
        "panic-after-sync",
        "Blocks that waited for the fetched ones are taken out of the mapping being walked.",
        "dydx v4-chain #791",
        change_what_is_walked_through,
        Seeded(),
        "no-local-fault",
    ),
    Mutant(
        "observation-takes-node-down",
        "What a validator reports of the EVM chain is decoded as if it were always well-formed.",
        "dydx v4-chain #2593",
        trust_every_observation,
        Directed(scenario(nodes="full", liars=(Liar(2, ("false-observations",)),))),
        "no-local-fault",
    ),
    Mutant(
        "watch-ends-at-once",
        "Who lost its vote journal signs from its first moment on.",
        "own",
        watch_nothing,
        Directed(
            scenario(
                nodes="full",
                epoch_ms=700,
                heal_ms=3_000,
                weather=Weather(delay_ms=(1, 40)),
            ),
            steps=((1_000, lose_the_journal),),
        ),
        "one-signature-per-slot",
    ),
]
