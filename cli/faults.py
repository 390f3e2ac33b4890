"""What the command line itself refuses.

LocalFault
  NodeExists   E467  a node's keys or configuration would be overwritten
"""

from primitives.faults import LocalFault


class NodeExists(LocalFault):
    """A node's keys or configuration would be overwritten."""

    code = "E467"

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} exists; choose another --directory, or move it away first")
