"""Routes that take signed envelopes, and tell what became of them.

A receipt is the node's signed word that it took an envelope. What it says nothing about is
whether the envelope executes: that is told by GET /v1/envelopes/{id}, and by the stream.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final

import msgspec

from exchange.actions import Actions, Cancel, CancelAll, CancelClient, Place, Withdraw
from exchange.envelope import ENVELOPE_BYTES_MAX, Authorization, Transaction
from exchange.receipt import Receipt
from node.api.refusals import Refusal, refusal_of
from node.api.route import JSON, MSGPACK, Call, Nothing, Route, Services
from node.api.texts import GivenHex, GivenHex32, Hex32, Hex64, Number, hexed, unhexed
from node.faults import BadRequest, NotFound, WrongActions
from node.status import EnvelopeStatus
from primitives import codec
from primitives.codec import Malformed, Oversized
from primitives.faults import RemoteFault

ENVELOPES_ITEMS_MAX: Final = 256  # more in one request: refused with E401
SUBMISSION_BYTES_MAX: Final = 4 << 20  # a larger body: refused with E413
ONE_ENVELOPE_BYTES_MAX: Final = 65_536  # likewise where one envelope is taken


class ReceiptView(msgspec.Struct, frozen=True):
    """`node` (its consensus key) took `envelope` at its `height` and local time, and signed it."""

    envelope: Hex32
    height: Number
    time_ms: Number
    node: Hex32
    signature: Hex64


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one envelope got: either a receipt or an error."""

    receipt: ReceiptView | msgspec.UnsetType = msgspec.UNSET
    error: Refusal | msgspec.UnsetType = msgspec.UNSET


class Results(msgspec.Struct, frozen=True):
    """One result for each envelope, in order."""

    results: list[Result]


class OneEnvelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    envelope: GivenHex


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Either `envelope` or `envelopes`."""

    envelope: GivenHex | None = None
    envelopes: (
        Annotated[list[GivenHex], msgspec.Meta(min_length=1, max_length=ENVELOPES_ITEMS_MAX)] | None
    ) = None


PackedSubmission = Annotated[
    list[Annotated[bytes, msgspec.Meta(min_length=1)]],
    msgspec.Meta(min_length=1, max_length=ENVELOPES_ITEMS_MAX),
]


class EnvelopeQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: GivenHex32


async def read_envelope(call: Call[EnvelopeQuery, Nothing]) -> EnvelopeStatus:
    """Errors: `NotFound`."""
    status = await call.node.envelope(unhexed(call.parameters.id))
    if status is None:
        raise NotFound("this node has not seen that envelope; ask the node that gave the receipt")
    return status


async def submit(call: Call[Nothing, Submission | list[bytes]]) -> ReceiptView | Results:
    """Take envelopes of any kind.

    From: anybody.
    Checks: size, number, allowance; then all that admission checks, for each envelope.
    Effects: those that pass are spread; the node signs a receipt for each.
    Errors: for a single envelope its fault; for several each result tells its own.
    """
    body = call.body
    if isinstance(body, list):
        return await submit_many(call.services, call.client, body)
    if (body.envelope is None) == (body.envelopes is None):
        raise BadRequest('the body holds "envelope" or "envelopes"; send one of them')
    if body.envelope is not None:
        return await _submit_one(call, unhexed(body.envelope))
    wires = [unhexed(text) for text in body.envelopes or []]
    return await submit_many(call.services, call.client, wires)


async def submit_many(services: Services, client: str, wires: list[bytes]) -> Results:
    """Results for several envelopes. Errors: `TooManyRequests`, then none was taken."""
    services.allowance.spend_envelopes(client, len(wires))
    return Results([_result(answer) for answer in await services.node.submit(wires)])


async def _submit_one(call: Call[Nothing, Any], wire: bytes) -> ReceiptView:
    call.services.allowance.spend_envelopes(call.client, 1)
    (answer,) = await call.node.submit([wire])
    if isinstance(answer, RemoteFault):
        raise answer
    return _receipt_view(answer)


def _result(answer: Receipt | RemoteFault) -> Result:
    if isinstance(answer, RemoteFault):
        return Result(error=refusal_of(answer))
    return Result(receipt=_receipt_view(answer))


def _receipt_view(receipt: Receipt) -> ReceiptView:
    return ReceiptView(
        envelope=hexed(receipt.envelope),
        height=receipt.height,
        time_ms=receipt.time_ms,
        node=hexed(receipt.node),
        signature=hexed(receipt.signature),
    )


# One kind of actions each

_CANCELS: Final = (Cancel, CancelClient, CancelAll)
_TAKEN: Final[dict[str, tuple[tuple[type, ...], tuple[type, ...], str]]] = {
    # path: (kinds that may be in it, kinds of which one must be, how people call them)
    "/v1/orders": ((Place, *_CANCELS), (Place,), "orders, and cancels beside them"),
    "/v1/cancels": (_CANCELS, _CANCELS, "cancels"),
    "/v1/withdrawals": ((Withdraw,), (Withdraw,), "withdrawals"),
    "/v1/authorizations": ((Authorization,), (Authorization,), "an authorization"),
}


def _submit_only(path: str) -> Callable[[Call[Nothing, OneEnvelope]], Awaitable[ReceiptView]]:
    """A handler that takes one envelope, of the kinds that `path` is for."""
    allowed, needed, name = _TAKEN[path]

    async def submit_only(call: Call[Nothing, OneEnvelope]) -> ReceiptView:
        """Errors: `WrongActions`, and the envelope's fault."""
        wire = unhexed(call.body.envelope)
        kinds = _kinds(wire)
        if kinds and not (kinds <= set(allowed) and kinds & set(needed)):
            raise WrongActions(f"this route takes {name}; send the envelope to /v1/envelopes")
        return await _submit_one(call, wire)

    return submit_only


def _kinds(wire: bytes) -> set[type]:
    """What an envelope holds; nothing for bytes that are none, which admission refuses."""
    try:
        held: Transaction = codec.decode(_TRANSACTION, wire, bytes_max=ENVELOPE_BYTES_MAX)
        if isinstance(held, Authorization):
            return {Authorization}
        actions: list[Any] = codec.decode(_ACTIONS, held.payload, bytes_max=ENVELOPE_BYTES_MAX)
    except (Malformed, Oversized):
        return set()
    return {type(action) for action in actions}


_TRANSACTION: Any = Transaction
_ACTIONS: Any = Actions

ENVELOPE_ROUTES = [
    Route(
        "GET",
        "/v1/envelopes/{id}",
        "How far an envelope has come",
        read_envelope,
        EnvelopeStatus,
        EnvelopeQuery,
    ),
    Route(
        "POST",
        "/v1/envelopes",
        "Submit one envelope, or up to 256",
        submit,
        (ReceiptView, Results),
        body={JSON: Submission, MSGPACK: PackedSubmission},
        body_bytes_max=SUBMISSION_BYTES_MAX,
    ),
    *(
        Route(
            "POST",
            path,
            f"Submit an envelope that holds {_TAKEN[path][2]}",
            _submit_only(path),
            ReceiptView,
            body={JSON: OneEnvelope},
            body_bytes_max=ONE_ENVELOPE_BYTES_MAX,
        )
        for path in _TAKEN
    ),
]
