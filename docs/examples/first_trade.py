"""Deposit dollars, buy a little, show what came of it.

    python docs/examples/first_trade.py NODE_URL EVM_URL PRIVATE_KEY [MARKET SIZE PRICE]

`outcry devnet status` prints the URLs of a development network and the keys of its funded
accounts. The key's account needs USD, and some of the chain's own coin for gas.
"""

import sys

import trio

from outcry import Trader, Wallet, text


async def main(
    node: str, evm: str, key: str, market: str = "XOM-USD", size: str = "5", price: str = "1.05"
) -> None:
    wallet = Wallet.from_hex(key)
    async with Trader.connect(node, wallet, evm=evm) as trader:
        trader.grid(market)  # refuses an unknown market before any money moves
        deposit = await trader.deposit("USD", "1000")
        await trader.wait_credited(deposit)

        # The account's owner lets the trading key act; only once, until it expires.
        authorized = await trader.authorize()
        await trader.wait_executed(authorized.id)

        # Accepted first (with a receipt that the node signed), executed a moment later.
        order = await trader.buy(market, size, price)
        executed = await trader.wait_executed(order.id)
        trader.check_actions(executed)

        for placed in await trader.placed_by(order.id):
            print(f"order {placed.order}: {placed.status}, {placed.filled} lots filled")
        for held in await trader.balances():
            token = trader.genesis.exchange.tokens[held.token]
            print(f"{held.symbol}: {text(held.free, token)} free")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    trio.run(main, *sys.argv[1:])
