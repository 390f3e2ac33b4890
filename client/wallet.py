"""A trader's two keys: the EVM key that owns the account, and the key that signs orders.

    wallet = Wallet.create()
    wallet.save(path, passphrase)             # takes a second on purpose: use a thread
    wallet = Wallet.load(path, passphrase)

Only the EVM key can move money on chain and authorise trading keys. The Ed25519 trading key
signs envelopes; whoever steals it can do what it was authorised for and nothing else.
"""

import secrets
from pathlib import Path
from typing import Any, Self

from client.faults import InvalidKey, WalletExists, WalletInvalid
from primitives import keystore
from primitives.ed25519 import SigningKey
from primitives.hashing import digest
from primitives.secp256k1 import ADDRESS_BYTES, SECRET_BYTES, EvmKey, checksum_address

_EVM, _TRADING = "evm", "trading"
_DERIVED = "outcry/trading-key/1"
_DEVELOPMENT_SCRYPT_N = 1 << 12


class Wallet:
    """The keys of one account. `evm` owns it, `trading` signs for it."""

    __slots__ = ("_trading_seed", "evm", "trading")

    def __init__(self, evm_secret: bytes, trading_seed: bytes) -> None:
        """Errors: `InvalidKey` unless both are 32 bytes that make a key."""
        try:
            self.evm = EvmKey(evm_secret)
            self.trading = SigningKey(trading_seed)
        except ValueError as error:
            raise InvalidKey(f"not a private key ({error}); it has 32 bytes") from None
        self._trading_seed = trading_seed

    @classmethod
    def create(cls) -> Self:
        """Two fresh keys from the operating system's randomness."""
        return cls(secrets.token_bytes(SECRET_BYTES), secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """The wallet of an EVM private key in hex, with or without 0x.

        The trading key is derived from it one way, so the same EVM key gives the same wallet on
        every machine, and a stolen trading key says nothing about the EVM key.
        Errors: `InvalidKey`.
        """
        digits = text.strip().removeprefix("0x")
        try:
            secret = bytes.fromhex(digits)
        except ValueError:
            secret = b""
        if len(secret) != SECRET_BYTES:
            raise InvalidKey("not a private key; it is 64 hex digits, with or without 0x before")
        return cls(secret, digest(_DERIVED, bytes(32), secret))

    @classmethod
    def load(cls, path: Path | str, passphrase: str) -> Self:
        """The wallet in a keystore file.

        Errors: `KeystoreUnreadable`, `WrongPassphrase`, `WalletInvalid`.
        """
        named = keystore.read(Path(path), passphrase)
        if set(named) != {_EVM, _TRADING}:
            raise WalletInvalid(
                f"{path} holds other keys than a wallet's; create one with: outcry wallet new"
            )
        return cls(named[_EVM], named[_TRADING])

    def save(
        self, path: Path | str, passphrase: str, *, replace: bool = False, light: bool = False
    ) -> None:
        """Write the keystore, readable by its owner only.

        `light` spends less on the passphrase, for development networks.
        Errors: `WalletExists` unless `replace`.
        """
        if not replace and Path(path).exists():
            raise WalletExists(path)
        named = {_EVM: self.evm.secret, _TRADING: self._trading_seed}
        if light:
            keystore.write(Path(path), named, passphrase, scrypt_n=_DEVELOPMENT_SCRYPT_N)
        else:
            keystore.write(Path(path), named, passphrase)

    @property
    def account(self) -> bytes:
        """The 20 bytes of the account's address."""
        return self.evm.address

    @property
    def address(self) -> str:
        """The account's address as people write it (EIP-55)."""
        return checksum_address(self.evm.address)

    def with_new_trading_key(self) -> "Wallet":
        """The same account with a fresh trading key, which its owner must authorise."""
        return Wallet(self.evm.secret, secrets.token_bytes(SECRET_BYTES))

    def sign_transaction(self, fields: dict[str, Any]) -> bytes:
        """The raw bytes of an EVM transaction; `fields` as eth-account takes them."""
        # Half a second to import, and most commands never sign a transaction.
        from eth_account import Account

        return bytes(Account.sign_transaction(fields, self.evm.secret).raw_transaction)

    def __repr__(self) -> str:
        return f"Wallet(address={self.address})"


def parse_address(text: str) -> bytes:
    """The 20 bytes of an address in hex; a mixed-case one must have its checksum right.

    Errors: `InvalidKey`.
    """
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        address = b""
    if not text.startswith("0x") or len(address) != ADDRESS_BYTES:
        raise InvalidKey(f"{text[:60]!r} is not an address; it is 0x and 40 hex digits")
    mixed = text[2:] not in (text[2:].lower(), text[2:].upper())
    if mixed and checksum_address(address) != text:
        raise InvalidKey(f"the checksum of {text} is wrong; copy the address again")
    return address
