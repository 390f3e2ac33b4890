"""What the exchange's and the rooms' fault codes mean, for refusals that carry only a code.

A refusal at execution reaches traders as a code in a block's events; the sentence that goes
with it is looked up here, in the classes that raise it.
"""

from collections.abc import Iterator
from inspect import cleandoc

from exchange import faults
from primitives.faults import RemoteFault


def meaning(code: str) -> str:
    """What a code stands for in a few words, or that it is unknown."""
    for kind in _below(RemoteFault):
        if kind.code == code and kind.__module__ == faults.__name__:
            return cleandoc(kind.__doc__ or "").split("\n")[0].rstrip(".").lower()
    return "refused for a reason that this version does not know"


def _below(kind: type[RemoteFault]) -> Iterator[type[RemoteFault]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
