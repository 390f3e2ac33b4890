"""A key file: named secrets under AES-256-GCM, the key derived by scrypt.

    keystore.write(path, {"consensus": seed}, passphrase)
    secrets = keystore.read(path, passphrase)

The file is JSON with the parameters beside the ciphertext, mode 0600, replaced atomically.
scrypt takes about a second on purpose: call these from a worker thread.

LocalFault
  KeystoreUnreadable   E010  missing, damaged, or not a keystore
  WrongPassphrase      E011  the passphrase does not open it
"""

import os
import secrets as randomness
from collections.abc import Mapping
from hashlib import scrypt
from pathlib import Path
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from primitives.durable import replace_file
from primitives.faults import LocalFault

FILE_BYTES_MAX = 65_536  # larger: refused with E010
SCRYPT_ROUNDS_MAX = 1 << 20  # a file that asks for more is refused with E010
_SCRYPT_MEMORY_BYTES_MAX = 2**31 - 1  # the most that OpenSSL's binding takes
_FORMAT = "outcry/keystore/1"


class KeystoreUnreadable(LocalFault):
    """The key file is missing, damaged, or not a keystore."""

    code = "E010"


class WrongPassphrase(LocalFault):
    """The passphrase does not open this keystore."""

    code = "E011"


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    scrypt_n: Annotated[int, msgspec.Meta(ge=2, le=SCRYPT_ROUNDS_MAX)]
    scrypt_r: Annotated[int, msgspec.Meta(ge=1, le=32)]
    scrypt_p: Annotated[int, msgspec.Meta(ge=1, le=16)]
    salt: bytes
    nonce: bytes
    ciphertext: bytes


def write(
    path: Path, secrets: Mapping[str, bytes], passphrase: str, *, scrypt_n: int = 1 << 17
) -> None:
    """Encrypt `secrets` to `path`, replacing what was there only once the new file is safe."""
    salt, nonce = randomness.token_bytes(32), randomness.token_bytes(12)
    header = _File(_FORMAT, scrypt_n, 8, 1, salt, nonce, b"")
    plain = msgspec.msgpack.encode(dict(secrets))
    sealed = AESGCM(_key(header, passphrase)).encrypt(nonce, plain, _bound(header))
    body = msgspec.json.encode(msgspec.structs.replace(header, ciphertext=sealed))
    replace_file(path, body, mode=0o600)


def read(path: Path, passphrase: str) -> dict[str, bytes]:
    """The secrets in the keystore at `path`.

    Errors: `KeystoreUnreadable`, `WrongPassphrase`.
    """
    file = _parse(path)
    try:
        plain = AESGCM(_key(file, passphrase)).decrypt(file.nonce, file.ciphertext, _bound(file))
    except InvalidTag:
        raise WrongPassphrase(
            f"the passphrase does not open {path}; check OUTCRY_PASSPHRASE or the prompt"
        ) from None
    return msgspec.msgpack.decode(plain, type=dict[str, bytes])


def _parse(path: Path) -> _File:
    try:
        if os.stat(path).st_size > FILE_BYTES_MAX:
            raise KeystoreUnreadable(f"{path} is too large to be a keystore")
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise KeystoreUnreadable(f"cannot read {path}: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeystoreUnreadable(f"{path} is not a keystore: {error}") from None
    if file.format != _FORMAT or len(file.nonce) != 12 or file.scrypt_n & (file.scrypt_n - 1):
        raise KeystoreUnreadable(f"{path} is not a keystore of format {_FORMAT}")
    return file


def _key(file: _File, passphrase: str) -> bytes:
    return scrypt(
        passphrase.encode(),
        salt=file.salt,
        n=file.scrypt_n,
        r=file.scrypt_r,
        p=file.scrypt_p,
        maxmem=_SCRYPT_MEMORY_BYTES_MAX,
        dklen=32,
    )


def _bound(file: _File) -> bytes:
    """What the ciphertext is bound to, so that parameters cannot be swapped under it."""
    return msgspec.msgpack.encode(
        (file.format, file.scrypt_n, file.scrypt_r, file.scrypt_p, file.salt)
    )
