"""The rollup block that validators sign for the vault.

    statement = RollupStatement(chain_id, vault, 1, height, state_root, withdrawal_root, ...)
    signature = sign_rollup(evm_secret, statement)
    assert recover_rollup_signer(statement, signature) == address

Its digest binds the chain and the vault, so a signature is of no use anywhere else.
"""

from primitives import anchors, secp256k1
from primitives.codec import Bytes20, Bytes32, Record, Unsigned
from settlement.faults import BadRollupSignature


class RollupStatement(Record):
    """Rollup block `number`: the exchange after `height`, and what may be withdrawn.

    `deposits` counts the deposits that the exchange has consumed so far; `accumulator` is the
    running hash of exactly those. `number` counts from 1 without gaps.
    """

    chain_id: Unsigned
    vault: Bytes20
    number: Unsigned
    height: Unsigned
    state_root: Bytes32
    withdrawal_root: Bytes32
    deposits: Unsigned
    accumulator: Bytes32

    def digest(self) -> bytes:
        """The 32 bytes that a validator's EVM key signs."""
        return anchors.rollup_digest(
            self.chain_id,
            self.vault,
            self.number,
            self.height,
            self.state_root,
            self.withdrawal_root,
            self.deposits,
            self.accumulator,
        )


def sign_rollup(key: bytes, statement: RollupStatement) -> bytes:
    """The 65-byte signature r || s || v (v 27 or 28, low s) by the 32-byte secret `key`."""
    return secp256k1.EvmKey(key).sign(statement.digest())


def recover_rollup_signer(statement: RollupStatement, signature: bytes) -> bytes:
    """The 20-byte address that signed `statement`; whether it is a validator, the caller knows.

    Errors: `BadRollupSignature`.
    """
    signer = secp256k1.recover(statement.digest(), signature)
    if signer is None:
        raise BadRollupSignature
    return signer
