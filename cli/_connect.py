"""From options to an open wallet and a connected client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli._options import endpoints, passphrase
from cli._output import progress

if TYPE_CHECKING:
    from client import Submission, Trader, Viewer, Wallet


def open_wallet(path: Path) -> "Wallet":
    """The wallet in a keystore file; asks for the passphrase where the environment has none.

    Errors: `KeystoreUnreadable`, `WrongPassphrase`, `WalletInvalid`.
    """
    from client import Wallet, WalletInvalid

    if not path.exists():
        raise WalletInvalid(f"there is no wallet at {path}; create one with: outcry wallet new")
    given = passphrase()
    with progress("opening the wallet"):
        return Wallet.load(path, given)


@asynccontextmanager
async def open_viewer(node: str) -> "AsyncIterator[Viewer]":
    """A reader's view of the network. Errors: those of `Viewer.connect`."""
    from client import Viewer

    async with Viewer.connect(endpoints(node)) as viewer:
        yield viewer


@asynccontextmanager
async def open_trader(node: str, wallet: "Wallet", evm: str = "") -> "AsyncIterator[Trader]":
    """A trader on the network. Errors: those of `Trader.connect`."""
    from client import Trader

    chain = endpoints(evm) if evm else []
    async with Trader.connect(endpoints(node), wallet, evm=chain) as trader:
        yield trader


async def finish(trader: "Trader", sent: "Submission", *, wait: bool) -> dict[str, object]:
    """What to tell about an envelope that was accepted, after its execution if `wait`.

    Errors: `RefusedByNode` when it, or its only action, was refused when its turn came.
    """
    told: dict[str, object] = {"envelope": "0x" + sent.id.hex(), "last_valid": sent.last_valid}
    if not wait:
        return told | {"state": "accepted"}
    with progress("waiting until it is executed"):
        done = await trader.wait_executed(sent.id)
    trader.check_actions(done)
    return told | {"state": done.state, "height": done.height, "position": done.position}
