"""Moving a validator from the command line: one copy signs, and the operator is told what to do."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from consensus import ONCE_KINDS
from exchange.genesis import ExchangeGenesis, Market, Token
from exchange.network import NetworkGenesis, TokenContract
from node.config import load_config
from node.genesis import save_genesis
from node.keys import NodeKeys, create_keys, load_keys, save_keys
from node.opening import open_node
from storage import BlockRow, ChainRecord, Index, Journal

Outcry = Callable[..., Any]
EPOCH_MS = 60_000

CONFIG = """
[node]
name = "alice"
role = "{role}"
[p2p]
listen = "127.0.0.1:0"
[api]
listen = "127.0.0.1:0"
[evm]
endpoints = ["http://127.0.0.1:9"]
"""


class Validator:
    """A node's files: keystore, genesis, configuration, and a journal when one is written."""

    def __init__(self, folder: Path, keys: NodeKeys, genesis: NetworkGenesis) -> None:
        folder.mkdir()
        self.config = folder / "node.toml"
        self.config.write_text(CONFIG.format(role="validator"))
        self.data = folder / "data"
        self.network = genesis.network_id()
        self.public = keys.signing().public
        save_keys(folder / "keys.json", keys, "secret", scrypt_n=1 << 4)
        save_genesis(folder / "genesis.json", genesis)

    def journal(self, owner: bytes | None = None) -> Journal:
        self.data.mkdir(exist_ok=True)
        path = self.data / "journal.db"
        once = [*ONCE_KINDS, "rollup"]
        return Journal.open(path, owner or self.public, self.network, once=once)

    def sign(self, first: int, last: int) -> None:
        """Votes and reports for slots `first` to `last` of epoch 2, and as many rollups."""
        journal = self.journal()
        for number in range(first, last + 1):
            key = number.to_bytes(8, "big")
            slot = (2).to_bytes(8, "big") + key
            journal.write([("vote", slot, b"v"), ("report", slot, b"r"), ("rollup", key, b"d")])
        journal.write([("safety", b"", b"state")])
        journal.close()

    def record_block(self) -> None:
        """A block in the index: this validator has history."""
        self.data.mkdir(exist_ok=True)
        index = Index.open(self.data / "index.db", self.network)
        index.record_block(ChainRecord(BlockRow(1, bytes(36), bytes(36), 1, bytes(32))))
        index.close()


def genesis_of(keys: NodeKeys, name: str = "test") -> NetworkGenesis:
    validator = keys.public("alice", 100)
    exchange = ExchangeGenesis(
        chain_id=31_337,
        tokens=[Token("USD", 4), Token("BTC", 6)],
        markets=[Market("BTC-USD", 1, 0, 100, 1, 0, 0)],
        fee_account=bytes(20),
        powers=[100],
        rollup_interval_ms=1_000,
    )
    contracts = [TokenContract(bytes(19) + bytes([i]), 1) for i in (1, 2)]
    return NetworkGenesis(name, 1, exchange, [validator], bytes(20), 0, contracts, EPOCH_MS)


@pytest.fixture
def keys() -> NodeKeys:
    return create_keys()


@pytest.fixture
def old(tmp_path: Path, keys: NodeKeys) -> Validator:
    """The machine on which the validator has run."""
    validator = Validator(tmp_path / "old", keys, genesis_of(keys))
    validator.sign(1, 7)
    return validator


@pytest.fixture
def new(tmp_path: Path, keys: NodeKeys) -> Validator:
    """The machine to which it moves: keystore, genesis and configuration, nothing else."""
    return Validator(tmp_path / "new", keys, genesis_of(keys))


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with structlog.testing.capture_logs() as logs:
        yield logs


def show(outcry: Outcry, validator: Validator) -> dict[str, Any]:
    done = outcry("journal", "show", "--config", str(validator.config), "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def export(outcry: Outcry, validator: Validator, *words: str) -> Any:
    return outcry("journal", "export", "--config", str(validator.config), "--to", "moved", *words)


def take(outcry: Outcry, validator: Validator, *words: str) -> Any:
    return outcry("journal", "import", "--config", str(validator.config), "--from", "moved", *words)


def opened(validator: Validator) -> bool:
    """Open the node as `outcry node run` does; whether its journal waits."""

    async def main() -> bool:
        config = load_config(validator.config)
        keys = load_keys(config.path(config.node.keystore), "secret")
        async with open_node(config, keys) as (_, journal):
            assert journal is not None
            return journal.watch

    return trio.run(main)


def test_a_journal_is_shown(outcry: Outcry, old: Validator) -> None:
    found = show(outcry, old)
    assert found["owner"] == "0x" + old.public.hex()
    assert found["network"] == "0x" + old.network.hex()
    assert (found["sealed"], found["watch"]) == (False, False)
    last = {item["kind"]: item["last"] for item in found["kinds"]}
    assert last["vote"] == {"epoch": 2, "round": 7}
    assert last["report"] == {"epoch": 2, "sequence": 7}
    assert last["rollup"] == {"number": 7}
    assert last["proposal"] is None
    assert last["safety"] is None


def test_text_says_the_same(outcry: Outcry, old: Validator) -> None:
    done = outcry("journal", "show", "--config", str(old.config))
    assert done.code == 0, done.err
    assert "state      may sign" in done.out
    assert "vote       7 kept, last epoch 2 round 7" in done.out


def test_a_validator_moves(outcry: Outcry, old: Validator, new: Validator) -> None:
    done = export(outcry, old)
    assert done.code == 0, done.err
    assert "outcry journal import --config FILE --from moved" in done.out
    assert show(outcry, old)["sealed"]
    done = take(outcry, new)
    assert done.code == 0, done.err
    assert "waits: signs nothing until the next epoch has begun" in done.out
    found = show(outcry, new)
    assert (found["sealed"], found["watch"]) == (False, True)
    assert found["kinds"] == show(outcry, old)["kinds"]
    assert opened(new)


def test_both_commands_can_print_json(outcry: Outcry, old: Validator, new: Validator) -> None:
    assert json.loads(export(outcry, old, "--json").out)["sealed"]
    assert json.loads(take(outcry, new, "--json").out)["watch"]


def test_an_exported_validator_does_not_start(
    outcry: Outcry, outcry_process: Outcry, old: Validator
) -> None:
    assert export(outcry, old).code == 0
    done = outcry_process("node", "run", "--config", str(old.config), OUTCRY_PASSPHRASE="secret")
    assert done.code == 1
    assert "error E616: " in done.err
    assert "next: start the validator where the export was imported" in done.err
    assert "outcry journal resume --copy-never-started" in done.err
    assert "Traceback" not in done.err


def test_a_validator_does_not_start_on_another_keys_journal(
    outcry: Outcry, outcry_process: Outcry, new: Validator
) -> None:
    new.journal(owner=bytes(32)).close()
    done = outcry_process("node", "run", "--config", str(new.config), OUTCRY_PASSPHRASE="secret")
    assert done.code == 1
    assert "error E610: " in done.err
    assert "Traceback" not in done.err
    for words in (["show"], ["export", "--to", "moved"]):
        done = outcry("journal", *words, "--config", str(new.config))
        assert (done.code, done.err[:11]) == (1, "error E610:"), done.err
    assert not (new.config.parent.parent / "moved").exists()


def test_another_validators_export_is_refused(
    outcry: Outcry, tmp_path: Path, old: Validator, new: Validator
) -> None:
    assert export(outcry, old).code == 0
    other = create_keys()
    done = take(outcry, Validator(tmp_path / "other", other, genesis_of(other)))
    assert (done.code, done.err[:11]) == (1, "error E618:"), done.err
    save_genesis(new.config.parent / "genesis.json", genesis_of(create_keys(), "elsewhere"))
    done = take(outcry, new)
    assert (done.code, done.err[:11]) == (1, "error E618:"), done.err
    assert not (new.data / "journal.db").exists()


def test_a_damaged_export_is_refused(outcry: Outcry, old: Validator, new: Validator) -> None:
    assert export(outcry, old).code == 0
    moved = new.config.parent.parent / "moved"
    moved.write_bytes(moved.read_bytes()[:-1])
    done = take(outcry, new)
    assert (done.code, done.err[:11]) == (1, "error E617:"), done.err
    assert "next: copy it again" in done.err


def test_a_journal_that_signed_more_stays(outcry: Outcry, old: Validator, new: Validator) -> None:
    new.sign(1, 8)
    assert export(outcry, old).code == 0
    done = take(outcry, new)
    assert (done.code, done.err[:11]) == (1, "error E619:"), done.err
    assert not show(outcry, new)["watch"]


def test_nothing_is_exported_over_another_file(outcry: Outcry, old: Validator) -> None:
    (old.config.parent.parent / "moved").write_text("precious")
    done = export(outcry, old)
    assert (done.code, done.err[:11]) == (1, "error E627:"), done.err
    assert not show(outcry, old)["sealed"]


def test_a_running_node_keeps_its_journal(outcry: Outcry, old: Validator, new: Validator) -> None:
    assert export(outcry, old).code == 0
    running = new.journal()
    for done in (
        outcry("journal", "show", "--config", str(new.config)),
        outcry("journal", "export", "--config", str(new.config), "--to", "other"),
        outcry("journal", "resume", "--config", str(new.config), "--copy-never-started"),
        take(outcry, new),
    ):
        assert (done.code, done.err[:11]) == (1, "error E613:"), done.err
        assert "next: stop that process first" in done.err
    running.close()


def test_there_may_be_no_journal(outcry: Outcry, new: Validator) -> None:
    done = outcry("journal", "show", "--config", str(new.config))
    assert (done.code, done.err[:11]) == (1, "error E614:"), done.err
    assert "outcry journal import" in done.err


def test_a_wrong_passphrase_changes_nothing(
    outcry: Outcry, old: Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("OUTCRY_PASSPHRASE", "other")
        done = export(outcry, old)
    assert (done.code, done.err[:11]) == (1, "error E011:"), done.err
    assert not show(outcry, old)["sealed"]


def test_a_gateway_has_no_journal(outcry: Outcry, new: Validator) -> None:
    new.config.write_text(CONFIG.format(role="gateway"))
    assert outcry("journal", "show", "--config", str(new.config)).code == 2


def test_an_export_is_undone_only_by_who_says_so(outcry: Outcry, old: Validator) -> None:
    assert export(outcry, old).code == 0
    words = ["journal", "resume", "--config", str(old.config)]
    assert outcry(*words).code == 2
    assert show(outcry, old)["sealed"]
    done = outcry(*words, "--copy-never-started")
    assert done.code == 0, done.err
    found = show(outcry, old)
    assert (found["sealed"], found["watch"]) == (False, True)


def test_keys_that_were_copied_without_their_journal_wait(new: Validator) -> None:
    (new.config.parent / "keys.json.unused").unlink()
    assert opened(new)


def test_fresh_keys_do_not_wait_and_lose_their_note_at_the_first_start(new: Validator) -> None:
    assert not opened(new)
    assert not (new.config.parent / "keys.json.unused").exists()
    (new.data / "journal.db").unlink()
    (new.data / "index.db").unlink()
    assert opened(new), "these keys may have signed"


def test_a_new_validator_does_not_wait(new: Validator, told: list[Any]) -> None:
    assert not opened(new)
    assert [item for item in told if item["event"] == "journal_watches"] == []


def test_a_restarted_validator_does_not_wait(old: Validator) -> None:
    old.record_block()
    assert not opened(old)


def test_a_validator_with_blocks_and_no_journal_waits(new: Validator, told: list[Any]) -> None:
    new.record_block()
    assert opened(new)
    (warned,) = (item for item in told if item["event"] == "journal_watches")
    assert warned["log_level"] == "warning"
    assert "signs nothing until the next epoch has begun" in warned["meaning"]
