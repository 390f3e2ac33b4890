"""The compiled contracts that this package carries.

    vault = artifacts.load("Vault")
    contract = web3.eth.contract(abi=vault.abi, bytecode=vault.bytecode)

`settlement/compile.py` writes them; a test compiles the sources again and compares the bytes.
"""

from functools import cache
from importlib import resources
from typing import Any

import msgspec

from settlement.faults import ArtifactUnreadable

CONTRACTS = ("TestToken", "Vault")
DIRECTORY = "artifacts"


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One compiled contract; `bytecode` is the deployment code as 0x-prefixed hex."""

    contract: str
    compiler: str
    evm_version: str
    abi: list[dict[str, Any]]
    bytecode: str


def encode(artifact: Artifact) -> bytes:
    """The bytes of an artifact's file: indented JSON with a final newline."""
    return msgspec.json.format(msgspec.json.encode(artifact), indent=1) + b"\n"


@cache
def load(name: str) -> Artifact:
    """The artifact of the contract called `name`.

    Errors: `ArtifactUnreadable` when the package does not hold it, or it is damaged.
    """
    file = resources.files("settlement") / DIRECTORY / f"{name}.json"
    try:
        artifact = msgspec.json.decode(file.read_bytes(), type=Artifact)
    except FileNotFoundError:
        raise ArtifactUnreadable(name, "not in this package") from None
    except msgspec.DecodeError as error:
        raise ArtifactUnreadable(name, str(error)) from None
    if artifact.contract != name:
        raise ArtifactUnreadable(name, f"it is of {artifact.contract}")
    return artifact
