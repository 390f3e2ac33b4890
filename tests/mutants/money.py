"""Mistakes in moving money.

The matching engine may be compiled, and compiled methods cannot be replaced: its mistakes are
made in its source, and the exchange gets the engine that comes out.
"""

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

import exchange.exchange
from devnet.simulation import Weather
from exchange import Exchange
from tests.mutants.engines import Directed, scenario
from tests.mutants.registry import Mutant, patched
from tests.mutants.trading import Trading

ENGINE = Path(exchange.exchange.__file__).with_name("engine.py")
_MODULE = "tests.mutants.changed_engine"


def changed(*changes: tuple[str, str]) -> AbstractContextManager[None]:
    """The engine with (text, other text) replaced, each of which its source has once."""
    source = ENGINE.read_text()
    for text, other in changes:
        assert source.count(text) == 1, f"the engine has {text!r} {source.count(text)} times"
        source = source.replace(text, other)
    module = ModuleType(_MODULE)
    sys.modules[_MODULE] = module
    exec(compile(source, str(ENGINE), "exec"), module.__dict__)  # noqa: S102  # our own source
    return patched((exchange.exchange, "Engine", module.Engine))


def round_every_fee_up() -> AbstractContextManager[None]:
    return changed(
        ("maker.carry = carried - maker_fee * PPM", "maker.carry = _ROUND_UP"),
        ("carry -= taker_fee * PPM", "carry = _ROUND_UP"),
    )


def release_twice() -> AbstractContextManager[None]:
    return changed(
        ("        wallet.free += units\n", "        wallet.free += units + units\n"),
    )


def release_nothing_of_a_partly_filled_order() -> AbstractContextManager[None]:
    return changed(
        (
            "units, wallet = remaining * level.reserved_per_lot, order.pays",
            "units, wallet = order.size * level.reserved_per_lot, order.pays",
        )
    )


def credit_what_was_consumed() -> AbstractContextManager[None]:
    """A deposit that two validators report in one block is credited for each of them."""
    apply = Exchange.apply

    def apply_and_credit(self, block):
        first = self.deposits.next_index
        result = apply(self, block)
        seen = [
            deposit
            for _, observation in block.observations
            for deposit in observation.deposits
            if deposit.index < first
        ]
        for deposit in seen:
            self._credit(deposit)
        return result

    return patched((Exchange, "apply", apply_and_credit))


MUTANTS = [
    Mutant(
        "fee-rounded-up-per-fill",
        "Every fill's fee is rounded up by itself, so many small fills cost more than one.",
        "DESIGN 4",
        round_every_fee_up,
        Trading(),
        "fees",
    ),
    Mutant(
        "reserved-released-twice",
        "Cancelling an order gives its reservation back twice.",
        "own",
        release_twice,
        Trading(),
        "conservation",
    ),
    Mutant(
        "reserved-released-of-what-was-filled",
        "Cancelling an order releases what it reserved at first, not what is left of it.",
        "own",
        release_nothing_of_a_partly_filled_order,
        Trading(),
        "conservation",
    ),
    Mutant(
        "late-deposit-credited-again",
        "A deposit that is reported after it was credited is credited again.",
        "own",
        credit_what_was_consumed,
        Directed(scenario(nodes="full", weather=Weather(drop_ppm=100_000))),
        "conservation",
    ),
]
