"""Mistakes in leaving rounds: what a timeout says, who hears of it, and what outlives a restart."""

from contextlib import AbstractContextManager

import msgspec

from consensus import (
    Broadcast,
    Kind,
    QuorumCertificate,
    Replica,
    Send,
    Timing,
    _agreement,
    _validity,
)
from consensus._collectors import TimeoutCollector
from consensus._safety import Safety, SafetyState
from consensus._state import ReplicaState
from consensus.certificate import TimeoutCertificate, TimeoutSignature, check_quorum, sign_timeout
from consensus.effects import Entry
from devnet.simulation import Disturbance, Submission, Weather, World
from primitives import codec
from tests.mutants.engines import Directed, Twins, scenario
from tests.mutants.journaling import not_journaled
from tests.mutants.registry import Mutant, patched


def _without(effects, *kinds):
    said = (Broadcast, Send)
    return [item for item in effects if not (isinstance(item, said) and item.kind in kinds)]


def keep_timeout_certificates() -> AbstractContextManager[None]:
    count = Replica._count_timeout

    def count_quietly(self, timeout, now_ms):
        return _without(count(self, timeout, now_ms), Kind.TIMEOUT_CERTIFICATE)

    def sign_bare(key, network, round_, high_qc, _high_tc, voter):
        return sign_timeout(key, network, round_, high_qc, None, voter)

    return patched(
        (Replica, "_count_timeout", count_quietly), (_agreement, "sign_timeout", sign_bare)
    )


def say_everything_once() -> AbstractContextManager[None]:
    """Neither a timeout nor a vote is repeated: not with time, a link or a restart."""
    leave, resume, link_up = Replica._leave_round, Replica.resume, Replica._on_link_up

    def leave_once(self, now_ms):
        repeats = self._timeout_sent_ms is not None
        effects = leave(self, now_ms)
        return [] if repeats else effects

    def resume_quietly(self, journal, now_ms, **options):
        return _without(resume(self, journal, now_ms, **options), Kind.TIMEOUT)

    def link_up_quietly(self, validator):
        return _without(link_up(self, validator), Kind.TIMEOUT)

    return patched(
        (Replica, "_leave_round", leave_once),
        (Replica, "resume", resume_quietly),
        (Replica, "_on_link_up", link_up_quietly),
        (Replica, "_vote_again", lambda _self, _block: []),
    )


def name_the_first_certificate() -> AbstractContextManager[None]:
    give_up = Replica._give_up
    first: list[QuorumCertificate] = []

    def give_up_as_new(self, now_ms):
        first[:] = [self._state.start]
        return give_up(self, now_ms)

    def sign_first(key, network, round_, _high_qc, high_tc, voter):
        return sign_timeout(key, network, round_, first[0], high_tc, voter)

    return patched((Replica, "_give_up", give_up_as_new), (_agreement, "sign_timeout", sign_first))


def write_no_timeout_certificate() -> AbstractContextManager[None]:
    entry = Safety.entry

    def entry_without(self) -> Entry:
        full = entry(self)
        state = codec.decode(SafetyState, full.value, bytes_max=len(full.value))
        return Entry(
            full.kind, full.key, codec.encode(msgspec.structs.replace(state, high_tc=None))
        )

    return patched((Safety, "entry", entry_without))


def recover_by_the_quorum_certificate() -> AbstractContextManager[None]:
    restore = ReplicaState._restore_safety

    def restore_round(self, state):
        restore(self, msgspec.structs.replace(state, high_tc=None))

    return patched((ReplicaState, "_restore_safety", restore_round))


def hear_no_certificate_in_timeouts() -> AbstractContextManager[None]:
    """Two phases without the rest of Jolteon: leaders build on what they happen to know."""
    adopt, on_timeout = Replica._adopt, Replica._on_timeout
    deaf: set[int] = set()

    def certificate(self, round_):
        timeouts = sorted(self._rounds[round_].values(), key=lambda timeout: timeout.voter)
        low = min((timeout.high_qc for timeout in timeouts), key=lambda qc: qc.round)
        signed = [TimeoutSignature(t.voter, t.high_qc.round, t.signature) for t in timeouts]
        return TimeoutCertificate(timeouts[0].epoch, round_, signed, low)

    def check(found, committee, genesis, known):
        check_quorum(found.high_qc, committee, genesis, known)

    def on_timeout_deaf(self, payload, sender, now_ms):
        deaf.add(id(self))
        try:
            return on_timeout(self, payload, sender, now_ms)
        finally:
            deaf.discard(id(self))

    def adopt_unless_deaf(self, qc, now_ms):
        return [] if id(self) in deaf else adopt(self, qc, now_ms)

    return patched(
        (TimeoutCollector, "certificate", certificate),
        (_agreement, "check_timeout_certificate", check),
        (_validity, "check_timeout_certificate", check),
        (Replica, "_on_timeout", on_timeout_deaf),
        (Replica, "_adopt", adopt_unless_deaf),
    )


# An idle leader waits longer than the others wait for it, so rounds end without a block of it:
# then no journal holds a certificate of their end but that of the safety state.
IDLE = Timing(idle_interval_ms=4_000, report_idle_ms=80, round_timeout_ms=200, resend_ms=300)
BLACKOUT = Directed(
    scenario(
        Disturbance("blackout", 1_300, 1_400, (0, 1, 2, 3), 0, "now"),
        timing=IDLE,
        load=tuple(Submission(at, at, (at % 4,)) for at in range(2_101, 5_000, 101)),
    )
)


def crash_on_timeouts(world: World) -> None:
    """The process of validator 1 ends soon after it gave up a round, and starts again."""
    say = world._say
    crashed: set[bytes] = set()

    def say_before_crash(process, to, kind, payload):
        say(process, to, kind, payload)
        if kind == Kind.TIMEOUT and process.index == 1 and payload not in crashed:
            crashed.add(payload)
            world.later(2, lambda: world.crash(1))
            world.later(20, lambda: world.start(1))

    world._say = say_before_crash


MUTANTS = [
    Mutant(
        "tc-not-rebroadcast",
        "Who completes a timeout certificate keeps it, and no timeout carries one.",
        "asonnino/hotstuff PR #16",
        keep_timeout_certificates,
        Directed(scenario(dead=(3,), weather=Weather(drop_ppm=150_000))),
        "liveness-after-heal",
    ),
    Mutant(
        "timeout-said-once",
        "Timeouts and votes are sent once and never repeated, also not after a restart.",
        "malachite #850",
        say_everything_once,
        Directed(
            scenario(Disturbance("partition", 300, 1_500, (0, 1)), weather=Weather(drop_ppm=50_000))
        ),
        "liveness-after-heal",
        "a lost vote alone costs a round only: the timeout is what must be repeated",
    ),
    Mutant(
        "timeout-not-durable",
        "A timeout leaves before the journal knows of it.",
        "PROTOCOL 1",
        lambda: not_journaled("timeout"),
        Directed(
            scenario(
                heal_ms=4_000,
                weather=Weather(drop_ppm=50_000, slow_ppm=250_000, slow_ms=900),
            ),
            steps=((1, crash_on_timeouts),),
        ),
        "one-signature-per-slot",
    ),
    Mutant(
        "timeout-names-old-certificate",
        "A timeout names the certificate that the epoch began with.",
        "own",
        name_the_first_certificate,
        Directed(scenario(weather=Weather(drop_ppm=150_000))),
        "lock-named",
    ),
    Mutant(
        "high-tc-lost-in-full-restart",
        "The journal keeps the highest quorum certificate but no timeout certificate.",
        "PROTOCOL 1",
        write_no_timeout_certificate,
        BLACKOUT,
        "liveness-after-heal",
    ),
    Mutant(
        "recovery-by-qc-only",
        "After a restart the round is the one after the highest quorum certificate.",
        "babylon-node #243",
        recover_by_the_quorum_certificate,
        BLACKOUT,
        "liveness-after-heal",
    ),
    Mutant(
        "two-phases-without-highest-qc",
        "Timeouts do not bring the highest certificate to who leads next.",
        "arXiv 2310.09006",
        hear_no_certificate_in_timeouts,
        Twins(4),
        "liveness",
    ),
]
