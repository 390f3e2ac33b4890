"""The three formulas that the exchange and its contracts must compute alike.

All of them are keccak-256 over 32-byte words as Solidity's `abi.encode` lays them out, so a
contract needs no packing code. `settlement/contracts/Vault.vy` holds the other half; a test
runs both against each other.
"""

from typing import Final

from eth_hash.auto import keccak as _keccak

WORD_BYTES: Final = 32
EMPTY_ACCUMULATOR: Final = bytes(WORD_BYTES)
WITHDRAWAL_TREE_DEPTH_MAX: Final = 8  # more than 256 withdrawals wait for the next rollup block

_LEAF: Final = b"\x00"
_ROLLUP_DOMAIN: Final = _keccak(b"outcry/rollup/1")


def keccak(data: bytes) -> bytes:
    """Keccak-256 of `data`, 32 bytes (the EVM's hash, not NIST SHA-3)."""
    return _keccak(data)


def word(value: int | bytes) -> bytes:
    """`value` as one 32-byte ABI word: integers big-endian, addresses left-padded.

    Errors: OverflowError for integers outside 0..2^256-1, ValueError for more than 32 bytes.
    """
    if isinstance(value, int):
        return value.to_bytes(WORD_BYTES, "big")
    if len(value) > WORD_BYTES:
        raise ValueError(f"{len(value)} bytes do not fit one word")
    return value.rjust(WORD_BYTES, b"\x00")


def deposit_accumulator(
    previous: bytes, index: int, account: bytes, token: int, units: int
) -> bytes:
    """The running hash of all deposits after deposit number `index` (from 0).

    `units` are the exchange's units of `token`, not the ERC-20's smallest unit.
    """
    return _keccak(previous + word(index) + word(account) + word(token) + word(units))


def withdrawal_leaf(number: int, index: int, account: bytes, token: int, units: int) -> bytes:
    """The leaf of withdrawal `index` in the keccak tree of rollup block `number`.

    A leaf begins with 0x00 and an inner node with 0x01, so neither can pass for the other.
    """
    return _keccak(_LEAF + word(number) + word(index) + word(account) + word(token) + word(units))


def rollup_digest(
    chain_id: int,
    vault: bytes,
    number: int,
    height: int,
    state_root: bytes,
    withdrawal_root: bytes,
    deposits: int,
    accumulator: bytes,
) -> bytes:
    """What validators sign for rollup block `number`; `deposits` counts those consumed so far."""
    return _keccak(
        _ROLLUP_DOMAIN
        + word(chain_id)
        + word(vault)
        + word(number)
        + word(height)
        + state_root
        + withdrawal_root
        + word(deposits)
        + accumulator
    )
