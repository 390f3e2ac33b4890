"""Mistakes between one epoch and the next."""

from contextlib import AbstractContextManager

from consensus import Persist, Replica, _replica, _validity
from consensus._reporter import Reporter
from consensus._state import HANDOVER_KIND
from consensus._tree import BlockTree
from consensus.certificate import check_quorum
from consensus.report import FIRST_PREVIOUS
from devnet.simulation import Disturbance, Weather
from tests.mutants.engines import Directed, scenario
from tests.mutants.registry import Mutant, patched


def end_without_consecutive_rounds() -> AbstractContextManager[None]:
    committable = BlockTree.committable

    def any_two(self, qc):
        child = self.get(qc.block)
        parent = None if child is None else self.get(child.parent)
        return parent if parent is not None and parent.ended else committable(self, qc)

    def check(handover, _end, committee, known):
        check_quorum(handover.qc, committee, b"", known)

    return patched(
        (BlockTree, "committable", any_two),
        (_replica, "check_handover", check),
        (_validity, "check_handover", check),
    )


def keep_the_proof_in_memory() -> AbstractContextManager[None]:
    begin = Replica._begin_epoch

    def begin_unwritten(self, handover, end, now_ms):
        begin(self, handover, end, now_ms)
        for place, effect in enumerate(self._pending):
            if isinstance(effect, Persist):
                kept = tuple(e for e in effect.entries if e.kind != HANDOVER_KIND)
                self._pending[place] = Persist(kept)

    return patched((Replica, "_begin_epoch", begin_unwritten))


def report_nothing_again() -> AbstractContextManager[None]:
    def start_epoch(self, epoch, _at_hand):
        self._reported.clear()
        self._epoch = epoch
        self.sequence, self._previous = 0, FIRST_PREVIOUS

    return patched((Reporter, "start_epoch", start_epoch))


BLACKOUTS = tuple(
    Disturbance("blackout", at, at + 60, (0, 1, 2, 3), 0, "behind") for at in range(610, 2_800, 310)
)

MUTANTS = [
    Mutant(
        "handover-without-consecutive-certificates",
        "An epoch is over when any two blocks after its end are certified.",
        "PROTOCOL 1: epoch ended by the new set",
        end_without_consecutive_rounds,
        Directed(scenario(epoch_ms=300, dead=(3,), weather=Weather(drop_ppm=100_000))),
        "handover-proof",
        "the set does not change yet: what is missing are certificates, not other signers",
    ),
    Mutant(
        "handover-not-persisted",
        "The proof that an epoch is over is kept in memory only.",
        "own",
        keep_the_proof_in_memory,
        Directed(scenario(*BLACKOUTS, epoch_ms=300, heal_ms=3_000)),
        "liveness-after-heal",
    ),
    Mutant(
        "not-reported-again",
        "What was reported, and has no place when the epoch ends, is not reported in the next.",
        "own",
        report_nothing_again,
        Directed(scenario(epoch_ms=1_410, weather=Weather(delay_ms=(20, 120)))),
        "liveness-after-heal",
    ),
]
