"""The genesis as a trader sees it: which network this is, its tokens and its markets.

    genesis = parse_genesis(document, endpoint)
    genesis.network_id()     # recomputed here; a node cannot name another

The network id is a hash over the genesis' canonical bytes, so a node that changes anything in
what it shows shows another network.
"""

from typing import Any

from client.faults import NodeMisbehaved, UnknownSymbol
from exchange.genesis import Market, Token
from exchange.network import NetworkGenesis
from primitives import document
from primitives.codec import Malformed


def parse_genesis(value: Any, endpoint: str) -> NetworkGenesis:
    """The genesis in a JSON document that `endpoint` served.

    Errors: `NodeMisbehaved` when it is none, or does not hold together.
    """
    try:
        genesis = document.parse(NetworkGenesis, value)
    except Malformed as fault:
        raise NodeMisbehaved(endpoint, f"a genesis that cannot be used ({fault})") from None
    tokens = len(genesis.exchange.tokens)
    if len(genesis.contracts) != tokens:
        raise NodeMisbehaved(endpoint, "a genesis whose tokens have no contracts")
    if any(max(market.base, market.quote) >= tokens for market in genesis.exchange.markets):
        raise NodeMisbehaved(endpoint, "a genesis whose markets name unknown tokens")
    return genesis


def find_market(genesis: NetworkGenesis, symbol: str) -> tuple[int, Market]:
    """Id and parameters of a market, upper or lower case. Errors: `UnknownSymbol`."""
    for number, market in enumerate(genesis.exchange.markets):
        if market.symbol == symbol.upper():
            return number, market
    raise UnknownSymbol("market", symbol, [item.symbol for item in genesis.exchange.markets])


def find_token(genesis: NetworkGenesis, symbol: str) -> tuple[int, Token]:
    """Id and parameters of a token, upper or lower case. Errors: `UnknownSymbol`."""
    for number, token in enumerate(genesis.exchange.tokens):
        if token.symbol == symbol.upper():
            return number, token
    raise UnknownSymbol("token", symbol, [item.symbol for item in genesis.exchange.tokens])
