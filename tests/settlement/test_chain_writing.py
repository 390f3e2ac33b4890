"""What a node writes to the chain: one nonce each, never lost, never twice."""

import json

import msgspec
import pytest
import trio

from primitives import anchors, keccak_tree
from primitives.secp256k1 import EvmKey
from settlement import Chain, Deployer, Deployment, dev_key
from settlement import chain as chain_module
from settlement.deployment import TokenPlan
from settlement.faults import (
    BadRollupSignature,
    ReadOnlyChain,
    TooManySignatures,
    TransactionRefused,
    TransactionReverted,
    TransactionUnmined,
)

TRADER = EvmKey(anchors.keccak(b"trader"))
SENDS = 10


@pytest.fixture
def open_chain(shared):
    """Chains with an account's key, closed when the test ends."""
    made = []

    def make(*urls, key=None, bench=shared):
        made.append(Chain(urls, bench.deployment, key=key or dev_key(5)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def chain(evm, open_chain):
    return open_chain(evm.url)


def keep_raw(relay, swallow):
    """Answers the first `swallow` raw transactions as if they were taken."""
    kept = []

    def twist(call, forward):
        if call["method"] == "eth_sendRawTransaction" and len(kept) < swallow:
            kept.append(call["params"][0])
            tx = "0x" + anchors.keccak(bytes.fromhex(kept[-1][2:])).hex()
            return json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": tx}).encode()
        return forward(json.dumps(call).encode())

    relay.twist = twist
    return kept


async def test_ten_sends_at_once_have_ten_nonces(chain, shared):
    receipts = []

    async def send():
        receipts.append(await chain.send_wei(b"\x55" * 20, 1))

    owner = shared.web3.to_checksum_address(chain.address)
    before = shared.web3.eth.get_transaction_count(owner)
    async with trio.open_nursery() as nursery:
        for _ in range(SENDS):
            nursery.start_soon(send)
    assert len({receipt.tx for receipt in receipts}) == SENDS
    nonces = sorted(shared.web3.eth.get_transaction(r.tx)["nonce"] for r in receipts)
    assert nonces == list(range(before, before + SENDS))
    assert chain.statistics().sent == SENDS
    assert chain.statistics().resyncs == 0


async def test_two_processes_with_one_key_find_their_nonces(evm, open_chain):
    one, other = open_chain(evm.url), open_chain(evm.url)
    target = anchors.keccak(b"two processes")[:20]
    for _ in range(2):
        await one.send_wei(target, 1)  # the same bytes from both, if their nonces are equal
        await other.send_wei(target, 1)
    assert await one.gas_balance(target) == 4
    assert one.statistics().resyncs + other.statistics().resyncs >= 1


async def test_a_send_survives_the_death_of_the_first_endpoint(make_relay, open_chain):
    first, second = make_relay(), make_relay()
    chain = open_chain(first.url, second.url)
    await chain.send_wei(b"\x55" * 20, 1)
    first.die()
    await chain.send_wei(b"\x55" * 20, 1)
    assert chain.statistics().endpoint == second.url


async def test_a_transaction_whose_answer_was_lost_is_not_sent_twice(make_relay, open_chain):
    first, second = make_relay(), make_relay()
    chain = open_chain(first.url, second.url)

    def deliver_then_hang_up(call, forward):
        answer = forward(json.dumps(call).encode())
        return None if call["method"] == "eth_sendRawTransaction" else answer

    first.twist = deliver_then_hang_up
    target = anchors.keccak(b"lost answer")[:20]
    await chain.send_wei(target, 7)
    assert await chain.gas_balance(target) == 7
    assert "eth_sendRawTransaction" in second.asked
    assert chain.statistics().resyncs == 0


async def test_a_transaction_that_got_lost_is_sent_again_with_a_higher_fee(
    make_relay, open_chain, monkeypatch
):
    monkeypatch.setattr(chain_module, "REPLACE_AFTER_S", 0.2)
    relay = make_relay()
    kept = keep_raw(relay, swallow=1)
    chain = open_chain(relay.url)
    receipt = await chain.send_wei(b"\x55" * 20, 1)
    assert receipt.tx != anchors.keccak(bytes.fromhex(kept[0][2:]))
    assert chain.statistics().replaced == 1
    await chain.send_wei(b"\x55" * 20, 1)


async def test_a_transaction_that_nobody_mines_is_reported(make_relay, open_chain, monkeypatch):
    monkeypatch.setattr(chain_module, "RECEIPT_DEADLINE_S", 0.3)
    relay = make_relay()
    kept = keep_raw(relay, swallow=1)
    chain = open_chain(relay.url)
    with pytest.raises(TransactionUnmined) as caught:
        await chain.send_wei(b"\x55" * 20, 1)
    assert caught.value.code == "E707"
    assert caught.value.tx == anchors.keccak(bytes.fromhex(kept[0][2:]))


async def test_a_transaction_that_fails_in_its_block_tells_why(make_relay, open_chain, shared):
    # The estimate is of a state in which it would succeed; then the state changes.
    relay = make_relay()
    chain = open_chain(relay.url)
    shared.send(
        "transfer", shared.web3.to_checksum_address(chain.address), 10**6, contract=shared.tokens[0]
    )
    await chain.approve(0, 5)

    def race(call, forward):
        answer = forward(json.dumps(call).encode())
        if call["method"] == "eth_estimateGas":
            relay.twist = lambda call, forward: forward(json.dumps(call).encode())
            data = shared.tokens[0].encode_abi("approve", [shared.vault.address, 0])
            sender = type(shared.sender)(shared.endpoints, dev_key(5), shared.deployment.chain_id)
            sender.submit(shared.deployment.tokens[0].address_bytes, bytes.fromhex(data[2:]))
        return answer

    relay.twist = race
    with pytest.raises(TransactionReverted) as caught:
        await chain.deposit(0, 5, TRADER.address)
    assert (caught.value.code, caught.value.reason) == ("E705", "allowance too small")
    assert chain.statistics().sent > 1


async def test_a_sender_without_money_is_refused(evm, open_chain):
    poor = open_chain(evm.url, key=anchors.keccak(b"poor"))
    with pytest.raises(TransactionRefused, match="insufficient funds") as caught:
        await poor.send_wei(b"\x55" * 20, 1)
    assert caught.value.code == "E706"


async def test_money_goes_in_and_comes_out_once(evm, bench, open_chain):
    chain = open_chain(evm.url, bench=bench)
    with Deployer(evm.url, dev_key(0)) as deployer:
        deployer.mint(bench.deployment, 0, TRADER.address, 1_000)
        deployer.send_gas([TRADER.address], 10**18)
    trader = open_chain(evm.url, key=TRADER.secret, bench=bench)
    scale = bench.deployment.tokens[0].scale
    start = await trader.token_balance(0, TRADER.address)
    await trader.approve(0, 600)
    await trader.deposit(0, 600, TRADER.address)
    assert await trader.token_balance(0, TRADER.address) == start - 600 * scale
    view = await chain.deposits_view(0, 10)
    assert view.deposits[0].units == 600

    assert await chain.last_rollup() is None
    leaves = [
        anchors.withdrawal_leaf(1, i, TRADER.address, 0, units)
        for i, units in enumerate((100, 400))
    ]
    statement = bench.statement(withdrawal_root=keccak_tree.root(leaves))
    receipt = await chain.commit(statement, bench.sign(statement)[::-1])
    assert receipt.gas > 100_000
    assert await chain.rollup(1) == await chain.last_rollup() == statement
    assert await chain.rollup(2) is None
    with pytest.raises(TransactionReverted, match="wrong number"):
        await chain.commit(statement, bench.sign(statement))

    claim = (1, 1, TRADER.address, 0, 400, keccak_tree.proof(leaves, 1))
    assert await chain.is_claimed(1, 1) is False
    await chain.claim(*claim)
    assert await chain.is_claimed(1, 1) is True
    assert await trader.token_balance(0, TRADER.address) == start - 200 * scale
    with pytest.raises(TransactionReverted, match="already claimed"):
        await chain.claim(*claim)


async def test_signatures_are_looked_at_before_anything_is_sent(chain, shared):
    statement = shared.statement()
    signatures = shared.sign(statement)
    with pytest.raises(BadRollupSignature) as bad:
        await chain.commit(statement, [*signatures[:3], bytes(65)])
    assert bad.value.code == "E720"
    with pytest.raises(TooManySignatures) as many:
        await chain.commit(statement, signatures * 9)
    assert many.value.code == "E721"
    with pytest.raises(TransactionReverted, match="too few signatures"):
        await chain.commit(statement, signatures[:2])
    assert chain.statistics().sent == 0


async def test_a_chain_without_a_key_only_reads(evm, shared):
    chain = Chain([evm.url], shared.deployment)
    with pytest.raises(ReadOnlyChain):
        await chain.send_wei(b"\x55" * 20, 1)
    assert (await chain.head()).number > 0
    chain.close()


async def test_a_cancelled_call_leaves_the_chain_usable(chain):
    with trio.move_on_after(0):
        await chain.head()
    with trio.move_on_after(0.001):
        await chain.send_wei(b"\x55" * 20, 1)
    await chain.send_wei(b"\x55" * 20, 1)


def test_a_deployment_survives_json(shared):
    data = msgspec.json.encode(shared.deployment)
    assert msgspec.json.decode(data, type=Deployment) == shared.deployment
    assert shared.deployment.vault == shared.web3.to_checksum_address(shared.deployment.vault)


def test_a_deployment_needs_validators_and_tokens(evm):
    with Deployer(evm.url, dev_key(0)) as deployer:
        with pytest.raises(ValueError, match="validators"):
            deployer.deploy([], [TokenPlan("A", "A", 6, 1)])
        with pytest.raises(TransactionReverted, match="zero scale"):
            deployer.deploy([b"\x01" * 20], [TokenPlan("A", "A", 6, 0)])
