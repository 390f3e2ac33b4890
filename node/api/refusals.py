"""Every fault as an HTTP status and a JSON body: the one place where that is decided.

    {"error": {"code": "E404", "message": "there is no market XX", "next": "see /v1/markets"}}

A fault's sentence says after its last semicolon what to do next; that part becomes `next`.
"""

from typing import Final

import msgspec

from node.faults import RequestFault
from primitives.faults import RemoteFault

RETRY_AFTER_S: Final = 1  # what a refusal that will pass advises

_BY_CODE: Final = {
    "E002": 413,
    "E102": 400,
    "E103": 409,
    "E104": 409,
    "E105": 409,
    "E106": 413,
    "E107": 403,
    "E108": 404,
    "E109": 403,
    "E110": 400,
    "E111": 409,
    "E201": 404,
    "E202": 404,
    "E203": 404,
    "E204": 409,
    "E205": 409,
    "E206": 409,
    "E207": 400,
    "E208": 409,
    "E209": 409,
    "E210": 409,
    "E641": 413,
    "E643": 503,
    "E644": 503,
    "E803": 413,
    "E805": 403,
    "E806": 404,
    "E807": 403,
    "E808": 429,
    "E809": 409,
    "E810": 409,
    "E811": 404,
    "E814": 409,
}
_BY_RANGE: Final = {"E7": 503}  # the EVM chain did not do its part
_MALFORMED: Final = 400
_PASSING: Final = frozenset({429, 503})
_NEXT: Final = "correct what was sent, then send it again"
_NEXT_PASSING: Final = "wait a moment, then repeat, or try another node"


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was refused, why, and what to do next. The code never changes its meaning."""

    code: str
    message: str
    next: str


class Refused(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of every answer that is not a success."""

    error: Refusal


def status_of(fault: RemoteFault) -> int:
    """The HTTP status of a fault."""
    if isinstance(fault, RequestFault):
        return fault.status
    return _BY_CODE.get(fault.code) or _BY_RANGE.get(fault.code[:2], _MALFORMED)


def refusal_of(fault: RemoteFault) -> Refusal:
    """Code, message and next step of a fault."""
    message, found, step = fault.sentence.rpartition(";")
    if not found:
        message = fault.sentence
        step = _NEXT_PASSING if status_of(fault) in _PASSING else _NEXT
    return Refusal(fault.code, message.strip(), step.strip())


def headers_of(fault: RemoteFault) -> dict[str, str]:
    """Headers that go with the refusal."""
    return {"retry-after": str(RETRY_AFTER_S)} if status_of(fault) in _PASSING else {}
