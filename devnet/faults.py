"""What can go wrong with a cluster on one machine.

RemoteFault
  DevnetFault
    NoCluster         E901  no cluster was made in this directory
    ClusterRunning    E902  the cluster in this directory runs already
    ProcessDied       E903  a process of the cluster ended by itself
    NotReadyInTime    E904  a process of the cluster did not become ready in time
    DemoFailed        E905  the demo did not reach its goal
    CheckFailed       E906  a report does not agree with the nodes, the chain or a replay
    UnknownNode       E907  no node of the cluster has this name
    ReportUnreadable  E908  the file is not a report of the demo
"""

from primitives.faults import RemoteFault


class DevnetFault(RemoteFault):
    """Something about a cluster on this machine."""

    code = "E900"


class NoCluster(DevnetFault):
    """No cluster was made in this directory."""

    code = "E901"


class ClusterRunning(DevnetFault):
    """The cluster in this directory runs already."""

    code = "E902"


class ProcessDied(DevnetFault):
    """A process of the cluster ended by itself."""

    code = "E903"


class NotReadyInTime(DevnetFault):
    """A process of the cluster did not become ready in time."""

    code = "E904"


class DemoFailed(DevnetFault):
    """The demo did not reach its goal."""

    code = "E905"


class CheckFailed(DevnetFault):
    """A report does not agree with the nodes, the chain or an offline replay."""

    code = "E906"


class UnknownNode(DevnetFault):
    """No node of the cluster has this name."""

    code = "E907"


class ReportUnreadable(DevnetFault):
    """The file is not a report of the demo."""

    code = "E908"
