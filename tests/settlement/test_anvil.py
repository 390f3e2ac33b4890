"""The same contracts and the same chain object over anvil, where its binary is at hand."""

import subprocess

import pytest

from primitives.secp256k1 import EvmKey
from settlement import Chain, Deployer, RollupStatement, TokenPlan, dev_key, sign_rollup, wait_ready
from settlement.anvil import anvil_command

CHAIN_ID = 31_337


def start(command):
    return subprocess.Popen(command)


@pytest.mark.extras
async def test_the_whole_way_goes_over_anvil(tmp_path, free_port, anvil_binary):
    url = f"http://127.0.0.1:{free_port}"
    process = start(anvil_command(anvil_binary, free_port, tmp_path, CHAIN_ID))
    try:
        assert await wait_ready(url, deadline_s=20) == CHAIN_ID
        validators = [EvmKey(dev_key(i)) for i in range(1, 5)]
        with Deployer(url, dev_key(0)) as deployer:
            deployment = deployer.deploy(
                [key.address for key in validators], [TokenPlan("USD", "Test dollar", 6, 100)]
            )
            deployer.mint(deployment, 0, validators[0].address, 1_000)
        chain = Chain([url], deployment, key=validators[0].secret)
        await chain.approve(0, 1_000)
        await chain.deposit(0, 1_000, validators[0].address)
        view = await chain.deposits_view(0, 10)
        assert [deposit.units for deposit in view.deposits] == [1_000]
        statement = RollupStatement(
            CHAIN_ID, deployment.vault_bytes, 1, 1, bytes(32), bytes(32), 1, view.accumulator
        )
        signatures = [sign_rollup(key.secret, statement) for key in validators]
        await chain.commit(statement, signatures)
        assert await chain.last_rollup() == statement
        chain.close()
    finally:
        process.terminate()
        process.wait()
