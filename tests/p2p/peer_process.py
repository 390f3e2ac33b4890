"""One validator in a process of its own.

Arguments: its index, how many there are, its port or 0, bootstrap addresses. It prints its
address, then a line for every link that opens, and answers every message with kind + 1 and the
same payload.
"""

import sys

import structlog
import trio

from p2p import Network, NetworkConfig, open_network, peer_id_of_seed, quiet_libp2p


async def echo(network: Network) -> None:
    async for frame in network.frames:
        for kind, payload in frame.messages:
            network.send(frame.validator, kind + 1, payload)


async def main(index: int, count: int, port: int, bootstrap: list[str]) -> None:
    seeds = [bytes([each + 1]) * 32 for each in range(count)]
    config = NetworkConfig(
        network=b"net!" * 8,
        seed=seeds[index],
        listen_port=port,
        validators={peer_id_of_seed(seed): each for each, seed in enumerate(seeds)},
        bootstrap=bootstrap,
    )
    async with open_network(config) as network, trio.open_nursery() as nursery:
        print(network.address, flush=True)
        nursery.start_soon(echo, network)
        async for link in network.links:
            print(f"link {link.validator}", flush=True)


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    quiet_libp2p()
    trio.run(main, int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
