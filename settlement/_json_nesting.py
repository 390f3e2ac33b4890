"""A bound on how deep foreign JSON may be nested, before any decoder recurses into it.

Decoders stop at the interpreter's recursion limit. Libraries for Ethereum raise that limit,
when they are imported, beyond what the stack of a thread holds: a body of brackets then ends
the process instead of raising an error.
"""

import re

NESTING_DEPTH_MAX = 64  # deeper: refused
BRACKETS_MAX = 1_000_000  # more: refused, because counting them takes too long

_OPENING = frozenset(b"[{")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)  # its brackets do not count
_OTHERS = bytes(set(range(256)) - set(b"[]{}"))


def is_shallow(body: bytes | bytearray) -> bool:
    """Whether `body` is nested at most `NESTING_DEPTH_MAX` deep, up to its first mistake."""
    opened = body.count(b"[") + body.count(b"{")
    if opened <= NESTING_DEPTH_MAX:
        return True
    if opened > BRACKETS_MAX:
        return False
    depth = deepest = 0
    for bracket in _STRING.sub(b"", body).translate(None, _OTHERS):
        depth = depth + 1 if bracket in _OPENING else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest <= NESTING_DEPTH_MAX
