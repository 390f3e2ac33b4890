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
    SeedFailed        E910  a simulation broke a check
    FailureUnreadable E911  the file is not a failure of a simulation
    DaskMissing       E912  Dask is not installed
    DaskUnreachable   E913  no Dask scheduler answers at this address
    ReplayDiffers     E914  a failure does not happen again as recorded
    TwinsFailed       E915  a Twins scenario broke a check
    TwinsFileUnreadable E916  the file is not a failure that a Twins sweep wrote
    NoSuchScenario    E917  no Twins scenario has this number
    DaskWorkerUnfit   E918  a Dask worker has not this version of Outcry
    DaskStalled       E919  no Dask worker does the work
    ChaosFailed       E920  validators did not come through chaos whole
    NamespacesForbidden E921  network namespaces are not permitted on this machine
    PacketDeviceMissing E922  the kernel's TUN device cannot be opened
    WiresEnded        E923  the process that carries the links ended
    TooFewValidators  E924  too few validators for one of them to fail
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


class SeedFailed(DevnetFault):
    """A simulation broke a check."""

    code = "E910"

    def __init__(self, sentence: str, command: str) -> None:
        super().__init__(f"{sentence}; {command}")


class FailureUnreadable(DevnetFault):
    """The file is not a failure of a simulation."""

    code = "E911"


class DaskMissing(DevnetFault):
    """Dask is not installed."""

    code = "E912"

    def __init__(self) -> None:
        super().__init__(
            "spreading seeds over a cluster needs Dask; install it with: pip install 'outcry[dask]'"
        )


class DaskUnreachable(DevnetFault):
    """No Dask scheduler answers at this address."""

    code = "E913"

    def __init__(self, address: str) -> None:
        super().__init__(
            f"no Dask scheduler answers at {address}; start one with: dask scheduler, "
            "and give its tcp:// address"
        )


class ReplayDiffers(DevnetFault):
    """A failure does not happen again as recorded."""

    code = "E914"


class TwinsFailed(DevnetFault):
    """A Twins scenario broke a check."""

    code = "E915"


class TwinsFileUnreadable(DevnetFault):
    """The file is not a failure that a Twins sweep wrote."""

    code = "E916"


class NoSuchScenario(DevnetFault):
    """No Twins scenario has this number."""

    code = "E917"


class DaskWorkerUnfit(DevnetFault):
    """A Dask worker has not this version of Outcry."""

    code = "E918"

    def __init__(self, address: str, why: str) -> None:
        super().__init__(
            f"a worker of {address} cannot run simulations ({why}); install this version of "
            "Outcry into the environment that starts the workers, then restart them"
        )


class DaskStalled(DevnetFault):
    """No Dask worker does the work."""

    code = "E919"

    def __init__(self, address: str, what: str) -> None:
        super().__init__(
            f"no worker of {address} {what}; look at its workers, or start some with: "
            f"dask worker {address}"
        )


class ChaosFailed(DevnetFault):
    """Validators did not come through chaos whole."""

    code = "E920"


class NamespacesForbidden(DevnetFault):
    """Network namespaces are not permitted on this machine."""

    code = "E921"


class PacketDeviceMissing(DevnetFault):
    """The kernel's TUN device cannot be opened."""

    code = "E922"


class WiresEnded(DevnetFault):
    """The process that carries the links between nodes ended."""

    code = "E923"


class TooFewValidators(DevnetFault):
    """Too few validators for one of them to fail."""

    code = "E924"
