"""Real clusters for tests: processes on loopback, stopped whatever happens."""

from contextlib import asynccontextmanager

import pytest

from client import Trader, Wallet
from devnet.cluster import Cluster
from devnet.creation import Plan


@pytest.fixture(scope="session")
def outcry_clusters(tmp_path_factory):
    """A function that starts a cluster: `cluster = outcry_clusters(validators=5)`."""
    started = []

    def start(**plan):
        # A space, because paths with spaces must work.
        cluster = Cluster(tmp_path_factory.mktemp("cluster") / "the state")
        started.append(cluster)
        cluster.up(Plan(**plan))
        return cluster

    yield start
    for cluster in started:
        if cluster.layout.exists():
            cluster.down()


@pytest.fixture(scope="session")
def outcry_cluster(outcry_clusters):
    """Five validators, a gateway and a chain, shared by the tests that leave them whole."""
    return outcry_clusters(validators=5, gateways=1, traders=6)


@pytest.fixture
def funded(outcry_cluster):
    """`async with funded(0, node="v1") as trader`: an account with deposits and a key."""

    @asynccontextmanager
    async def connect(number, node="v0", deposits=(("XOM", "100"), ("USD", "1000"))):
        state = outcry_cluster.state
        wallet = Wallet.from_hex(state.traders[number].evm_secret)
        api = outcry_cluster.node(node).api
        async with Trader.connect(api, wallet, evm=state.evm) as trader:
            for token, amount in deposits:
                receipt = await trader.deposit(token, amount)
                await trader.wait_credited(receipt)
            authorized = await trader.authorize()
            await trader.wait_executed(authorized.id)
            yield trader

    return connect
