import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from p2p import open_network

SCRIPT = Path(__file__).with_name("peer_process.py")
ROOT = Path(__file__).parents[2]


class PeerProcess:
    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._text = b""

    async def line(self) -> str:
        """The next line that the process prints."""
        with trio.fail_after(30):
            while b"\n" not in self._text:
                data = await self.process.stdout.receive_some(65_536)
                assert data, "the process ended"
                self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    async def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        await self.process.wait()


@asynccontextmanager
async def peer_process(
    index: int, count: int, port: int, *bootstrap: str
) -> AsyncIterator[PeerProcess]:
    command = [sys.executable, str(SCRIPT), str(index), str(count), str(port), *bootstrap]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await trio.lowlevel.open_process(
        command, stdout=subprocess.PIPE, env=environment, cwd=ROOT
    )
    try:
        yield PeerProcess(process)
    finally:
        process.kill()
        with trio.CancelScope() as scope:
            scope.shield = True
            await process.wait()


async def echoed(network, payload: bytes) -> None:
    assert network.send(1, 10, payload)
    with trio.fail_after(15):
        frame = await network.frames.receive()
    assert (frame.validator, frame.messages) == (1, [(11, payload)])


@pytest.mark.cluster
async def test_a_validator_killed_and_restarted_is_linked_again(make_config, until):
    async with open_network(make_config(0, validators=2)) as network:
        port = 0
        for life in range(3):
            async with peer_process(1, 2, port, network.address) as peer:
                address = await peer.line()
                port = int(address.split("/")[4])
                if life == 0:
                    await network.connect(address)
                with trio.fail_after(30):
                    assert (await network.links.receive()).validator == 1
                assert await peer.line() == "link 0"
                await echoed(network, b"life %d" % life)
                await peer.kill()
            await until(lambda: network.statistics().validators_linked == 0)
            assert not network.send(1, 10, b"to nobody")


@pytest.mark.cluster
async def test_a_validator_that_was_paused_is_heard_again(make_config):
    async with (
        open_network(make_config(0, validators=2)) as network,
        peer_process(1, 2, 0, network.address) as peer,
    ):
        await peer.line()
        with trio.fail_after(30):
            await network.links.receive()
        assert await peer.line() == "link 0"
        os.kill(peer.process.pid, signal.SIGSTOP)
        for number in range(50):
            network.send(1, 10, b"%d" % number)
        await trio.sleep(0.2)
        os.kill(peer.process.pid, signal.SIGCONT)
        heard = []
        with trio.fail_after(15):
            while len(heard) < 50:
                heard += (await network.frames.receive()).messages
        assert heard == [(11, b"%d" % number) for number in range(50)]
