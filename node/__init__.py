"""One process of the network: a validator, which votes, or a gateway, which follows and serves.

    from node.process import run_node
    run_node(Path("config.toml"))        # until SIGINT or SIGTERM

The parts are introduced to each other in `node.node`; `node.config` shows the configuration and
`node.api` what clients can ask.
"""

from node.config import Config as Config
from node.config import load_config as load_config
from node.keys import NodeKeys as NodeKeys
from node.keys import create_keys as create_keys
