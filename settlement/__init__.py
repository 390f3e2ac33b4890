"""The exchange's contracts on an EVM chain: deposits, rollup blocks, withdrawals.

    with Deployer(url, dev_key(0)) as deployer:
        deployment = deployer.deploy(validators, [TokenPlan("USD", "Test dollar", 6, 100)])
    chain = Chain([url], deployment, key=evm_secret)
    view = await chain.deposits_view(from_index=0, limit=100)
    statement = RollupStatement(deployment.chain_id, deployment.vault_bytes, 1, ...)
    receipt = await chain.commit(statement, [sign_rollup(key, statement) for key in keys])

`python -m settlement.evm` is a chain of its own for development, started by `evm_command`. What
can go wrong is the tree in `settlement.faults`; amounts are exchange units unless said otherwise.
"""

from settlement._deposits import BlockId as BlockId
from settlement._deposits import ChainDeposit as ChainDeposit
from settlement._deposits import ChainView as ChainView
from settlement._sender import Receipt as Receipt
from settlement.chain import Chain as Chain
from settlement.chain import ChainStatistics as ChainStatistics
from settlement.deployment import Deployer as Deployer
from settlement.deployment import Deployment as Deployment
from settlement.deployment import TokenDeployment as TokenDeployment
from settlement.deployment import TokenPlan as TokenPlan
from settlement.dev_accounts import dev_key as dev_key
from settlement.evm_process import EvmKind as EvmKind
from settlement.evm_process import evm_command as evm_command
from settlement.evm_process import wait_ready as wait_ready
from settlement.rollups import RollupStatement as RollupStatement
from settlement.rollups import recover_rollup_signer as recover_rollup_signer
from settlement.rollups import sign_rollup as sign_rollup
