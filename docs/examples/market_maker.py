"""Quote both sides of a market around a price, and renew the quotes with one signature.

    python docs/examples/market_maker.py NODE_URL WALLET_FILE XOM-USD 1.05

The passphrase is taken from OUTCRY_PASSPHRASE. The account must hold both tokens.
"""

import os
import sys
from decimal import Decimal

import trio

from outcry import Action, CancelAll, Lifetime, RefusedByNode, Side, Trader, Wallet

LEVELS = 3
SIZE = "0.01"
PAUSE_S = 1.0
ROUNDS = 3


async def quote(trader: Trader, market: str, middle: Decimal) -> None:
    """Replace all quotes. One envelope: either everything is accepted, or nothing."""
    grid = trader.grid(market)
    actions: list[Action] = [CancelAll(grid.market)]
    for level in range(1, LEVELS + 1):
        distance = grid.price_step * level * 10
        for side, price in ((Side.BUY, middle - distance), (Side.SELL, middle + distance)):
            actions.append(trader.order(market, side, SIZE, price, Lifetime.POST_ONLY))
    executed = await trader.wait_executed((await trader.batch(actions)).id)
    for position, code in executed.rejections:
        print(f"action {position} was refused: {code}")


async def main(node: str, file: str, market: str, middle: str) -> None:
    wallet = Wallet.load(file, os.environ["OUTCRY_PASSPHRASE"])
    async with Trader.connect(node, wallet) as trader:
        try:
            for _ in range(ROUNDS):
                await quote(trader, market, Decimal(middle))
                await trio.sleep(PAUSE_S)
        except RefusedByNode as fault:
            print(f"{fault.code}: {fault.sentence}; {fault.advice}")
        finally:
            with trio.CancelScope(shield=True):
                await trader.cancel_all(market)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
