"""Signed requests: what travels from a trader to the place where it is executed.

    wire = sign_envelope(key, network, account, nonce, last_valid, [Place(...)])
    admitted = admit(wire, network, domain)

An account is an EVM address. Its owner authorises Ed25519 keys by EIP-712 signatures, each
with an expiry and a scope; such a key signs envelopes, and one envelope may carry many actions.
`admit` is a pure function of the bytes: every validator gets the same answer, so its verdict
may be cached, and a batch that holds a bad envelope executes the same everywhere.
"""

from dataclasses import dataclass
from enum import IntFlag
from typing import Annotated

import msgspec

from exchange.actions import Action, Actions
from exchange.faults import BadSignature, MalformedEnvelope, OversizedEnvelope, WrongNetwork
from primitives import codec, ed25519, secp256k1
from primitives.codec import Bytes20, Bytes32, Bytes64, Bytes65, Malformed, Record, Unsigned
from primitives.eip712 import Domain, TypedMessage
from primitives.hashing import digest

ENVELOPE_BYTES_MAX = 16_384  # larger: refused with E106
_SIGNED = "outcry/envelope/1"
_ID = "outcry/envelope-id/1"


class Scope(IntFlag):
    """What a key may do for the account."""

    TRADE = 1
    TRANSFER = 2
    WITHDRAW = 4
    CHAT = 8


_SCOPE_ALL = int(Scope.TRADE | Scope.TRANSFER | Scope.WITHDRAW | Scope.CHAT)


class Envelope(Record, tag=1):
    """Actions signed by an authorised key. Valid up to and including height `last_valid`."""

    network: Bytes32
    account: Bytes20
    key: Bytes32
    nonce: Unsigned
    last_valid: Unsigned
    payload: bytes
    signature: Bytes64


class Authorization(Record, tag=2):
    """The owner lets `key` act with `scope` until block time `expires_ms`.

    Scope 0 revokes the key. `sequence` must exceed that of the account's last authorization, so
    that an old one cannot bring a revoked key back.
    """

    network: Bytes32
    account: Bytes20
    key: Bytes32
    scope: Annotated[int, msgspec.Meta(ge=0, le=_SCOPE_ALL)]
    expires_ms: Unsigned
    sequence: Unsigned
    signature: Bytes65


Transaction = Envelope | Authorization

AUTHORIZE = TypedMessage(
    "Authorize",
    (
        ("address", "account"),
        ("bytes32", "key"),
        ("uint8", "scope"),
        ("uint64", "expiresMs"),
        ("uint64", "sequence"),
    ),
)


@dataclass(frozen=True, slots=True)
class Admitted:
    """A transaction whose bytes and signature are right; `actions` is empty for others."""

    id: bytes
    transaction: Transaction
    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes that came into a batch but are not a valid transaction, and the fault's code."""

    id: bytes
    code: str


def envelope_id(wire: bytes, network: bytes) -> bytes:
    """The 32 bytes by which reports, receipts and events name a transaction."""
    return digest(_ID, network, wire)


def sign_envelope(
    key: ed25519.SigningKey,
    network: bytes,
    account: bytes,
    nonce: int,
    last_valid: int,
    actions: list[Action],
) -> bytes:
    """The wire bytes of an envelope that carries `actions`."""
    payload = codec.encode(actions)
    body = codec.encode([account, key.public, nonce, last_valid, payload])
    signature = key.sign(digest(_SIGNED, network, body))
    return codec.encode(
        Envelope(network, account, key.public, nonce, last_valid, payload, signature)
    )


def sign_authorization(
    owner: secp256k1.EvmKey,
    domain: Domain,
    key: bytes,
    scope: Scope,
    expires_ms: int,
    sequence: int,
) -> bytes:
    """The wire bytes of an authorization of the trading key `key` by its account's owner."""
    signed = AUTHORIZE.digest(domain, owner.address, key, int(scope), expires_ms, sequence)
    return codec.encode(
        Authorization(
            domain.network, owner.address, key, int(scope), expires_ms, sequence, owner.sign(signed)
        )
    )


def admit(wire: bytes, domain: Domain) -> Admitted:
    """Decode a transaction and check all that does not depend on the exchange's state.

    Errors: `OversizedEnvelope`, `MalformedEnvelope`, `WrongNetwork`, `BadSignature`.
    """
    if len(wire) > ENVELOPE_BYTES_MAX:
        raise OversizedEnvelope(len(wire), ENVELOPE_BYTES_MAX)
    try:
        transaction: Transaction = codec.decode(
            Transaction,  # type: ignore[arg-type]  # a union is a form, not a class
            wire,
            bytes_max=ENVELOPE_BYTES_MAX,
        )
    except Malformed as fault:
        raise MalformedEnvelope(fault.sentence) from None
    network = domain.network
    if transaction.network != network:
        raise WrongNetwork(transaction.network, network)
    if isinstance(transaction, Authorization):
        return _admit_authorization(wire, transaction, domain)
    return _admit_envelope(wire, transaction, network)


def judge(wire: bytes, domain: Domain) -> Admitted | Refused:
    """`admit` for bytes that are already in a batch: a fault becomes part of the result."""
    try:
        return admit(wire, domain)
    except (OversizedEnvelope, MalformedEnvelope, WrongNetwork, BadSignature) as fault:
        return Refused(envelope_id(wire, domain.network), fault.code)


def _admit_envelope(wire: bytes, envelope: Envelope, network: bytes) -> Admitted:
    try:
        actions: list[Action] = codec.decode(
            Actions,
            envelope.payload,
            bytes_max=ENVELOPE_BYTES_MAX,
        )
    except Malformed as fault:
        raise MalformedEnvelope(fault.sentence) from None
    body = codec.encode(
        [envelope.account, envelope.key, envelope.nonce, envelope.last_valid, envelope.payload]
    )
    if not ed25519.verify(envelope.key, digest(_SIGNED, network, body), envelope.signature):
        raise BadSignature("the trading key named in the envelope did not sign it")
    return Admitted(envelope_id(wire, network), envelope, tuple(actions))


def _admit_authorization(wire: bytes, request: Authorization, domain: Domain) -> Admitted:
    signed = AUTHORIZE.digest(
        domain,
        request.account,
        request.key,
        request.scope,
        request.expires_ms,
        request.sequence,
    )
    if secp256k1.recover(signed, request.signature) != request.account:
        raise BadSignature("the account's owner did not sign this authorization")
    return Admitted(envelope_id(wire, domain.network), request)
