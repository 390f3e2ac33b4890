"""A small genesis with real keys, for tests that need no processes."""

from exchange.genesis import ExchangeGenesis, Market, Token
from exchange.network import NetworkGenesis, TokenContract
from node.keys import create_keys


def make_genesis(count=4, keys=None, **changes):
    """A genesis of `count` validators; `changes` replace whole fields."""
    keys = keys or [create_keys() for _ in range(count)]
    fields = {
        "name": "test",
        "time_ms": 1_000,
        "exchange": ExchangeGenesis(
            1,
            [Token("XOM", 8), Token("USD", 6)],
            [Market("XOM-USD", 0, 1, 10, 1, 1_000, 2_000)],
            b"\x0f" * 20,
            [1] * len(keys),
            1_000,
        ),
        "validators": [key.public(f"v{i}", 1) for i, key in enumerate(keys)],
        "vault": b"\x01" * 20,
        "vault_block": 5,
        "contracts": [TokenContract(b"\x02" * 20, 1), TokenContract(b"\x03" * 20, 1)],
        "epoch_ms": 60_000,
    }
    return NetworkGenesis(**(fields | changes))
