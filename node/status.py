"""What a node says of itself, and of an envelope, to whoever asks."""

from importlib.metadata import PackageNotFoundError, version

import msgspec


class PeerView(msgspec.Struct, frozen=True):
    peer_id: str
    validator: int | None
    connected: bool
    address: str


class CheckpointView(msgspec.Struct, frozen=True):
    """The newest state root that two thirds of the power signed."""

    height: int
    root: str


class EvmView(msgspec.Struct, frozen=True):
    """What this node knows of the EVM chain."""

    reachable: bool
    number: int
    deposits_seen: int
    deposits_credited: int


class Status(msgspec.Struct, frozen=True):
    """A node at one instant.

    agreement_faults_max   validators that may fail before agreement is at risk: n > 3f
    fairness_faults_max    validators that may fail before fair order is at risk: n > 4f
    ready                  takes orders: it follows the chain and is not catching up
    signing                votes and reports; false for a gateway, and for a validator whose journal
                           was imported or lost, or is ahead of its blocks, until an epoch begins
    passed_over            validators, by name, that do not lead at present: their rounds failed
    accused                validators, by name, that provably signed twice, this epoch or the last
    """

    name: str
    role: str
    version: str
    network: str
    pid: int
    rss_mb: float
    ready: bool
    signing: bool
    height: int
    epoch: int
    round: int
    time_ms: int
    root: str
    checkpoint: CheckpointView | None
    validators: int
    agreement_faults_max: int
    fairness_faults_max: int
    passed_over: list[str]
    accused: list[str]
    peers_connected: int
    peers: list[PeerView]
    evm: EvmView
    rollup: int
    mempool: int


class EnvelopeStatus(msgspec.Struct, frozen=True):
    """How far an envelope has come: accepted, sequenced, executed, committed, final; or rejected.

    `code` is the fault's when it was refused as a whole; `rejections` are its refused actions.
    """

    id: str
    state: str
    height: int | None
    position: int | None
    code: str
    rejections: list[tuple[int, str]]


class ClaimView(msgspec.Struct, frozen=True):
    """A withdrawal and what its owner needs to claim it on chain."""

    rollup: int
    index: int
    account: str
    token: int
    units: int
    proof: list[str]
    claimable: bool
    claimed: bool


def software_version() -> str:
    """The version of what is installed; "0" in a tree that is not."""
    try:
        return version("outcry")
    except PackageNotFoundError:
        return "0"
