"""What a node reads from the chain: consistent, cheap when nothing happened, never believed."""

import contextlib
import json
import re
import threading

import pytest

from primitives import anchors
from primitives.secp256k1 import checksum_address
from settlement import Chain, Deployment, _deposits, _endpoints
from settlement.faults import (
    ChainBehind,
    ChainContradiction,
    ChainFault,
    ChainMismatch,
    ChainUnreachable,
)

ACCOUNT = b"\x11" * 20
OWNER = checksum_address(ACCOUNT)


@pytest.fixture
def open_chain():
    """Chains that are closed when the test ends."""
    made = []

    def make(urls, deployment, **options):
        made.append(Chain(urls, deployment, **options))
        return made[-1]

    yield make
    for chain in made:
        chain.close()


@pytest.fixture
def chain(evm, bench, open_chain):
    return open_chain([evm.url], bench.deployment)


def mine(bench, blocks=1):
    for _ in range(blocks):
        bench.web3.provider.make_request("evm_mine", [])


async def test_a_view_holds_the_deposits_of_one_block(chain, bench):
    empty = await chain.deposits_view(0, 10)
    assert (empty.count, empty.accumulator, empty.deposits) == (0, bytes(32), [])
    receipts = [bench.send("deposit", i % 2, 5 + i, OWNER) for i in range(3)]
    view = await chain.deposits_view(0, 10)
    assert view.number == receipts[-1].block
    assert view.hash == bytes(bench.web3.eth.get_block(view.number)["hash"])
    accumulator = bytes(32)
    for i, deposit in enumerate(view.deposits):
        accumulator = anchors.deposit_accumulator(accumulator, i, ACCOUNT, i % 2, 5 + i)
        assert (deposit.index, deposit.account, deposit.token) == (i, ACCOUNT, i % 2)
        assert (deposit.units, deposit.accumulator) == (5 + i, accumulator)
    assert (view.count, view.accumulator) == (3, accumulator)
    assert [d.index for d in (await chain.deposits_view(1, 1)).deposits] == [1]
    assert (await chain.deposits_view(3, 10)).deposits == []
    assert (await chain.deposits_view(99, 10)).deposits == []
    assert (await chain.head()).number == view.number


async def test_a_poll_costs_one_call_while_the_chain_stands_still(chain, bench):
    bench.send("deposit", 0, 5, OWNER)
    await chain.deposits_view(0, 10)
    before = chain.statistics().calls
    for _ in range(5):
        assert (await chain.deposits_view(0, 10)).count == 1
    assert chain.statistics().calls - before == 5
    mine(bench)
    before = chain.statistics().calls
    assert (await chain.deposits_view(0, 10)).count == 1
    assert chain.statistics().calls - before == 2


async def test_a_deposit_counts_when_it_is_deep_enough(evm, bench, open_chain):
    chain = open_chain([evm.url], bench.deployment, confirmations=2)
    bench.send("deposit", 0, 5, OWNER)
    assert (await chain.deposits_view(0, 10)).count == 0
    mine(bench)
    assert (await chain.deposits_view(0, 10)).count == 0
    mine(bench)
    view = await chain.deposits_view(0, 10)
    assert (view.count, view.number + 2) == (1, (await chain.head()).number)


async def test_before_the_vault_is_deep_enough_there_are_no_deposits(evm, make_bench, open_chain):
    deployment = make_bench().deployment
    chain = open_chain([evm.url], deployment, confirmations=5)
    view = await chain.deposits_view(0, 10)
    assert view.number == deployment.block - 5
    assert (view.count, view.accumulator) == (0, bytes(32))


async def test_a_long_history_is_read_in_several_calls(chain, bench, monkeypatch):
    monkeypatch.setattr(_deposits, "LOG_SPAN_BLOCKS_MAX", 2)
    monkeypatch.setattr(_deposits, "SPANS_PER_CALL_MAX", 2)
    chain._ledger._span = 2
    for _ in range(9):
        bench.send("deposit", 0, 5, OWNER)
    with pytest.raises(ChainBehind, match="ask again"):
        await chain.deposits_view(0, 100)
    for _ in range(10):  # nine blocks and the vault's funding, four blocks a call
        with contextlib.suppress(ChainBehind):
            view = await chain.deposits_view(0, 100)
    assert [deposit.index for deposit in view.deposits] == list(range(9))


async def test_old_deposits_are_read_from_the_chain_again(chain, bench, monkeypatch):
    monkeypatch.setattr(_deposits, "DEPOSITS_CACHED_MAX", 2)
    monkeypatch.setattr(_deposits, "DEPOSITS_VIEW_MAX", 3)
    monkeypatch.setattr(_deposits, "MARK_EVERY_DEPOSITS", 2)
    for i in range(12):
        bench.send("deposit", 0, 5 + i, OWNER)
    everything = []
    while len(everything) < 12:
        view = await chain.deposits_view(len(everything), 100)
        assert 0 < len(view.deposits) <= 3
        everything += view.deposits
    assert [(d.index, d.units) for d in everything] == [(i, 5 + i) for i in range(12)]
    assert chain._ledger._cached_from > 0


async def test_an_endpoint_that_leaves_logs_out_is_not_believed(bench, make_relay, open_chain):
    relay = make_relay()
    chain = open_chain([relay.url], bench.deployment)
    honest = relay.twist
    bench.send("deposit", 0, 5, OWNER)
    bench.send("deposit", 0, 6, OWNER)

    def hide(call, forward):
        answer = json.loads(forward(json.dumps(call).encode()))
        if call["method"] == "eth_getLogs":
            answer["result"] = answer["result"][:1]
        return json.dumps(answer).encode()

    relay.twist = hide
    with pytest.raises(ChainContradiction, match="1 in the logs, 2 in the vault"):
        await chain.deposits_view(0, 10)
    relay.twist = honest
    assert (await chain.deposits_view(0, 10)).count == 2
    assert chain.statistics().resets == 1


async def test_an_endpoint_that_changes_a_deposit_is_not_believed(bench, make_relay, open_chain):
    relay = make_relay()
    chain = open_chain([relay.url], bench.deployment)
    bench.send("deposit", 0, 5, OWNER)

    def enrich(call, forward):
        answer = json.loads(forward(json.dumps(call).encode()))
        if call["method"] == "eth_getLogs":
            log = answer["result"][0]
            log["data"] = log["data"][:66] + f"{10**6:064x}" + log["data"][130:]
        return json.dumps(answer).encode()

    relay.twist = enrich
    with pytest.raises(ChainContradiction, match="running hash"):
        await chain.deposits_view(0, 10)


async def test_deposits_that_a_reorganisation_took_back_are_forgotten(
    bench, make_bench, make_relay, open_chain
):
    # Two vaults play the two forks: the endpoint swaps their addresses in what it carries.
    fork = make_bench()
    fork.fund()
    relay = make_relay()
    chain = open_chain([relay.url], bench.deployment)
    for units in (5, 6, 7):
        bench.send("deposit", 0, units, OWNER)
        fork.send("deposit", 0, units + (units > 5), OWNER)
    assert [d.units for d in (await chain.deposits_view(0, 10)).deposits] == [5, 6, 7]
    ours, theirs = (b.vault.address.lower()[2:].encode() for b in (bench, fork))

    def swap(call, forward):
        body = re.sub(ours, theirs, json.dumps(call).encode(), flags=re.IGNORECASE)
        return forward(body).replace(theirs, ours)

    relay.twist = swap
    mine(bench)
    view = await chain.deposits_view(0, 10)
    assert [d.units for d in view.deposits] == [5, 7, 8]
    assert view.accumulator == fork.ask("accumulator_at", 3)
    assert chain.statistics().resets == 1


async def test_the_block_span_shrinks_to_what_the_endpoint_serves(bench, make_relay, open_chain):
    relay = make_relay()
    chain = open_chain([relay.url], bench.deployment)
    for _ in range(5):
        bench.send("deposit", 0, 5, OWNER)

    def narrow(call, forward):
        if call["method"] == "eth_getLogs":
            where = call["params"][0]
            if int(where["toBlock"], 16) - int(where["fromBlock"], 16) >= 2:
                error = {"code": -32005, "message": "query exceeds max block range 2"}
                return json.dumps({"jsonrpc": "2.0", "id": call["id"], "error": error}).encode()
        return forward(json.dumps(call).encode())

    relay.twist = narrow
    assert (await chain.deposits_view(0, 10)).count == 5
    relay.asked.clear()
    bench.send("deposit", 0, 5, OWNER)
    assert (await chain.deposits_view(0, 10)).count == 6
    assert relay.asked.count("eth_getLogs") == 1


async def test_the_next_endpoint_answers_when_the_first_dies(bench, make_relay, open_chain):
    first, second = make_relay(), make_relay()
    chain = open_chain([first.url, second.url], bench.deployment)
    await chain.deposits_view(0, 10)
    assert chain.statistics().endpoint == first.url
    first.die()
    bench.send("deposit", 0, 5, OWNER)
    assert (await chain.deposits_view(0, 10)).count == 1
    statistics = chain.statistics()
    assert (statistics.endpoint, statistics.failovers) == (second.url, 1)
    second.die()
    with pytest.raises(ChainFault) as caught:
        await chain.head()
    assert isinstance(caught.value, ChainUnreachable)
    assert caught.value.code == "E701"


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>502</html>",
        b"",
        b"[]",
        b"null",
        b"\xff" * 100,
        b"[" * 1_000_000,
        b'{"jsonrpc": "2.0", "id": 1}',
        b'{"jsonrpc": "1.0", "id": 1, "result": "0x1"}',
        b'{"jsonrpc": "2.0", "id": 1, "error": "no"}',
        None,
    ],
)
async def test_an_endpoint_that_talks_nonsense_is_passed_over(
    shared, make_relay, open_chain, answer
):
    mad, sane = make_relay(), make_relay()
    mad.twist = lambda call, forward: answer  # noqa: ARG005
    chain = open_chain([mad.url, sane.url], shared.deployment)
    assert (await chain.head()).number > 0
    assert chain.statistics().failures > 0


@pytest.mark.parametrize(
    ("method", "result"),
    [
        ("eth_getBlockByNumber", None),
        ("eth_getBlockByNumber", {"number": "twelve", "hash": "0x" + "00" * 32}),
        ("eth_getBlockByNumber", {"number": "0x5", "hash": "0x00"}),
        ("eth_getBlockByNumber", {"number": 5, "hash": "0x" + "00" * 32}),
        ("eth_call", "0x"),
        ("eth_call", 7),
        ("eth_getLogs", {}),
        ("eth_getLogs", [{"blockNumber": "0x1", "topics": [], "data": "0x"}]),
        ("eth_getLogs", [{"blockNumber": "0x1"}]),
    ],
)
async def test_a_result_of_the_wrong_shape_is_a_contradiction(
    shared, make_relay, open_chain, method, result
):
    relay = make_relay()
    shared.send("deposit", 0, 5, OWNER)

    def spoil(call, forward):
        if call["method"] == method:
            return json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": result}).encode()
        return forward(json.dumps(call).encode())

    relay.twist = spoil
    chain = open_chain([relay.url], shared.deployment)
    with pytest.raises(ChainContradiction) as caught:
        await chain.deposits_view(0, 10)
    assert caught.value.code == "E703"
    if method == "eth_call":
        with pytest.raises(ChainContradiction):
            await chain.rollup(1)
        assert chain.statistics().nonsense == 1


async def test_an_endpoint_that_hangs_is_left_behind(shared, make_relay, open_chain, monkeypatch):
    monkeypatch.setattr(_endpoints, "ANSWER_TIMEOUT_S", 0.3)
    slow, quick = make_relay(), make_relay()
    released = threading.Event()
    slow.twist = lambda call, forward: released.wait(20) and None  # noqa: ARG005
    chain = open_chain([slow.url, quick.url], shared.deployment)
    assert (await chain.head()).number > 0
    released.set()


async def test_another_chain_is_never_used(evm, shared, make_relay, open_chain):
    good = shared.deployment
    elsewhere = Deployment(good.chain_id + 1, good.vault, good.tokens, good.block)
    with pytest.raises(ChainMismatch, match="chain id 0x7a69") as caught:
        await open_chain([evm.url], elsewhere).head()
    assert caught.value.code == "E702"
    nothing = Deployment(good.chain_id, "0x" + "22" * 20, good.tokens, good.block)
    with pytest.raises(ChainMismatch, match="no vault"):
        await open_chain([evm.url], nothing).deposits_view(0, 1)
    liar = make_relay()

    def other_chain(call, forward):
        if call["method"] == "eth_chainId":
            return json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": "0x1"}).encode()
        return forward(json.dumps(call).encode())

    liar.twist = other_chain
    chain = open_chain([liar.url, evm.url], good)
    await chain.head()
    assert chain.statistics().endpoint == evm.url
    assert set(liar.asked) == {"eth_chainId"}


def test_bounds_of_a_chain_are_checked(evm, shared):
    with pytest.raises(ValueError, match="confirmations"):
        Chain([evm.url], shared.deployment, confirmations=-1)
    with pytest.raises(ValueError, match="endpoints"):
        Chain([], shared.deployment)
