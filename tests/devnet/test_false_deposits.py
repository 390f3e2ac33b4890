"""A deposit that only one validator's chain shows is credited nowhere, and stops nobody."""

import httpx
import pytest
import trio

from client import Trader, Wallet
from devnet import processes
from devnet.creation import CHAIN_ID, PLANS
from settlement import Chain, Deployer, dev_key, evm_command

pytestmark = pytest.mark.cluster


@pytest.fixture
def other_chain(tmp_path):
    """A second chain, on which the same deployer puts the same contracts at the same addresses."""
    (port,) = processes.free_ports(1)
    url = f"http://127.0.0.1:{port}"
    log = tmp_path / "evm.log"
    pid = processes.start(evm_command("embedded", port, tmp_path / "evm", CHAIN_ID), log, {})
    processes.wait_until(
        lambda: not processes.is_free(port), lambda: True, "the other chain", log, 30_000
    )
    yield url
    found = processes.find(pid, "settlement.evm")
    if found is not None:
        processes.stop(found)


async def deposit_on(url, owners, account):
    """A real deposit into the vault of that chain."""

    def deploy():
        with Deployer(url, dev_key(0)) as deployer:
            deployment = deployer.deploy(owners, list(PLANS))
            giver = Wallet.create()
            deployer.send_gas([giver.account], 10**18)
            deployer.mint(deployment, 1, giver.account, 10**12)
            return deployment, giver

    deployment, giver = await trio.to_thread.run_sync(deploy)
    chain = Chain([url], deployment, key=giver.evm.secret)
    await chain.approve(1, 10**12)
    await chain.deposit(1, 10**12, account)
    chain.close()
    return deployment


async def test_a_deposit_that_one_reporter_invents_is_not_credited(outcry_clusters, other_chain):
    cluster = outcry_clusters(validators=4)
    state = cluster.state
    owners = [bytes.fromhex(node.evm_address[2:]) for node in state.nodes]
    mallory, alice = (Wallet.from_hex(item.evm_secret) for item in state.traders[:2])
    deployment = await deposit_on(other_chain, owners, mallory.account)
    assert deployment.vault == state.vault, "otherwise the liar would not even look at it"

    await trio.to_thread.run_sync(cluster.stop_node, "v3")
    config = cluster.layout.node("v3") / "config.toml"
    config.write_text(config.read_text().replace(state.evm, other_chain))
    await trio.to_thread.run_sync(cluster.start_node, "v3")
    async with httpx.AsyncClient(trust_env=False) as http:
        with trio.fail_after(40):
            while True:
                liar = (await http.get(f"{cluster.node('v3').api}/v1/status")).json()
                if liar["evm"]["deposits_seen"] == 1:
                    break
                await trio.sleep(0.1)
        await trio.sleep(2)
        for node in state.nodes:
            seen = await http.get(f"{node.api}/v1/accounts/{mallory.address}")
            assert seen.status_code == 404
            assert seen.json()["error"]["code"] == "E108"

    async with Trader.connect(cluster.node("v0").api, alice, evm=state.evm) as trader:
        await trader.wait_credited(await trader.deposit("USD", "5"))
        (balance,) = [item for item in await trader.balances() if item.symbol == "USD"]
        assert balance.free == 5 * 10**6
