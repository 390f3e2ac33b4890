"""The examples run as they are printed, and import nothing of ours but `outcry`."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import client
import outcry
from client import Trader, Wallet
from tests.client.single_node import ROOT, SingleNode

EXAMPLES = sorted((ROOT / "docs" / "examples").glob("*.py"))
OURS = {path.parent.name for path in ROOT.glob("*/__init__.py")}
STEP_TIMEOUT_S = 60
LINES_MAX = 20


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_imports_nothing_of_ours_but_outcry(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).split(".")[0])
    assert imported & OURS == {"outcry"}


def test_the_package_for_traders_shows_all_of_the_sdk() -> None:
    shown = {name for name in vars(client) if name[0].isupper()}
    assert shown <= set(vars(outcry))
    assert outcry.Trader is client.Trader


def run(name: str, *words: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "examples" / f"{name}.py"), *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.cluster
def test_the_first_trade_is_made(network: SingleNode) -> None:
    wallet = Wallet.from_hex(Wallet.create().evm.secret.hex())
    network.bank.fund(wallet, 10**9)
    secret = wallet.evm.secret.hex()
    order = ("BTC-USD", "0.01", "30000")
    told = run("first_trade", network.url, network.bank.url, secret, *order)
    trio.run(clear, network, wallet)
    assert "open, 0 lots filled" in told
    assert "USD: 700 free" in told


async def clear(network: SingleNode, wallet: Wallet) -> None:
    """Leave no order behind for other tests to meet."""
    async with Trader.connect(network.url, wallet) as trader:
        await trader.wait_executed((await trader.cancel_all()).id)
        assert await trader.orders() == []


async def prepare(network: SingleNode, wallet: Wallet) -> None:
    """Money, an authorised key, and something to listen to."""
    async with Trader.connect(network.url, wallet, evm=network.bank.url) as trader:
        for token, amount in (("USD", "100000"), ("BTC", "10")):
            await trader.wait_credited(await trader.deposit(token, amount))
        await trader.wait_executed((await trader.authorize()).id)
        await trader.say("BTC-USD", "quoting now")


def first_line(process: subprocess.Popen[str], wanted: str) -> str:
    """The first of the next lines that holds `wanted`; books without quotes come before."""
    assert process.stdout is not None
    for _ in range(LINES_MAX):
        line = process.stdout.readline()
        if wanted in line:
            return line
    raise AssertionError(f"no line with {wanted!r}")


@pytest.mark.cluster
def test_the_market_is_made_and_watched(network: SingleNode, tmp_path: Path) -> None:
    wallet, path = Wallet.create(), tmp_path / "maker.json"
    wallet.save(path, "secret", light=True)
    network.bank.fund(wallet, 10**10)
    trio.run(prepare, network, wallet)
    watching = subprocess.Popen(
        [sys.executable, "-u", str(ROOT / "docs/examples/watch.py"), network.url, "BTC-USD"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert "quoting now" in first_line(watching, "quoting now")
    words = [network.url, str(path), "BTC-USD", "70000"]
    assert run("market_maker", *words, OUTCRY_PASSPHRASE="secret") == ""
    seen = first_line(watching, "69990")
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=STEP_TIMEOUT_S)
    assert seen.startswith("BTC-USD: 69990 / 70010")
