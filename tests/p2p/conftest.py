"""Networks and stock libp2p hosts on loopback, as context managers."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX
from libp2p.stream_muxer.yamux.yamux import Yamux
from multiaddr.multiaddr import Multiaddr

from p2p import Limits, Network, NetworkConfig, open_network, parse_address, peer_id_of_seed
from p2p import quiet_libp2p as silence

NETWORK = b"net!" * 8
WAIT_S = 15

OpenMesh = Callable[..., AbstractAsyncContextManager[list[Network]]]


def seed_of(index: int) -> bytes:
    return bytes([index + 1]) * 32


def config_of(index: int, validators: int, **changes: Any) -> NetworkConfig:
    """The configuration of member `index` where the first `validators` seeds validate."""
    bound = {peer_id_of_seed(seed_of(each)): each for each in range(validators)}
    return replace(NetworkConfig(NETWORK, seed_of(index), validators=bound), **changes)


@asynccontextmanager
async def _open_mesh(
    count: int, validators: int | None = None, limits: Limits | None = None
) -> AsyncIterator[list[Network]]:
    """`count` members that know each other; the links between validators are up."""
    validating = count if validators is None else validators
    async with AsyncExitStack() as stack:
        networks: list[Network] = []
        for index in range(count):
            config = config_of(
                index,
                validating,
                bootstrap=[each.address for each in networks],
                limits=limits or Limits(),
            )
            networks.append(await stack.enter_async_context(open_network(config)))
        await _until(
            lambda: all(
                network.statistics().peers_connected == count - 1
                and (
                    index >= validating or network.statistics().validators_linked == validating - 1
                )
                for index, network in enumerate(networks)
            )
        )
        for network in networks:
            _drain(network.links)
        yield networks


async def _until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(WAIT_S):
        while not condition():
            await trio.sleep(0.01)


def _drain(channel: trio.MemoryReceiveChannel[Any]) -> list[Any]:
    items = []
    while True:
        try:
            items.append(channel.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return items


async def _collect(network: Network, count: int) -> list[tuple[int, bytes]]:
    """The next `count` messages of any validator."""
    messages: list[tuple[int, bytes]] = []
    with trio.fail_after(WAIT_S):
        while len(messages) < count:
            messages += (await network.frames.receive()).messages
    return messages


@asynccontextmanager
async def _stock_host(seed: bytes, addresses: Sequence[str], **options: Any) -> AsyncIterator[Any]:
    """A libp2p host without any of our code, connected to `addresses`."""
    options.setdefault("muxer_opt", {TProtocol(YAMUX): Yamux})
    host = new_host(key_pair=create_new_key_pair(seed), **options)
    async with host.run([Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        for text in addresses:
            address = parse_address(text)
            with trio.fail_after(WAIT_S):
                await host.get_network().dial_addr(address.transport, address.peer)
        try:
            yield host
        finally:
            with trio.move_on_after(2) as scope:
                scope.shield = True
                await host.close()  # without it, the sockets stay open


@pytest.fixture(autouse=True)
def quiet_libp2p() -> None:
    silence()


@pytest.fixture
def open_mesh() -> OpenMesh:
    return _open_mesh


@pytest.fixture
def make_config() -> Callable[..., NetworkConfig]:
    return config_of


@pytest.fixture
def make_seed() -> Callable[[int], bytes]:
    return seed_of


@pytest.fixture
def until() -> Callable[..., Any]:
    return _until


@pytest.fixture
def drain() -> Callable[..., list[Any]]:
    return _drain


@pytest.fixture
def collect() -> Callable[..., Any]:
    return _collect


@pytest.fixture
def stock_host() -> Callable[..., AbstractAsyncContextManager[Any]]:
    return _stock_host
