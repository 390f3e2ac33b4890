"""Follow a market's book and its room side by side, through reconnects.

python docs/examples/watch.py NODE_URL[,NODE_URL] XOM-USD
"""

import sys

import trio

from outcry import Viewer


async def watch_book(viewer: Viewer, market: str) -> None:
    grid = viewer.grid(market)
    async with viewer.stream("book", market=market) as updates:
        async for update in updates:
            # `update.book` is whole, and its checksum was compared with the node's.
            if update.book:
                sides = (update.book.bids, update.book.asks)
                best = [grid.price_text(side[0][0]) if side else "-" for side in sides]
                print(f"{market}: {' / '.join(best)}")


async def listen(viewer: Viewer, room: str) -> None:
    async with viewer.listen(room) as messages:
        async for message in messages:
            print(f"{message.account[:10]}: {message.text!r}")


async def main(nodes: str, market: str) -> None:
    async with Viewer.connect(nodes.split(",")) as viewer, trio.open_nursery() as nursery:
        nursery.start_soon(watch_book, viewer, market)
        nursery.start_soon(listen, viewer, market)


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
