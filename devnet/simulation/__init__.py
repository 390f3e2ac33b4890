"""Whole networks in one process, on virtual time, from one seed.

    outcome = World(generate(7, nodes="full")).run()
    assert outcome.violation is None

A scenario says what goes wrong: with links, disks, clocks, processes, and validators that lie.
The world lets it happen to real replicas and, with `nodes="full"`, to the real exchange and
storage; named checks look on. The same seed gives the same trace, on every machine.
"""

from devnet.simulation.agreement_node import AgreementFleet as AgreementFleet
from devnet.simulation.agreement_node import AgreementNode as AgreementNode
from devnet.simulation.byzantine import HABITS as HABITS
from devnet.simulation.byzantine import Liar as Liar
from devnet.simulation.checks import LIVENESS as LIVENESS
from devnet.simulation.checks import NAMES as NAMES
from devnet.simulation.checks import Violation as Violation
from devnet.simulation.clocks import Drift as Drift
from devnet.simulation.failure import Failure as Failure
from devnet.simulation.failure import read_failure as read_failure
from devnet.simulation.failure import replay as replay
from devnet.simulation.failure import run_kept as run_kept
from devnet.simulation.failure import write_failure as write_failure
from devnet.simulation.fleets import KINDS as KINDS
from devnet.simulation.network import Weather as Weather
from devnet.simulation.node import DiskFault as DiskFault
from devnet.simulation.node import FaultyDisk as FaultyDisk
from devnet.simulation.node import Fleet as Fleet
from devnet.simulation.node import History as History
from devnet.simulation.node import Outgoing as Outgoing
from devnet.simulation.node import ProcessEnded as ProcessEnded
from devnet.simulation.node import SimulatedNode as SimulatedNode
from devnet.simulation.outcome import Outcome as Outcome
from devnet.simulation.runner import Report as Report
from devnet.simulation.runner import run_range as run_range
from devnet.simulation.runner import run_seed as run_seed
from devnet.simulation.scenario import Disturbance as Disturbance
from devnet.simulation.scenario import Scenario as Scenario
from devnet.simulation.scenario import Submission as Submission
from devnet.simulation.scenario import generate as generate
from devnet.simulation.scenario import in_words as in_words
from devnet.simulation.world import World as World
