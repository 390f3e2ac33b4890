"""Configuration, keys and genesis: what is wrong is named before anything starts."""

import msgspec
import pytest

from exchange.network import NetworkGenesis
from node.config import load_config, split_listen
from node.faults import ConfigInvalid, GenesisInvalid, KeysMismatch
from node.genesis import agreement, check_genesis, load_genesis, save_genesis
from node.keys import create_keys, load_keys, save_keys
from primitives import document, keystore
from tests.genesis import make_genesis

GOOD = """
[node]
name = "v0"
[evm]
endpoints = ["http://127.0.0.1:8545"]
"""


def write(tmp_path, text):
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_a_short_configuration_gets_sane_defaults(tmp_path):
    config = load_config(write(tmp_path, GOOD))
    assert config.node.role == "validator"
    assert config.path("genesis.json") == tmp_path / "genesis.json"
    assert config.timing.timing().block_interval_ms > 0


@pytest.mark.parametrize(
    "text",
    [
        "not toml [",
        "[node]\nname = 'v0'\n",
        GOOD + "[nodes]\nx = 1\n",
        GOOD.replace('"v0"', "5"),
        GOOD.replace('name = "v0"', 'name = "v0"\nrole = "king"'),
        GOOD + '[api]\nlisten = "127.0.0.1:99999"\n',
        GOOD + '[api]\nlisten = "no port"\n',
        GOOD + "[timing]\nblock_interval_ms = 0\n",
        "directory = '/'\n" + GOOD,
        "\x00",
        "#" * 70_000,
    ],
)
def test_a_wrong_configuration_is_refused_with_its_name(tmp_path, text):
    with pytest.raises(ConfigInvalid, match=r"config\.toml"):
        load_config(write(tmp_path, text))


def test_a_missing_configuration_says_how_to_make_one(tmp_path):
    with pytest.raises(ConfigInvalid, match="outcry init"):
        load_config(tmp_path / "none.toml")


def test_a_listen_address_may_be_ipv6():
    assert split_listen("[::1]:80") == ("::1", 80)
    assert split_listen("127.0.0.1:0") == ("127.0.0.1", 0)


def test_a_genesis_survives_its_file_and_keeps_its_network(tmp_path):
    genesis = make_genesis()
    save_genesis(tmp_path / "genesis.json", genesis)
    loaded = load_genesis(tmp_path / "genesis.json")
    assert loaded == genesis
    assert loaded.network_id() == genesis.network_id()
    assert len(agreement(loaded).committee) == 4


def test_any_change_of_the_genesis_is_another_network():
    genesis = make_genesis()
    other = msgspec.structs.replace(genesis, time_ms=2)
    assert other.network_id() != genesis.network_id()


def bad_geneses():
    good = make_genesis()
    first, second = good.validators[:2]
    thief = msgspec.structs.replace(second, anchor_proof=first.anchor_proof)
    twin = msgspec.structs.replace(second, consensus=first.consensus)
    market = good.exchange.markets[0]
    lost = msgspec.structs.replace(market, quote=5)
    for name, genesis in {
        "possession": msgspec.structs.replace(good, validators=[first, thief]),
        "twin": msgspec.structs.replace(good, validators=[first, twin]),
        "powers": msgspec.structs.replace(good, validators=[first, second]),
        "contracts": msgspec.structs.replace(good, contracts=[]),
        "market": msgspec.structs.replace(
            good, exchange=msgspec.structs.replace(good.exchange, markets=[lost])
        ),
        "symbol": msgspec.structs.replace(
            good, exchange=msgspec.structs.replace(good.exchange, markets=[market, market])
        ),
    }.items():
        yield pytest.param(genesis, id=name)


@pytest.mark.parametrize("genesis", list(bad_geneses()))
def test_a_genesis_that_does_not_hold_together_is_refused(genesis):
    with pytest.raises(GenesisInvalid):
        check_genesis(genesis)


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"name": "x"}', b" " * 2_000_000])
def test_a_file_that_is_no_genesis_is_refused(tmp_path, data):
    (tmp_path / "genesis.json").write_bytes(data)
    with pytest.raises(GenesisInvalid):
        load_genesis(tmp_path / "genesis.json")


def test_a_document_names_the_field_that_is_wrong():
    value = document.render(make_genesis())
    value["validators"][1]["evm"] = "0xzz"
    with pytest.raises(Exception, match=r"validators\[1\]\.evm") as caught:
        document.parse(NetworkGenesis, value)
    assert caught.value.code == "E001"


def test_keys_survive_their_keystore(tmp_path):
    keys = create_keys()
    save_keys(tmp_path / "keys.json", keys, "pass", scrypt_n=16)
    assert load_keys(tmp_path / "keys.json", "pass") == keys
    assert keys.peer_id().startswith("12D3KooW")


def test_a_keystore_of_something_else_is_refused(tmp_path):
    keystore.write(tmp_path / "keys.json", {"wallet": b"x"}, "pass", scrypt_n=16)
    with pytest.raises(KeysMismatch, match="outcry init"):
        load_keys(tmp_path / "keys.json", "pass")
