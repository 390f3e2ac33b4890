"""Putting tokens and a vault on a chain, and handing out tokens and gas money.

    with Deployer(url, dev_key(0)) as deployer:
        deployment = deployer.deploy(validators, [TokenPlan("USD", "Test dollar", 6, 100)])
        deployer.mint(deployment, 0, trader, units=1_000_000)

Everything is synchronous and may take seconds: run it in a thread.
"""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import msgspec
from web3 import Web3

from primitives.secp256k1 import checksum_address
from settlement import artifacts
from settlement._endpoints import Endpoints
from settlement._sender import Receipt, Sender, Sent
from settlement.faults import TransactionUnmined

RECEIPT_POLL_S = 0.1
RECEIPT_DEADLINE_S = 60.0
VALIDATORS_MAX = 32
TOKENS_MAX = 16


class TokenPlan(msgspec.Struct, frozen=True):
    """A test token to deploy; `scale` is its smallest units per exchange unit."""

    symbol: str
    name: str
    decimals: int
    scale: int


class TokenDeployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One token of the vault; `address` is its EIP-55 text."""

    symbol: str
    address: str
    decimals: int
    scale: int

    @property
    def address_bytes(self) -> bytes:
        """The 20 bytes of the contract's address."""
        return bytes.fromhex(self.address[2:])


class Deployment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the exchange's contracts are. A token's id is its position in `tokens`.

    `block` is the one that holds the vault's creation: no deposit is older.
    """

    chain_id: int
    vault: str
    tokens: list[TokenDeployment]
    block: int

    @property
    def vault_bytes(self) -> bytes:
        """The 20 bytes of the vault's address."""
        return bytes.fromhex(self.vault[2:])


class Deployer:
    """One key that deploys, mints and gives gas money on one chain."""

    def __init__(self, endpoint: str, key: bytes) -> None:
        """Errors: `ChainUnreachable` when `endpoint` does not answer."""
        self._endpoints = Endpoints([endpoint])
        self._web3 = Web3(self._endpoints)
        self.chain_id = self._web3.eth.chain_id
        self._sender = Sender(self._endpoints, key, self.chain_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._endpoints.close()

    def deploy(self, validators: Sequence[bytes], plans: Sequence[TokenPlan]) -> Deployment:
        """Deploy the planned tokens and a vault for them.

        `validators` are 20-byte EVM addresses, 1 to 32. Errors: `TransactionReverted` with the
        vault's reason, `TransactionRefused`, `TransactionUnmined`, `ChainUnreachable`.
        """
        if not 1 <= len(validators) <= VALIDATORS_MAX or not 1 <= len(plans) <= TOKENS_MAX:
            raise ValueError(f"1 to {VALIDATORS_MAX} validators and 1 to {TOKENS_MAX} tokens")
        tokens = []
        for plan in plans:
            receipt = self._create("TestToken", plan.name, plan.symbol, plan.decimals)
            address = checksum_address(_created(receipt))
            tokens.append(TokenDeployment(plan.symbol, address, plan.decimals, plan.scale))
        receipt = self._create(
            "Vault",
            [checksum_address(validator) for validator in validators],
            [token.address for token in tokens],
            [token.scale for token in tokens],
        )
        vault = checksum_address(_created(receipt))
        return Deployment(self.chain_id, vault, tokens, receipt.block)

    def mint(self, deployment: Deployment, token: int, account: bytes, units: int) -> Receipt:
        """Mint exchange units of a test token; only its deployer can."""
        chosen = deployment.tokens[token]
        contract = self._web3.eth.contract(abi=artifacts.load("TestToken").abi)
        data = contract.encode_abi("mint", [checksum_address(account), units * chosen.scale])
        return self._wait(self._sender.submit(chosen.address_bytes, bytes.fromhex(data[2:])))

    def send_gas(self, accounts: Sequence[bytes], wei: int) -> list[Receipt]:
        """Give each account `wei` of the chain's own coin, one transaction each."""
        on_the_way = [self._sender.submit(account, b"", wei) for account in accounts]
        return [self._wait(sent) for sent in on_the_way]

    def _create(self, name: str, *arguments: Any) -> Receipt:
        artifact = artifacts.load(name)
        contract = self._web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        data = str(contract.constructor(*arguments).data_in_transaction)
        return self._wait(self._sender.submit(None, bytes.fromhex(data[2:])))

    def _wait(self, sent: Sent) -> Receipt:
        deadline = time.monotonic() + RECEIPT_DEADLINE_S
        while True:
            receipt = self._sender.receipt(sent)
            if receipt is not None:
                return receipt
            if time.monotonic() > deadline:
                raise TransactionUnmined(sent.hashes[-1], RECEIPT_DEADLINE_S)
            time.sleep(RECEIPT_POLL_S)


def _created(receipt: Receipt) -> bytes:
    if receipt.contract is None:
        raise ValueError("the transaction created no contract")
    return receipt.contract
