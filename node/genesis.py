"""Reading, checking and writing the genesis document.

genesis = load_genesis(Path("genesis.json"))
replica = Replica(agreement(genesis), identity, at_hand)
"""

from pathlib import Path

import msgspec

from consensus import Committee, Genesis, Validator
from exchange.network import NetworkGenesis
from node.faults import GenesisInvalid
from primitives import bls, document
from primitives.cid import cid_of
from primitives.codec import Malformed
from primitives.durable import replace_file

GENESIS_BYTES_MAX = 1 << 20  # larger files are refused with E431
FIRST_EPOCH = 1


def agreement(genesis: NetworkGenesis) -> Genesis:
    """What consensus starts from."""
    members = [Validator(item.consensus, item.power) for item in genesis.validators]
    committee = Committee(genesis.network_id(), FIRST_EPOCH, members)
    return Genesis(cid_of(genesis.block()), genesis.time_ms, committee, genesis.epoch_ms)


def check_genesis(genesis: NetworkGenesis) -> None:
    """What the shape alone does not say. Errors: `GenesisInvalid`."""
    validators = genesis.validators
    for field in ("name", "consensus", "peer_id", "sealing", "anchor", "evm"):
        if len({getattr(item, field) for item in validators}) < len(validators):
            raise GenesisInvalid(f"two validators have the same {field}")
    for item in validators:
        if not bls.verify_possession(item.anchor, item.anchor_proof):
            raise GenesisInvalid(f"{item.name} does not prove that it holds its anchor key")
    if [item.power for item in validators] != genesis.exchange.powers:
        raise GenesisInvalid("the exchange's powers are not the validators'")
    if len(genesis.contracts) != len(genesis.exchange.tokens):
        raise GenesisInvalid("every token needs exactly one contract")
    tokens = len(genesis.exchange.tokens)
    for market in genesis.exchange.markets:
        if not (market.base < tokens and market.quote < tokens and market.base != market.quote):
            raise GenesisInvalid(f"market {market.symbol} names unknown or equal tokens")
    symbols = [market.symbol for market in genesis.exchange.markets]
    if len(set(symbols)) < len(symbols):
        raise GenesisInvalid("two markets have the same symbol")


def load_genesis(path: Path) -> NetworkGenesis:
    """The checked genesis in the JSON file at `path`. Errors: `GenesisInvalid`."""
    try:
        data = path.read_bytes()
        if len(data) > GENESIS_BYTES_MAX:
            raise GenesisInvalid(f"{path} is too large to be a genesis")
        genesis = document.parse(NetworkGenesis, msgspec.json.decode(data))
    except OSError as error:
        raise GenesisInvalid(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, Malformed) as error:
        raise GenesisInvalid(f"{path} is not a genesis: {error}") from None
    check_genesis(genesis)
    return genesis


def save_genesis(path: Path, genesis: NetworkGenesis) -> None:
    """Write the document that `load_genesis` reads."""
    text = msgspec.json.format(msgspec.json.encode(document.render(genesis)), indent=2)
    replace_file(path, text + b"\n")
