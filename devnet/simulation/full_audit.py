"""Whether all money is there: what came in is what accounts hold and what left."""

from collections.abc import Sequence

from exchange import Deposit, Exchange
from exchange.faults import StateCorrupt


def imbalance(exchange: Exchange, deposits: Sequence[Deposit], withdrawn: Sequence[int]) -> str:
    """Credited deposits are what all accounts hold and what left; empty when that is so."""
    try:
        exchange.audit()
    except StateCorrupt as fault:
        return fault.sentence
    credited = deposits[: exchange.deposits.next_index]
    for token, gone in enumerate(withdrawn):
        came = sum(item.units for item in credited if item.token == token)
        wallets = (account.wallets[token] for account in exchange.accounts.by_index)
        there = sum(wallet.free + wallet.reserved for wallet in wallets)
        if came != there + gone:
            return f"token {token}: {came} came, {gone} left, {there} are there"
    return ""
