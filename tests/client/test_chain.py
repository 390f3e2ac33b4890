"""Deposits and claims against the real vault on a real (embedded) chain."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import trio

from client import (
    Chain,
    ChainRefused,
    ChainUnreachable,
    NodeMisbehaved,
    Reverted,
    Unmined,
    Wallet,
    WrongChain,
)
from client.chain import ALLOWANCE, APPROVE, BALANCE_OF, CLAIM, DEPOSIT, IS_CLAIMED, calldata
from exchange.network import NetworkGenesis
from primitives import keccak_tree
from primitives.anchors import withdrawal_leaf
from primitives.secp256k1 import EvmKey
from settlement import RollupStatement, artifacts, dev_key, sign_rollup

COMMIT = "commit(uint256,uint256,bytes32,bytes32,uint256,bytes32,bytes[])"
DEPOSIT_COUNT = "deposit_count()"
ACCUMULATOR_AT = "accumulator_at(uint256)"
VALIDATOR = b"\x07" * 32  # the vault's only validator, see conftest


def signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(item['type'] for item in entry['inputs'])})"


@pytest.mark.parametrize(
    ("contract", "wanted"),
    [("Vault", [DEPOSIT, CLAIM, IS_CLAIMED]), ("TestToken", [APPROVE, ALLOWANCE, BALANCE_OF])],
)
def test_the_contracts_have_the_functions_that_are_called(contract: str, wanted: list[str]) -> None:
    abi = artifacts.load(contract).abi
    known = {signature(entry) for entry in abi if entry["type"] == "function"}
    assert set(wanted) <= known, json.dumps(sorted(known))


def test_a_call_is_encoded_as_the_published_example_says() -> None:
    # Solidity's ABI specification, "Examples": baz(uint32,bool) with 69 and true.
    expected = "cdcd77c0" + f"{69:064x}" + f"{1:064x}"
    assert calldata("baz(uint32,bool)", 69, True).hex() == expected


async def test_a_deposit_moves_tokens_into_the_vault(bank: Any, funded: Any) -> None:
    wallet = funded()
    async with Chain.connect([bank.url], wallet, bank.genesis) as chain:
        before = await chain.token_balance(0)
        mined = await chain.deposit(0, 5_000)
        assert mined.gas > 0
        assert before - await chain.token_balance(0) == 5_000 * bank.genesis.contracts[0].scale
        assert await chain.balance() < 10**18
        assert chain.statistics().transactions == 2  # the approval and the deposit


async def test_a_deposit_beyond_the_balance_gives_the_contracts_reason(
    bank: Any, funded: Any
) -> None:
    async with Chain.connect([bank.url], funded(), bank.genesis) as chain:
        with pytest.raises(Reverted, match="balance too small") as caught:
            await chain.deposit(0, 10**12)
        assert caught.value.reason == "balance too small"


async def test_two_deposits_side_by_side_both_arrive(bank: Any, funded: Any) -> None:
    async with Chain.connect([bank.url], funded(), bank.genesis) as chain:
        await chain.approve(0, 300)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(chain.deposit, 0, 100)
            nursery.start_soon(chain.deposit, 1, 200)
        assert await chain.token_balance(0) == (10**9 - 100) * bank.genesis.contracts[0].scale
        assert await chain.token_balance(1) == (10**9 - 200) * bank.genesis.contracts[1].scale


async def commit(bank: Any, account: bytes, units: int) -> tuple[int, list[bytes], list[bytes]]:
    """Deposit, then commit a rollup block with two withdrawals; number, leaves, its validator."""
    payer = Wallet.from_hex(dev_key(1).hex())
    async with Chain.connect([bank.url], payer, bank.genesis) as chain:
        vault = bank.genesis.vault
        count = await chain._view(vault, DEPOSIT_COUNT)
        accumulator = (await chain._view(vault, ACCUMULATOR_AT, count)).to_bytes(32, "big")
        number = await chain._view(vault, "last_number()") + 1
        leaves = [
            withdrawal_leaf(number, 0, account, 0, units),
            withdrawal_leaf(number, 1, bytes(19) + b"\x05", 0, 1),
        ]
        statement = RollupStatement(
            chain_id=bank.genesis.exchange.chain_id,
            vault=vault,
            number=number,
            height=10 * number,
            state_root=bytes(32),
            withdrawal_root=keccak_tree.root(leaves),
            deposits=count,
            accumulator=accumulator,
        )
        fields = msgspec.structs.astuple(statement)[2:]
        signed = sign_rollup(EvmKey(VALIDATOR).secret, statement)
        await chain.send(vault, calldata(COMMIT, *fields, [signed]), "commit")
    return number, leaves, [signed]


async def test_a_withdrawal_is_claimed_once(bank: Any, funded: Any) -> None:
    wallet = funded()
    async with Chain.connect([bank.url], wallet, bank.genesis) as chain:
        await chain.deposit(0, 900)
        number, leaves, _ = await commit(bank, wallet.account, 700)
        proof = keccak_tree.proof(leaves, 0)
        assert not await chain.is_claimed(number, 0)
        before = await chain.token_balance(0)
        await chain.claim(number, 0, wallet.account, 0, 700, proof)
        paid = await chain.token_balance(0) - before
        assert paid == 700 * bank.genesis.contracts[0].scale
        assert await chain.is_claimed(number, 0)
        with pytest.raises(Reverted, match="already claimed"):
            await chain.claim(number, 0, wallet.account, 0, 700, proof)
        with pytest.raises(Reverted, match="wrong proof"):
            await chain.claim(number, 1, wallet.account, 0, 700, proof)


async def test_the_next_endpoint_is_asked_when_one_is_away(bank: Any, funded: Any) -> None:
    endpoints = ["http://127.0.0.1:9", bank.url]
    async with Chain.connect(endpoints, funded(), bank.genesis) as chain:
        assert await chain.block_number() > 0
        assert chain.statistics().failed == 1


async def test_a_chain_that_is_away_is_said_to_be(genesis: NetworkGenesis) -> None:
    with pytest.raises(ChainUnreachable, match=r"127\.0\.0\.1:9"):
        async with Chain.connect(["http://127.0.0.1:9"], Wallet.create(), genesis):
            pass


async def test_another_chain_is_refused(bank: Any, genesis: NetworkGenesis) -> None:
    exchange = msgspec.structs.replace(genesis.exchange, chain_id=1)
    other = msgspec.structs.replace(genesis, exchange=exchange)
    with pytest.raises(WrongChain, match="31337"):
        async with Chain.connect([bank.url], Wallet.create(), other):
            pass


async def test_a_vault_without_code_is_noticed(
    bank: Any, genesis_of: Callable[..., NetworkGenesis]
) -> None:
    async with Chain.connect([bank.url], Wallet.create(), genesis_of()) as chain:
        with pytest.raises(NodeMisbehaved, match="number was expected"):
            await chain.token_balance(0)


async def test_an_account_without_gas_money_is_refused_by_the_chain(bank: Any) -> None:
    async with Chain.connect([bank.url], Wallet.create(), bank.genesis) as chain:
        with pytest.raises(ChainRefused, match="eth_sendRawTransaction"):
            await chain.approve(0, 1)


async def test_a_transaction_that_is_never_mined_ends_the_waiting(
    bank: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.chain.RECEIPT_DEADLINE_S", 0.2)
    async with Chain.connect([bank.url], Wallet.create(), bank.genesis) as chain:
        with pytest.raises(Unmined, match="look it up") as caught:
            await chain.wait_mined(b"\x01" * 32)
    assert caught.value.tx == b"\x01" * 32


async def test_a_deposit_tells_its_number(bank: Any, funded: Any) -> None:
    async with Chain.connect([bank.url], funded(), bank.genesis) as chain:
        first = await chain.deposit(0, 1)
        second = await chain.deposit(1, 1)
        assert first.deposit is not None
        assert second.deposit == first.deposit + 1
        assert (await chain.approve(0, 1)).deposit is None
