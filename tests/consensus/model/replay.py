"""A trace of docs/model done to real replicas, step by step.

Every honest validator of the model is a `Replica`; what it signs goes into pools, from which
later steps deliver it. What a Byzantine validator signs is made here with its key; its blocks
are proposals of a replica that is told only what the block shall stand on.
"""

from consensus import (
    ONCE_KINDS,
    SENDERS_FAULTS,
    Broadcast,
    ChainArrived,
    Commit,
    Committee,
    EnvelopesSeen,
    Genesis,
    Identity,
    Kind,
    Persist,
    Received,
    Replica,
    Send,
    Tick,
    Timing,
    Validator,
    decode_block,
)
from consensus._collectors import TimeoutCollector, VoteCollector
from consensus._safety import SAFETY_BYTES_MAX, SAFETY_KEY, SAFETY_KIND, SafetyState
from consensus.certificate import (
    QuorumCertificate,
    Timeout,
    TimeoutCertificate,
    Vote,
    genesis_certificate,
    sign_timeout,
    sign_vote,
)
from primitives import codec
from primitives.cid import cid_of
from primitives.ed25519 import SigningKey
from primitives.hashing import digest

NETWORK = b"\x0b" * 32
EPOCH = 1
GENESIS_CID = cid_of(b"model genesis")
START_MS = 1_000_000
NEVER_MS = 2**50
PAUSE_MS = 10_000
MESSAGE_BYTES_MAX = 65_536


class ByHand(Timing):
    """Nothing happens by the clock but proposals, after `PAUSE_MS`; patience ends by hand."""

    impatient = False

    def patience(self, rounds_given_up):  # noqa: ARG002
        return 0 if type(self).impatient else NEVER_MS


def by_hand():
    """A timing of its own for one replica."""
    kind = type("ByHandOnce", (ByHand,), {})
    return kind(
        block_interval_ms=PAUSE_MS,
        idle_interval_ms=PAUSE_MS,
        report_interval_ms=1,
        report_idle_ms=NEVER_MS,
        round_timeout_ms=NEVER_MS,
        resend_ms=NEVER_MS,
    )


class Member:
    """An honest validator: what survives a restart, and the replica."""

    def __init__(self, genesis, key, index):
        self._genesis, self._identity = genesis, Identity(key, index)
        self.index = index
        self.now_ms = START_MS
        self.journal = {}
        self.stored = []

    def start(self):
        """A new replica from what is durable; its first effects."""
        self.timing = by_hand()
        self.replica = Replica(self._genesis, self._identity, lambda _id: True, self.timing)
        for wire in self.stored:
            self.replica.replay(wire)
        return self.replica.resume(self.journal, self.now_ms)

    def handle(self, event):
        try:
            return self.replica.handle(event, self.now_ms)
        except SENDERS_FAULTS:
            return self.replica.handle(Tick(), self.now_ms)

    def propose(self):
        self.now_ms += 2 * PAUSE_MS
        return self.handle(Tick())

    def lose_patience(self):
        type(self.timing).impatient = True
        effects = self.handle(Tick())
        type(self.timing).impatient = False
        return effects

    def durable(self):
        """The journal's record of what was signed and seen."""
        raw = self.journal.get(SAFETY_KIND, {}).get(SAFETY_KEY)
        return None if raw is None else codec.decode(SafetyState, raw, bytes_max=SAFETY_BYTES_MAX)


class Cluster:
    """The honest validators of one trace, the Byzantine keys, and everything that was sent."""

    def __init__(self, powers, leaders, byzantine):
        self.keys = [SigningKey(bytes([index + 101]) * 32) for index in range(len(powers))]
        validators = [
            Validator(key.public, power) for key, power in zip(self.keys, powers, strict=True)
        ]
        self.committee = Committee(
            NETWORK, EPOCH, validators, schedule=lambda round_: leaders[round_ % len(leaders)]
        )
        self.genesis = Genesis(GENESIS_CID, START_MS, self.committee)
        self.byzantine = byzantine
        self.cids = {0: GENESIS_CID}  # by the model's number of the block
        self.wires = {}
        self.votes = {}  # (voter, block number) -> payload
        self.timeouts = {}  # (voter, round) -> payload
        self.certificates = {}  # (round, number of the highest certified block) -> payload
        self.quorums = {}  # block number -> payload of a certificate that a replica sent alone
        self.shapes = {}  # the model's blocks by number
        self.members = {
            index: Member(self.genesis, key, index)
            for index, key in enumerate(self.keys)
            if index not in byzantine
        }
        for member in self.members.values():
            self._carry_out(member, member.start())

    # Steps

    def do(self, step, new_blocks):
        """One step of the trace; `new_blocks` are the model's blocks that it makes."""
        self.shapes.update({int(number): shape for number, shape in new_blocks.items()})
        getattr(self, f"_do_{step['kind']}")(step)

    def _each(self, step, event):
        for index in sorted(step["who"]):
            member = self.members[index]
            self._carry_out(member, member.handle(event))

    def _do_propose(self, step):
        (index,) = step["who"]
        self._next_number = step["block"]
        self._carry_out(self.members[index], self.members[index].propose())
        assert step["block"] in self.cids, "the replica did not propose"

    def _do_byzantine(self, step):
        shape = self.shapes[step["block"]]
        block = decode_block(self._forged_block(step["block"], shape), NETWORK)
        tc_round = 0 if block.tc is None else block.tc.round
        assert (block.round, block.author, tc_round) == (
            shape["round"],
            shape["author"],
            shape["tc"]["round"],
        )
        self._know_block(step["block"], block.wire)

    def _do_proposal(self, step):
        wire = self.wires[step["block"]]
        self._each(step, Received(Kind.PROPOSAL, wire, self.shapes[step["block"]]["author"]))

    def _do_vote(self, step):
        vote = self._vote(step["voter"], step["block"])
        self._each(step, Received(Kind.VOTE, vote, step["voter"]))

    def _do_certificate(self, step):
        number = step["qc"]["block"]
        payload = self.quorums.get(number) or codec.encode(self._certificate(step["qc"]))
        self._each(step, Received(Kind.CERTIFICATE, payload, 0))

    def _do_timer(self, step):
        for index in sorted(step["who"]):
            self._carry_out(self.members[index], self.members[index].lose_patience())

    def _do_timeout(self, step):
        voter = step["voter"]
        if voter in self.byzantine:
            payload = codec.encode(self._byzantine_timeout(voter, step["round"], step["qc"]))
        else:
            payload = self.timeouts[voter, step["round"]]
        self._each(step, Received(Kind.TIMEOUT, payload, voter))

    def _do_timeout_certificate(self, step):
        payload = self._timeout_certificate(step["tc"])
        self._each(step, Received(Kind.TIMEOUT_CERTIFICATE, payload, 0))

    def _do_chain(self, step):
        (index,) = step["who"]
        member, peer = self.members[index], self.members[step["voter"]]
        tail, high_qc = peer.replica.tail(len(peer.stored))
        blocks = tuple(peer.stored[len(member.stored) :] + tail)
        self._carry_out(member, member.handle(ChainArrived(blocks, high_qc)))

    def _do_restart(self, step):
        for index in sorted(step["who"]):
            self._carry_out(self.members[index], self.members[index].start())

    # Effects

    def _carry_out(self, member, effects):
        for effect in effects:
            match effect:
                case Persist(entries):
                    for entry in entries:
                        kept = member.journal.setdefault(entry.kind, {})
                        if entry.kind in ONCE_KINDS:
                            assert kept.get(entry.key, entry.value) == entry.value, entry.kind
                        kept[entry.key] = entry.value
                case Broadcast(kind, payload) | Send(_, kind, payload):
                    self._know(kind, payload)
                case Commit(block, _):
                    member.stored.append(block.wire)

    def _know(self, kind, payload):
        """Put what an honest validator sent where later steps find it."""
        numbers = {cid: number for number, cid in self.cids.items()}
        if kind == Kind.PROPOSAL and cid_of(payload) not in numbers:
            self._know_block(self._next_number, payload)
        elif kind == Kind.VOTE:
            vote = codec.decode(Vote, payload, bytes_max=MESSAGE_BYTES_MAX)
            self.votes.setdefault((vote.voter, numbers[vote.block]), payload)
        elif kind == Kind.TIMEOUT:
            timeout = codec.decode(Timeout, payload, bytes_max=MESSAGE_BYTES_MAX)
            assert self.timeouts.setdefault((timeout.voter, timeout.round), payload) == payload
        elif kind == Kind.TIMEOUT_CERTIFICATE:
            tc = codec.decode(TimeoutCertificate, payload, bytes_max=MESSAGE_BYTES_MAX)
            self.certificates.setdefault((tc.round, numbers[tc.high_qc.block]), payload)
        elif kind == Kind.CERTIFICATE:
            qc = codec.decode(QuorumCertificate, payload, bytes_max=MESSAGE_BYTES_MAX)
            number = numbers[qc.block]
            voters = [item.voter for item in qc.signatures]
            unseen = [
                v for v in voters if v not in self.byzantine and (v, number) not in self.votes
            ]
            assert not unseen, "a certificate of votes that nobody sent"
            self.quorums.setdefault(number, payload)

    def _know_block(self, number, wire):
        assert number not in self.cids, "a second block where the model has one"
        self.cids[number], self.wires[number] = cid_of(wire), wire

    # What Byzantine validators and the network make of what was signed

    def _vote(self, voter, number):
        if voter not in self.byzantine:
            return self.votes[voter, number]
        round_, cid = self.shapes[number]["round"], self.cids[number]
        return codec.encode(sign_vote(self.keys[voter], NETWORK, EPOCH, round_, cid, voter))

    def _certificate(self, qc):
        number = qc["block"]
        if number == 0:
            return genesis_certificate(EPOCH, GENESIS_CID)
        collector, certificate = VoteCollector(self.committee), None
        signed = {voter for voter, block in self.votes if block == number}
        for voter in sorted(signed | set(self.byzantine)):
            payload = self._vote(voter, number)
            vote = codec.decode(Vote, payload, bytes_max=MESSAGE_BYTES_MAX)
            certificate = collector.add(vote) or certificate
        assert certificate is not None, "the model certifies what has no quorum"
        return certificate

    def _byzantine_timeout(self, voter, round_, qc):
        certificate = self._certificate(qc)
        return sign_timeout(self.keys[voter], NETWORK, round_, certificate, None, voter)

    def _timeout_certificate(self, tc):
        """The one that a replica sent, or one of what was signed: honest timeouts that report no
        more than `tc.high`, and Byzantine ones that report the genesis."""
        round_, high = tc["round"], tc["high"]
        if (round_, high["block"]) in self.certificates:
            return self.certificates[round_, high["block"]]
        collector, power = TimeoutCollector(self.committee), 0
        nothing = {"round": 0, "block": 0}
        for voter in self.byzantine:
            power = collector.add(self._byzantine_timeout(voter, round_, nothing))
        for (_, left), payload in sorted(self.timeouts.items()):
            timeout = codec.decode(Timeout, payload, bytes_max=MESSAGE_BYTES_MAX)
            if left == round_ and timeout.high_qc.round <= high["round"]:
                power = collector.add(timeout)
        assert self.committee.is_quorum(power), "the model leaves a round without a quorum"
        certificate = collector.certificate(round_)
        assert certificate.high_qc.block == self.cids[high["block"]]
        payload = codec.encode(certificate)
        self.certificates[round_, high["block"]] = payload
        return payload

    def _forged_block(self, number, shape):
        """What a replica with the leader's key proposes when it knows just this; an envelope in
        its report makes two blocks of a round differ."""
        author = shape["author"]
        twin = Replica(
            self.genesis, Identity(self.keys[author], author), lambda _id: True, by_hand()
        )
        twin.resume({}, START_MS)
        envelope = digest("outcry/test/1", NETWORK, number.to_bytes(8, "big"))
        twin.handle(EnvelopesSeen((envelope,)), START_MS)
        path = tuple(self.wires[below] for below in self._chain(shape["qc"]["block"]))
        twin.handle(ChainArrived(path, self._certificate(shape["qc"])), START_MS)
        if shape["tc"]["round"]:
            payload = self._timeout_certificate(shape["tc"])
            twin.handle(Received(Kind.TIMEOUT_CERTIFICATE, payload, 0), START_MS)
        for effect in twin.handle(Tick(), START_MS + 2 * PAUSE_MS):
            if isinstance(effect, Broadcast) and effect.kind == Kind.PROPOSAL:
                return effect.payload
        raise AssertionError("the Byzantine block could not be made")

    def _chain(self, number):
        return [] if number == 0 else [*self.shapes[number]["path"], number]

    # What is compared with the model

    def observed(self):
        """Per honest validator what the model has a value for."""
        return {str(index): self._observed(member) for index, member in self.members.items()}

    def _observed(self, member):
        seen, durable = member.replica.statistics(), member.durable()
        numbers = {cid: number for number, cid in self.cids.items()}
        timeout = None if durable is None else durable.last_timeout
        high_tc = None if durable is None else durable.high_tc
        return {
            "round": seen.round,
            "last_voted": seen.last_voted_round,
            "qc": seen.high_qc_round,
            "height": seen.height,
            "tip": numbers[cid_of(member.stored[-1])] if member.stored else 0,
            "disk": [
                0 if durable is None else durable.last_voted_round,
                0 if durable is None else durable.one_chain_round,
                0 if timeout is None else timeout.round,
                0 if durable is None else durable.high_qc.round,
                0 if high_tc is None else high_tc.round,
            ],
        }

    def signed(self):
        """The votes as (voter, block) and the timeouts as (voter, round) that left so far."""
        return {
            "votes": sorted(list(slot) for slot in self.votes),
            "timeouts": sorted(list(slot) for slot in self.timeouts),
        }
