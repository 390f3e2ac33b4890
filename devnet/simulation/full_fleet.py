"""The validators of a simulated network with real files and a real exchange, and its traders.

    fleet = FullFleet([1, 1, 1, 1], seed=7)
    nodes = [fleet.node(index) for index in range(4)]
    name, wire = fleet.envelope(0)      # the first ones authorise the traders' keys

Every trader has a deposit of every token waiting on the chain. Envelopes are real ones with real
signatures, whatever scheme the validators use; the same number is always the same envelope.
"""

import random
from collections.abc import Callable, Sequence
from functools import cache

from consensus import Committee, Genesis, Signer, Timing, Validator
from devnet.simulation.full_files import OpenJournal, empty_image, open_journal
from devnet.simulation.full_node import FullGenesis, FullNode
from devnet.simulation.standin import StandInKey
from devnet.simulation.standin import verify as stand_in_verify
from exchange import Deposit, envelope_id
from exchange.actions import Action, CancelAll, Lifetime, Place, SelfTrade, Side, Withdraw
from exchange.envelope import Scope, sign_authorization, sign_envelope
from exchange.genesis import ExchangeGenesis, Market, Token
from exchange.network import NetworkGenesis, TokenContract, ValidatorGenesis
from primitives import ed25519
from primitives.anchors import EMPTY_ACCUMULATOR, deposit_accumulator
from primitives.cid import cid_of
from primitives.hashing import digest
from primitives.secp256k1 import EvmKey

START_MS = 1_000_000  # virtual time begins here, which is the time of the genesis
TRADERS = 4
DEPOSIT_UNITS = 1_000_000_000
LAST_VALID = 10_000  # no simulation gets so high
EXPIRES_MS = 10**12
ROLLUP_INTERVAL_MS = 2_000
GENESIS_EPOCH_MS = 60_000  # what the document says; simulations may take shorter epochs
_KEY_DOMAIN = "outcry/simulated-key/1"
_TOKENS = 2


class _Traders:
    """The accounts of one network and what they send."""

    def __init__(self, network: NetworkGenesis) -> None:
        self._domain = network.domain()
        self._owners = [EvmKey(_secret("owner", number)) for number in range(TRADERS)]
        self._keys = [ed25519.SigningKey(_secret("trader", n)) for n in range(TRADERS)]
        self._wires: dict[int, tuple[bytes, bytes]] = {}

    def deposits(self) -> list[Deposit]:
        """One of each token for every trader, in order."""
        deposits: list[Deposit] = []
        accumulator = EMPTY_ACCUMULATOR
        for owner in self._owners:
            for token in range(_TOKENS):
                index = len(deposits)
                accumulator = deposit_accumulator(
                    accumulator, index, owner.address, token, DEPOSIT_UNITS
                )
                deposits.append(Deposit(index, owner.address, token, DEPOSIT_UNITS, accumulator))
        return deposits

    def envelope(self, number: int) -> tuple[bytes, bytes]:
        """Id and bytes."""
        known = self._wires.get(number)
        if known is None:
            wire = self._authorize(number) if number < TRADERS else self._trade(number)
            known = self._wires[number] = (envelope_id(wire, self._domain.network), wire)
        return known

    def _authorize(self, trader: int) -> bytes:
        scope = Scope.TRADE | Scope.WITHDRAW
        key = self._keys[trader].public
        return sign_authorization(self._owners[trader], self._domain, key, scope, EXPIRES_MS, 0)

    def _trade(self, number: int) -> bytes:
        trader, nonce = number % TRADERS, number // TRADERS - 1
        owner = self._owners[trader].address
        return sign_envelope(
            self._keys[trader],
            self._domain.network,
            owner,
            nonce,
            LAST_VALID,
            [_action(number, owner)],
        )

    def forgery(self, number: int) -> bytes:
        """An envelope of a trader's account that another key signed as if it were the trader's."""
        owner = self._owners[number % TRADERS].address
        stranger = ed25519.SigningKey(_secret("stranger", number % TRADERS))
        wire = sign_envelope(
            stranger, self._domain.network, owner, number, LAST_VALID, [_action(number, owner)]
        )
        return wire.replace(stranger.public, self._keys[number % TRADERS].public)


class FullFleet:
    """Validators of `powers` and four traders; fulfils `Fleet`.

    `signatures` are the validators': "stand-in" or "ed25519". `seed` decides what the disks do.
    `epoch_ms` is the length of an epoch, 0 for a single one. `journal` opens vote journals.
    With `templates` off, first starts make their files themselves.
    """

    def __init__(
        self,
        powers: Sequence[int],
        *,
        seed: int = 0,
        signatures: str = "stand-in",
        timing: Timing | None = None,
        schedule: Callable[[int], int] | None = None,
        epoch_ms: int = 0,
        journal: OpenJournal = open_journal,
        templates: bool = True,
    ) -> None:
        verify = ed25519.verify if signatures == "ed25519" else stand_in_verify
        self._common = _common(tuple(powers), signatures)
        self.keys: list[Signer] = self._common.keys
        network = self._common.network
        members = [
            Validator(key.public, power) for key, power in zip(self.keys, powers, strict=True)
        ]
        committee = Committee(network.network_id(), 1, members, verify=verify, schedule=schedule)
        self.genesis = Genesis(self._common.cid, START_MS, committee, epoch_ms)
        self.full_genesis = FullGenesis(self.genesis, network, self._common.deposits)
        self._seed = seed
        self._timing = timing or Timing()
        self._journal = journal
        self._templates = templates

    def node(self, index: int) -> FullNode:
        image = self._common.image(index) if self._templates else None
        return FullNode(
            index,
            self.full_genesis,
            self.keys[index],
            self._timing,
            random.Random(f"disk/{self._seed}/{index}"),
            image=image,
            journal=self._journal,
        )

    def envelope(self, number: int) -> tuple[bytes, bytes]:
        return self._common.traders.envelope(number)

    def forgery(self, number: int) -> bytes:
        return self._common.traders.forgery(number)


class _Common:
    """What all fleets of the same validators share, made once."""

    def __init__(self, powers: Sequence[int], signatures: str) -> None:
        make: Callable[[bytes], Signer] = StandInKey
        if signatures == "ed25519":
            make = ed25519.SigningKey
        self.keys = [make(_secret("consensus", index)) for index in range(len(powers))]
        self.network = _network(self.keys, powers)
        self.cid = cid_of(self.network.block())
        self.traders = _Traders(self.network)
        self.deposits = self.traders.deposits()
        self._images: dict[int, dict[str, bytes]] = {}

    def image(self, index: int) -> dict[str, bytes]:
        if index not in self._images:
            block = self.cid, self.network.block()
            owner = self.keys[index].public
            self._images[index] = empty_image(self.network.network_id(), owner, block)
        return self._images[index]


@cache
def _common(powers: tuple[int, ...], signatures: str) -> _Common:
    return _Common(powers, signatures)


def _network(keys: Sequence[Signer], powers: Sequence[int]) -> NetworkGenesis:
    """A genesis whose keys beside those of consensus belong to nobody: nothing here uses them."""
    validators = [
        ValidatorGenesis(
            name=f"v{index}",
            consensus=key.public,
            peer_id=f"simulated-{index}",
            sealing=_secret("sealing", index),
            anchor=_secret("anchor", index) + bytes(16),
            anchor_proof=_secret("proof", index) * 3,
            evm=_secret("evm", index)[:20],
            power=power,
        )
        for index, (key, power) in enumerate(zip(keys, powers, strict=True))
    ]
    market = Market("XOM-USD", 0, 1, 10, 1, 1_000, 2_000)
    tokens = [Token("XOM", 8), Token("USD", 6)]
    exchange = ExchangeGenesis(1, tokens, [market], b"\x0f" * 20, list(powers), ROLLUP_INTERVAL_MS)
    contracts = [TokenContract(bytes([number + 2]) * 20, 1) for number in range(_TOKENS)]
    return NetworkGenesis(
        name="sim",
        time_ms=START_MS,
        epoch_ms=GENESIS_EPOCH_MS,
        exchange=exchange,
        validators=validators,
        vault=b"\x01" * 20,
        vault_block=0,
        contracts=contracts,
    )


def _action(number: int, owner: bytes) -> Action:
    """Orders around one price that often match, now and then a cancellation or a withdrawal."""
    if number % 13 == 12:
        return Withdraw(number % _TOKENS, 1 + number, owner)
    if number % 9 == 8:
        return CancelAll(None)
    side = Side.BUY if (number // TRADERS + number) % 2 else Side.SELL
    price, size = 95 + number * 7 % 11, 1 + number % 5
    return Place(0, side, price, size, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")


def _secret(use: str, number: int) -> bytes:
    return digest(_KEY_DOMAIN, bytes(32), use.encode(), number.to_bytes(8, "big"))
