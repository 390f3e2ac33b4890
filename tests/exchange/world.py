"""A small exchange with real keys, real signatures and real bytes on the wire."""

from collections.abc import Iterable
from typing import Any

from exchange import Admitted, BlockInput, BlockResult, Deposit, Exchange, Observation, admit
from exchange.actions import Action, Lifetime, Place, SelfTrade, Side
from exchange.envelope import Scope, sign_authorization, sign_envelope
from exchange.genesis import ExchangeGenesis, Market, Token
from primitives.anchors import EMPTY_ACCUMULATOR, deposit_accumulator
from primitives.ed25519 import SigningKey
from primitives.eip712 import Domain
from primitives.secp256k1 import EvmKey

NETWORK = b"n" * 32
DOMAIN = Domain(31337, NETWORK)
FEES = b"\xfe" * 20
BASE, QUOTE = 0, 1
ALL = Scope.TRADE | Scope.WITHDRAW
FAR_MS = 10**12


def make_genesis(**changes: Any) -> ExchangeGenesis:
    given: dict[str, Any] = {
        "chain_id": 31337,
        "tokens": [Token("BASE", 6), Token("QUOTE", 6)],
        "markets": [
            Market("BASE-QUOTE", 0, 1, 10, 2, 1_000, 2_000),
            Market("QUOTE-BASE", 1, 0, 10, 2, 0, 0),
        ],
        "fee_account": FEES,
        "powers": [1, 1, 1, 1],
        "rollup_interval_ms": 1_000,
    }
    return ExchangeGenesis(**(given | changes))


def place(side: Side, price: int, size: int, **changes: Any) -> Place:
    given: dict[str, Any] = {
        "market": 0,
        "lifetime": Lifetime.GTC,
        "self_trade": SelfTrade.CANCEL_RESTING,
        "client_id": "",
    }
    return Place(side=side, price=price, size=size, **(given | changes))


def buy(price: int, size: int, **changes: Any) -> Place:
    return place(Side.BUY, price, size, **changes)


def sell(price: int, size: int, **changes: Any) -> Place:
    return place(Side.SELL, price, size, **changes)


class Trader:
    """An account's owner and one trading key; the nonce counts up."""

    def __init__(self, number: int) -> None:
        self.owner = EvmKey(number.to_bytes(32, "big"))
        self.key = SigningKey(number.to_bytes(32, "little"))
        self.address = self.owner.address
        self.nonce = 0
        self.sequence = 0

    def authorize(
        self,
        scope: Scope = ALL,
        *,
        expires_ms: int = FAR_MS,
        key: SigningKey | None = None,
        sequence: int | None = None,
    ) -> Admitted:
        if sequence is None:
            sequence, self.sequence = self.sequence, self.sequence + 1
        public = (key or self.key).public
        wire = sign_authorization(self.owner, DOMAIN, public, scope, expires_ms, sequence)
        return admit(wire, DOMAIN)

    def envelope(
        self,
        *actions: Action,
        nonce: int | None = None,
        last_valid: int = 100,
        key: SigningKey | None = None,
    ) -> Admitted:
        if nonce is None:
            nonce, self.nonce = self.nonce, self.nonce + 1
        wire = sign_envelope(
            key or self.key, NETWORK, self.address, nonce, last_valid, list(actions)
        )
        return admit(wire, DOMAIN)


class DepositChain:
    """The vault's deposits as an EVM node shows them."""

    def __init__(self) -> None:
        self.deposits: list[Deposit] = []

    def add(self, account: bytes, token: int, units: int) -> Deposit:
        index = len(self.deposits)
        previous = self.deposits[-1].accumulator if self.deposits else EMPTY_ACCUMULATOR
        accumulator = deposit_accumulator(previous, index, account, token, units)
        self.deposits.append(Deposit(index, account, token, units, accumulator))
        return self.deposits[-1]

    def observation(self, first: int = 0, last: int | None = None) -> Observation:
        return observed(self.deposits[first:last])


def observed(deposits: list[Deposit]) -> Observation:
    accumulator = deposits[-1].accumulator if deposits else EMPTY_ACCUMULATOR
    return Observation(7, b"h" * 32, len(deposits), accumulator, deposits)


class World:
    """An exchange, its deposits, and two traders who own 1,000,000 units of each token."""

    def __init__(self, *, funded: bool = True, **changes: Any) -> None:
        self.exchange = Exchange(make_genesis(**changes), NETWORK)
        self.chain = DepositChain()
        self.alice, self.bob = Trader(1), Trader(2)
        self.blocks: list[BlockInput] = []
        if funded:
            for trader in (self.alice, self.bob):
                self.chain.add(trader.address, BASE, 1_000_000)
                self.chain.add(trader.address, QUOTE, 1_000_000)
            self.run(self.alice.authorize(), self.bob.authorize(), report=self.chain.deposits)

    def run(
        self,
        *transactions: Any,
        report: Iterable[Deposit] = (),
        time_ms: int | None = None,
    ) -> BlockResult:
        seen = observed(list(report))
        block = BlockInput(
            self.exchange.height + 1,
            self.exchange.time_ms + 10 if time_ms is None else time_ms,
            transactions,
            tuple((number, seen) for number in range(3)) if seen.deposits else (),
        )
        result = self.exchange.apply(block)
        self.blocks.append(block)
        self.exchange.audit()
        return result

    def balance(self, trader: Trader, token: int) -> tuple[int, int]:
        """(free, reserved)"""
        view = self.exchange.account(trader.address)
        assert view is not None
        return view.balances[token]


def codes(result: BlockResult) -> list[str]:
    """The codes of all refusals in a block."""
    return [event.code for event in result.events if hasattr(event, "code")]
