"""A wallet keeps its two keys in one file and gives the same account everywhere."""

from pathlib import Path

import pytest

from client import InvalidKey, Wallet, WalletExists, WalletInvalid, parse_address
from primitives import keystore

SECRET = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"  # every development chain's first account


def test_an_evm_key_gives_its_known_address() -> None:
    assert Wallet.from_hex("0x" + SECRET).address == ADDRESS


def test_the_same_evm_key_gives_the_same_trading_key() -> None:
    assert Wallet.from_hex(SECRET).trading.public == Wallet.from_hex(SECRET).trading.public
    assert Wallet.from_hex(SECRET).trading.public != Wallet.create().trading.public


def test_a_saved_wallet_comes_back_whole(tmp_path: Path) -> None:
    wallet, path = Wallet.create(), tmp_path / "wallet.json"
    wallet.save(path, "secret", light=True)
    loaded = Wallet.load(path, "secret")
    assert (loaded.account, loaded.trading.public) == (wallet.account, wallet.trading.public)
    assert path.stat().st_mode & 0o077 == 0


def test_a_wallet_is_never_overwritten_by_accident(tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    Wallet.create().save(path, "", light=True)
    with pytest.raises(WalletExists):
        Wallet.create().save(path, "", light=True)
    Wallet.create().save(path, "", replace=True, light=True)


def test_another_keystore_is_no_wallet(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keystore.write(path, {"consensus": bytes(32)}, "", scrypt_n=2)
    with pytest.raises(WalletInvalid, match="wallet new"):
        Wallet.load(path, "")


def test_a_new_trading_key_leaves_the_account_alone() -> None:
    wallet = Wallet.create()
    rotated = wallet.with_new_trading_key()
    assert rotated.account == wallet.account
    assert rotated.trading.public != wallet.trading.public


@pytest.mark.parametrize("text", ["", "0x12", "zz" * 32, "00" * 32, "ff" * 32])
def test_what_is_no_private_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey):
        Wallet.from_hex(text)


def test_an_address_is_read_in_any_case_but_with_its_checksum() -> None:
    wanted = bytes.fromhex(ADDRESS[2:])
    assert parse_address(ADDRESS) == parse_address(ADDRESS.lower()) == wanted
    with pytest.raises(InvalidKey, match="checksum"):
        parse_address(ADDRESS.replace("f39F", "F39f"))


@pytest.mark.parametrize("text", ["", "0x", ADDRESS[2:], ADDRESS + "00", "0x" + "g" * 40])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidKey):
        parse_address(text)


def test_the_keys_do_not_show_when_printed() -> None:
    assert SECRET not in repr(Wallet.from_hex(SECRET))
