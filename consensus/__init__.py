"""Agreement on one sequence of envelopes among weighted validators, without I/O.

    replica = Replica(Genesis(cid, time_ms, committee), Identity(key, index), at_hand)
    for wire in stored_blocks:
        replica.replay(wire)
    effects = replica.resume(journal_entries, now_ms)
    effects = replica.handle(Received(Kind.VOTE, payload, sender), now_ms)

The caller carries out the effects in order: what is in `Persist` is durable before anything
after it leaves. Everything that can go wrong with what others send is one of `SENDERS_FAULTS`;
see `consensus.faults` for the tree. Transactions are opaque: 32-byte envelope ids.
"""

from consensus._duties import LinksWanted as LinksWanted
from consensus._replica import SENDERS_FAULTS as SENDERS_FAULTS
from consensus._replica import Replica as Replica
from consensus._replica import ReplicaStatistics as ReplicaStatistics
from consensus._state import Genesis as Genesis
from consensus._state import Identity as Identity
from consensus.block import BLOCK_BYTES_MAX as BLOCK_BYTES_MAX
from consensus.block import Block as Block
from consensus.block import decode_block as decode_block
from consensus.certificate import QuorumCertificate as QuorumCertificate
from consensus.checkpoint import CheckpointCertificate as CheckpointCertificate
from consensus.checkpoint import check_checkpoint_certificate as check_checkpoint_certificate
from consensus.committee import Committee as Committee
from consensus.committee import Signer as Signer
from consensus.committee import Validator as Validator
from consensus.effects import EPOCH_KIND as EPOCH_KIND
from consensus.effects import ONCE_KINDS as ONCE_KINDS
from consensus.effects import RESUME_KINDS as RESUME_KINDS
from consensus.effects import Broadcast as Broadcast
from consensus.effects import ChainArrived as ChainArrived
from consensus.effects import CheckpointReached as CheckpointReached
from consensus.effects import Commit as Commit
from consensus.effects import DoubleSeen as DoubleSeen
from consensus.effects import Effect as Effect
from consensus.effects import Entry as Entry
from consensus.effects import EnvelopesSeen as EnvelopesSeen
from consensus.effects import Event as Event
from consensus.effects import Executed as Executed
from consensus.effects import FetchChain as FetchChain
from consensus.effects import FetchEnvelopes as FetchEnvelopes
from consensus.effects import Kind as Kind
from consensus.effects import LinkUp as LinkUp
from consensus.effects import Observed as Observed
from consensus.effects import Persist as Persist
from consensus.effects import Received as Received
from consensus.effects import Send as Send
from consensus.effects import Tick as Tick
from consensus.effects import WatchEnded as WatchEnded
from consensus.epoch_start import EpochStart as EpochStart
from consensus.epoch_start import decode_epoch_start as decode_epoch_start
from consensus.evidence import Evidence as Evidence
from consensus.evidence import Slot as Slot
from consensus.sequencer import SEQUENCED_HEIGHTS_MAX as SEQUENCED_HEIGHTS_MAX
from consensus.timing import Timing as Timing
