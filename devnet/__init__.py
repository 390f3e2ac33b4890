"""Whole networks on one machine: real processes, a real chain, nothing shared with the outside.

with Cluster(Path("devnet-state")) as cluster:
    state = cluster.up(Plan(validators=5))
    cluster.kill("v2")
    cluster.start_node("v2")
"""

from devnet.cluster import Cluster as Cluster
from devnet.creation import Plan as Plan
from devnet.layout import ClusterState as ClusterState
from devnet.layout import Layout as Layout
