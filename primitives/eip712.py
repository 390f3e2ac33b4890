"""EIP-712 typed data for the few flat messages that an account's owner signs.

    AUTHORIZE = TypedMessage("Authorize", (("address", "account"), ("bytes32", "key")))
    digest = AUTHORIZE.digest(domain, account, key)

Only static types are known here (address, bytes32, uint8, uint64, uint256): each is one word,
which makes the encoding a concatenation. A wallet shows the same fields from `as_json`.
"""

from collections.abc import Mapping
from typing import Any

from primitives.anchors import keccak, word

_STATIC = frozenset({"address", "bytes32", "uint8", "uint64", "uint256"})
_DOMAIN_TYPE = (
    ("string", "name"),
    ("string", "version"),
    ("uint256", "chainId"),
    ("bytes32", "salt"),
)


class Domain:
    """The EIP-712 domain of one Outcry network.

    `chain_id` names the EVM chain that holds the money, `network` (32 bytes) is the salt.
    """

    __slots__ = ("chain_id", "network", "separator")

    def __init__(self, chain_id: int, network: bytes) -> None:
        self.chain_id = chain_id
        self.network = network
        type_text = (
            "EIP712Domain(" + ",".join(f"{kind} {name}" for kind, name in _DOMAIN_TYPE) + ")"
        )
        self.separator = keccak(
            keccak(type_text.encode())
            + keccak(b"Outcry")
            + keccak(b"1")
            + word(chain_id)
            + word(network)
        )

    def as_json(self) -> Mapping[str, Any]:
        return {
            "name": "Outcry",
            "version": "1",
            "chainId": self.chain_id,
            "salt": "0x" + self.network.hex(),
        }


class TypedMessage:
    """A message type: its name and its (type, name) fields in order."""

    def __init__(self, name: str, fields: tuple[tuple[str, str], ...]) -> None:
        unknown = {kind for kind, _ in fields} - _STATIC
        if unknown:
            raise ValueError(f"not a static type: {sorted(unknown)}")
        self.name = name
        self.fields = fields
        text = f"{name}(" + ",".join(f"{kind} {field}" for kind, field in fields) + ")"
        self._type_hash = keccak(text.encode())

    def digest(self, domain: Domain, *values: int | bytes) -> bytes:
        """The 32 bytes that the owner signs (EIP-712, `\\x19\\x01` prefix)."""
        if len(values) != len(self.fields):
            raise ValueError(f"{self.name} has {len(self.fields)} fields, not {len(values)}")
        struct = keccak(self._type_hash + b"".join(word(value) for value in values))
        return keccak(b"\x19\x01" + domain.separator + struct)

    def as_json(self, domain: Domain, *values: int | bytes) -> dict[str, Any]:
        """The same message as `eth_signTypedData_v4` takes it."""
        types = {
            "EIP712Domain": [{"name": name, "type": kind} for kind, name in _DOMAIN_TYPE],
            self.name: [{"name": name, "type": kind} for kind, name in self.fields],
        }
        message = {
            name: value if isinstance(value, int) else "0x" + value.hex()
            for (_, name), value in zip(self.fields, values, strict=True)
        }
        return {
            "types": types,
            "primaryType": self.name,
            "domain": domain.as_json(),
            "message": message,
        }
