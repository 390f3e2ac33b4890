"""Validators die, garbage comes in: nothing stops, nothing is lost, nothing is signed twice."""

import socket

import httpx
import pytest
import trio

from client import Trader, Wallet
from devnet import processes
from devnet.load import LoadPlan, run_load
from node.genesis import load_genesis

pytestmark = pytest.mark.cluster

MARKET = "XOM-USD"


async def status(cluster, name):
    async with httpx.AsyncClient(trust_env=False) as http:
        return (await http.get(f"{cluster.node(name).api}/v1/status")).json()


async def metric(cluster, name, wanted):
    async with httpx.AsyncClient(trust_env=False) as http:
        text = (await http.get(f"{cluster.node(name).api}/metrics")).text
    return sum(
        float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(wanted)
    )


async def wait_height(cluster, names, height, seconds=60):
    with trio.fail_after(seconds):
        for name in names:
            while (await status(cluster, name))["height"] < height:
                await trio.sleep(0.1)


async def test_a_validator_killed_under_load_comes_back_and_agrees(outcry_cluster):
    cluster = outcry_cluster
    genesis = load_genesis(cluster.layout.genesis)
    async with trio.open_nursery() as nursery:
        reports = []

        async def load():
            plan = LoadPlan(rate=60, seconds=12, accounts=10)
            reports.append(await run_load(cluster.state, genesis, plan, lambda _: None))

        nursery.start_soon(load)
        await trio.sleep(6)
        await trio.to_thread.run_sync(cluster.kill, "v2")
        await trio.sleep(3)
        await trio.to_thread.run_sync(cluster.start_node, "v2")
    report = reports[0]
    assert report.lost == 0, "a receipt is a promise"
    assert 0 < report.accepted <= report.executed <= report.sent
    height = (await status(cluster, "v0"))["height"]
    await wait_height(cluster, ["v2"], height)
    votes = await metric(cluster, "v2", "outcry_consensus_votes")
    with trio.fail_after(30):
        while await metric(cluster, "v2", "outcry_consensus_votes") <= votes:
            await trio.sleep(0.1)
    names = [node.name for node in cluster.state.nodes]
    async with httpx.AsyncClient(trust_env=False) as http:
        roots = set()
        for name in names:
            await wait_height(cluster, [name], height)
            block = await http.get(f"{cluster.node(name).api}/v1/blocks/{height}")
            roots.add((block.json()["cid"], block.json()["root"]))
    assert len(roots) == 1
    for name in names:
        assert await metric(cluster, name, "outcry_consensus_evidence") == 0, "signed twice"


async def test_garbage_on_the_peer_port_stops_no_node(outcry_cluster):
    before = await status(outcry_cluster, "v1")
    port = int(outcry_cluster.node("v1").p2p.split("/")[4])
    for payload in (b"\x00" * 70_000, b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 1_000, b""):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            try:
                raw.sendall(payload)
            except OSError:
                continue  # it hung up on us, as it may
    await trio.sleep(1)
    after = await status(outcry_cluster, "v1")
    assert after["pid"] == before["pid"]
    await wait_height(outcry_cluster, ["v1"], before["height"] + 2)


async def test_garbage_on_the_api_stops_no_node(outcry_cluster):
    api = outcry_cluster.node("v1").api
    async with httpx.AsyncClient(trust_env=False) as http:
        for method, path, body in (
            ("POST", "/v1/envelopes", b"\xff\xfe"),
            ("POST", "/v1/envelopes", b"[" * 100_000),
            ("POST", "/v1/orders", b'{"envelope": 5}'),
            ("POST", f"/v1/chat/{MARKET}", b'{"message": "0x00"}'),
            ("GET", "/v1/markets/NONE/book", b""),
            ("GET", f"/v1/markets/{MARKET}/book?depth=-1", b""),
            ("GET", "/v1/accounts/0x12", b""),
            ("GET", "/v1/blocks/99999999999999999999", b""),
            ("DELETE", "/v1/status", b""),
            ("GET", "/v1/../../etc/passwd", b""),
        ):
            answer = await http.request(method, api + path, content=body)
            assert 400 <= answer.status_code < 500, (method, path, answer.status_code)
            assert answer.json()["error"]["code"].startswith("E")
        assert (await http.get(f"{api}/v1/health")).status_code == 200


async def test_a_talk_is_the_same_everywhere_after_a_restart(outcry_cluster):
    state = outcry_cluster.state
    wallet = Wallet.from_hex(state.traders[1].evm_secret)
    async with Trader.connect(outcry_cluster.node("v0").api, wallet, evm=state.evm) as trader:
        await trader.wait_credited(await trader.deposit("USD", "1"))
        await trader.wait_executed((await trader.authorize()).id)
        await trader.say(MARKET, "before the restart")
    await trio.to_thread.run_sync(outcry_cluster.stop_node, "v3")
    async with Trader.connect(outcry_cluster.node("v1").api, wallet) as trader:
        await trader.say(MARKET, "while v3 was away")
    await trio.to_thread.run_sync(outcry_cluster.start_node, "v3")
    async with httpx.AsyncClient(trust_env=False) as http:
        with trio.fail_after(30):
            while True:
                histories = []
                for node in state.nodes:
                    answer = await http.get(f"{node.api}/v1/chat/{MARKET}")
                    histories.append([item["cid"] for item in answer.json()["messages"]])
                if all(history == histories[0] for history in histories):
                    break
                await trio.sleep(0.2)
    assert len(histories[0]) >= 2


async def test_a_withdrawal_survives_a_restart_of_everybody_before_it_reached_the_chain(
    outcry_cluster,
):
    cluster, state = outcry_cluster, outcry_cluster.state
    wallet = Wallet.from_hex(state.traders[2].evm_secret)
    async with Trader.connect(cluster.node("v0").api, wallet, evm=state.evm) as trader:
        await trader.wait_credited(await trader.deposit("USD", "3"))
        await trader.wait_executed((await trader.authorize()).id)
        evm = processes.find(state.evm_pid, "settlement.evm")
        evm.suspend()
        try:
            order = await trader.withdraw("USD", "3")
            await trader.wait_executed(order.id)
            await trio.sleep(4)  # signed, and nobody can send it
            for node in state.nodes:
                await trio.to_thread.run_sync(cluster.kill, node.name)
        finally:
            evm.resume()
        for node in state.nodes:
            await trio.to_thread.run_sync(
                lambda name=node.name: cluster.start_node(name, wait=False)
            )
        await trio.to_thread.run_sync(cluster.wait_all)
        assert await trader.wait_claimable(deadline_s=60)
        assert len(await trader.claim()) == 1


async def test_an_order_whose_node_died_right_after_its_receipt_is_executed(outcry_cluster):
    cluster, state = outcry_cluster, outcry_cluster.state
    wallet = Wallet.from_hex(state.traders[3].evm_secret)
    async with Trader.connect(cluster.node("v1").api, wallet, evm=state.evm) as trader:
        await trader.wait_credited(await trader.deposit("USD", "50"))
        await trader.wait_executed((await trader.authorize()).id)
        sent = [await trader.buy(MARKET, "1", "0.01") for _ in range(3)]
        cluster.kill("v1")
    await trio.to_thread.run_sync(cluster.start_node, "v1")
    async with Trader.connect(cluster.node("v0").api, wallet) as trader:
        for order in sent:
            await trader.wait_executed(order.id)
        await trader.wait_executed((await trader.cancel_all()).id)
