"""Every command explains itself with an example, and refuses nonsense with the right exit code."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.main import (
    EXIT_INTERRUPTED,
    EXIT_NOT_THERE,
    EXIT_REFUSED,
    EXIT_WRONG_USE,
    app,
    exit_code,
    explain,
)
from client import AmountOffGrid, NodeUnreachable, RefusedByNode, WalletExists
from primitives.faults import Fault

STEP_TIMEOUT_S = 60
Outcry = Callable[..., Any]
NOBODY = "http://127.0.0.1:9"
HEAVY = {"libp2p", "web3", "eth", "eth_account", "eth_abi", "starlette", "apsw", "trio", "httpx"}


def commands(group: typer.core.TyperGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all commands of the groups below `group`."""
    context = typer.Context(group)  # type: ignore[arg-type]
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        if isinstance(found, typer.core.TyperGroup):
            yield from commands(found, (*path, name))
        else:
            yield (*path, name)


ROOT_GROUP = typer.main.get_group(app)
ALL = list(commands(ROOT_GROUP))


def test_there_are_the_commands_that_a_trader_and_an_operator_need() -> None:
    wanted = {
        *(("wallet", name) for name in ("new", "show", "import", "balance", "deposit", "claim")),
        *(("wallet", name) for name in ("authorize", "revoke")),
        *(("order", name) for name in ("place", "cancel", "cancel-all", "list")),
        *(("chat", name) for name in ("history", "say", "listen")),
        *(("market", name) for name in ("list", "candles")),
        *((name,) for name in ("book", "trades", "account", "withdraw", "status")),
        *((name,) for name in ("init", "doctor")),
        ("node", "run"),
    }
    assert wanted <= set(ALL)


def find(path: tuple[str, ...]) -> typer.core.TyperCommand:
    group = ROOT_GROUP
    context = typer.Context(group)  # type: ignore[arg-type]
    for name in path:
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, typer.core.TyperGroup):
            group = found
    assert isinstance(found, typer.core.TyperCommand)
    return found


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    command = find(path)
    assert command.help
    assert f"outcry {' '.join(path)}" in (command.epilog or "")


@pytest.mark.parametrize("path", [path for path in ALL if path[0] != "devnet"], ids=" ".join)
def test_every_command_that_prints_a_result_can_print_json(path: tuple[str, ...]) -> None:
    names = {name for item in find(path).params for name in item.opts}
    assert "--json" in names or path in {("init",), ("node", "run")}  # prints JSON; a service


def test_help_is_shown_by_the_command_itself(outcry: Outcry) -> None:
    done = outcry("order", "place", "--help")
    assert done.code == 0
    assert "Example: outcry order place XOM-USD buy 5 1.05" in done.out


def test_the_version_is_shown(outcry: Outcry) -> None:
    done = outcry("--version")
    assert (done.code, done.out.split()[0]) == (0, "outcry")


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\nsys.argv = ['outcry', '--help']\nfrom cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "print('LOADED', *(name for name in sys.modules if '.' not in name))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=True,
    )
    loaded = set(done.stdout.split("LOADED", 1)[1].split())
    assert "Usage" in done.stdout
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["order", "place"],
        ["order", "place", "BTC-USD", "hold", "1"],
        ["order", "place", "BTC-USD", "buy", "1", "--lifetime", "soon"],
        ["book", "BTC-USD", "--depth", "0"],
        ["book", "BTC-USD", "--depth", "many"],
        ["book", "BTC-USD", "--node", "localhost"],
        ["market", "candles", "BTC-USD", "--interval", "3m"],
        ["withdraw", "USD", "1", "--claim"],
        ["account", "0x12"],
        ["account", "--wallet", "missing.json"],
        ["wallet", "authorize", "--scope", "everything"],
        ["wallet", "revoke", "key"],
        ["trades", "BTC-USD", "--mine", "--follow"],
        ["init", "--name", "Not A Name"],
        ["init", "--name", "alice", "--p2p", "nowhere"],
        ["node", "run"],
        ["doctor"],
    ],
    ids=" ".join,
)
def test_nonsense_is_wrong_use(words: list[str], outcry: Outcry) -> None:
    done = outcry(*words)
    assert done.code == EXIT_WRONG_USE, done.out + done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "words", [["status"], ["book", "BTC-USD"], ["market", "list"], ["chat", "history", "BTC-USD"]]
)
def test_a_network_that_is_not_there_is_exit_code_3(words: list[str], outcry: Outcry) -> None:
    done = outcry(*words, "--node", f"{NOBODY},{NOBODY}")
    assert done.code == EXIT_NOT_THERE, done.err
    assert done.err.startswith("error E442: no node answered at ")
    assert "\n  next: " in done.err


def test_a_wallet_is_made_shown_and_never_overwritten(outcry: Outcry) -> None:
    made = outcry("wallet", "new", "--light", "--json")
    assert made.code == 0, made.err
    told = json.loads(made.out)
    shown = json.loads(outcry("wallet", "show", "--json").out)
    assert shown == told
    again = outcry("wallet", "new", "--light")
    assert again.code == EXIT_REFUSED
    assert again.err.startswith("error E465: outcry-wallet.json exists\n  next: choose another")


def test_a_key_is_imported_from_standard_input(
    outcry: Outcry, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(key))
    done = outcry("wallet", "import", "--light", "--json")
    assert json.loads(done.out)["address"] == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    monkeypatch.setattr(sys, "stdin", io.StringIO("12\n"))
    wrong = outcry("wallet", "import", "--wallet", "b.json")
    assert wrong.code == EXIT_WRONG_USE
    assert "E463" in wrong.err


def test_a_wrong_passphrase_is_refused_with_a_sentence(
    outcry: Outcry, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcry("wallet", "new", "--light")
    monkeypatch.setenv("OUTCRY_PASSPHRASE", "other")
    done = outcry("wallet", "show")
    assert done.code == EXIT_REFUSED
    assert done.err.startswith("error E011: ")


def test_a_passphrase_that_cannot_be_asked_for_is_wrong_use(
    outcry: Outcry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("OUTCRY_PASSPHRASE")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    done = outcry("wallet", "new")
    assert done.code == EXIT_WRONG_USE
    assert "OUTCRY_PASSPHRASE" in done.err
    assert not (tmp_path / "outcry-wallet.json").exists()


def test_a_reader_that_goes_away_is_no_error(outcry: Outcry, tmp_path: Path) -> None:
    outcry("wallet", "new", "--light")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "wallet", "show", "--json"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""


def test_an_interruption_ends_a_command_quietly(tmp_path: Path) -> None:
    """Ctrl-C while a command waits for a node that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [sys.executable, "-m", "cli.main", "status", "--node"]
        process = subprocess.Popen(
            [*command, f"http://127.0.0.1:{silent.getsockname()[1]}"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(STEP_TIMEOUT_S)
        silent.accept()[0].close()
        silent.accept()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=STEP_TIMEOUT_S)
    assert process.returncode == EXIT_INTERRUPTED
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (NodeUnreachable("x", "y"), EXIT_NOT_THERE),
        (AmountOffGrid("x"), EXIT_WRONG_USE),
        (RefusedByNode("E105", "no money", "deposit"), EXIT_REFUSED),
        (WalletExists("x"), EXIT_REFUSED),
    ],
)
def test_a_fault_has_its_exit_code(fault: Fault, code: int) -> None:
    assert exit_code(fault) == code


def test_a_refusal_is_told_as_a_colleague_would() -> None:
    fault = RefusedByNode("E105", "this needs 5 units; 3 are free", "deposit first")
    assert explain(fault) == ("error E105: this needs 5 units; 3 are free\n  next: deposit first")
    assert explain(AmountOffGrid("it does not fit; try 3")) == (
        "error E460: it does not fit\n  next: try 3"
    )
    assert explain(AmountOffGrid("it does not fit")) == "error E460: it does not fit"
