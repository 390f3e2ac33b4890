# pragma version 0.4.3
# pragma evm-version prague
"""
@title The exchange's vault
@license Apache-2.0
@notice Takes deposits, commits rollup blocks that more than two thirds of the validators
    signed, and pays each withdrawal of a committed block once.
@dev `primitives/anchors.py` and `primitives/keccak_tree.py` hold the other half of every
    formula here; the tests run both against each other. Amounts are exchange units; a token's
    scale turns them into the ERC-20's smallest unit. There is no owner and no upgrade.
"""

from ethereum.ercs import IERC20

struct Rollup:
    height: uint256
    state_root: bytes32
    withdrawal_root: bytes32
    deposits: uint256
    accumulator: bytes32

event Deposit:
    index: indexed(uint256)
    account: indexed(address)
    token: uint256
    units: uint256
    accumulator: bytes32

event RollupCommitted:
    number: indexed(uint256)
    height: uint256
    state_root: bytes32
    withdrawal_root: bytes32
    deposits: uint256
    accumulator: bytes32

event Withdrawn:
    number: indexed(uint256)
    index: indexed(uint256)
    account: indexed(address)
    token: uint256
    units: uint256

VALIDATORS_MAX: constant(uint256) = 32
TOKENS_MAX: constant(uint256) = 16
PROOF_NODES_MAX: constant(uint256) = 8  # anchors.WITHDRAWAL_TREE_DEPTH_MAX
UNITS_LIMIT: constant(uint256) = 2**63
SCALE_MAX: constant(uint256) = 2**128  # times 2^63 units stays far below 2^256
# Half the order of secp256k1: of the two valid s, only the lower one counts.
SIGNATURE_S_MAX: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
ROLLUP_DOMAIN: constant(bytes32) = keccak256("outcry/rollup/1")

_validators: DynArray[address, VALIDATORS_MAX]
_tokens: DynArray[address, TOKENS_MAX]
_scales: DynArray[uint256, TOKENS_MAX]
is_validator: public(HashMap[address, bool])

deposit_count: public(uint256)
_accumulators: HashMap[uint256, bytes32]  # by the number of deposits that it covers

last_number: public(uint256)
rollups: public(HashMap[uint256, Rollup])
_claimed: HashMap[uint256, HashMap[uint256, bool]]


@deploy
def __init__(
    validators: DynArray[address, VALIDATORS_MAX],
    tokens: DynArray[address, TOKENS_MAX],
    scales: DynArray[uint256, TOKENS_MAX],
):
    """
    @param validators The validators' EVM addresses, 1 to 32, each once.
    @param tokens The ERC-20 contracts, 1 to 16, each once; a token's id is its position.
    @param scales ERC-20 smallest units per exchange unit, one for each token.
    """
    assert len(validators) > 0, "no validators"
    assert len(tokens) > 0, "no tokens"
    assert len(tokens) == len(scales), "scales differ"
    for validator: address in validators:
        assert validator != empty(address), "zero validator"
        assert not self.is_validator[validator], "validator twice"
        self.is_validator[validator] = True
    for token: address in tokens:
        assert token != empty(address), "zero token"
        assert token not in self._tokens, "token twice"
        self._tokens.append(token)
    for scale: uint256 in scales:
        assert scale > 0, "zero scale"
        assert scale <= SCALE_MAX, "scale too large"
    self._validators = validators
    self._scales = scales


@external
@nonreentrant
def deposit(token: uint256, units: uint256, account: address):
    """
    @notice Move `units` of `token` from the caller into the vault, for `account`.
    @dev The caller has approved the vault for units * scale. A token that takes a fee on the
        way is refused, because the vault would owe more than it got.
    """
    assert token < len(self._tokens), "unknown token"
    assert units > 0, "zero units"
    assert units < UNITS_LIMIT, "units too large"
    assert account != empty(address), "zero account"
    erc20: IERC20 = IERC20(self._tokens[token])
    amount: uint256 = units * self._scales[token]
    before: uint256 = staticcall erc20.balanceOf(self)
    assert extcall erc20.transferFrom(
        msg.sender, self, amount, default_return_value=True
    ), "transfer refused"
    assert staticcall erc20.balanceOf(self) == before + amount, "amount differs"

    index: uint256 = self.deposit_count
    accumulator: bytes32 = keccak256(
        abi_encode(self._accumulators[index], index, account, token, units)
    )
    self.deposit_count = index + 1
    self._accumulators[index + 1] = accumulator
    log Deposit(index=index, account=account, token=token, units=units, accumulator=accumulator)


@external
@nonreentrant
def commit(
    number: uint256,
    height: uint256,
    state_root: bytes32,
    withdrawal_root: bytes32,
    deposits: uint256,
    accumulator: bytes32,
    signatures: DynArray[Bytes[65], VALIDATORS_MAX],
):
    """
    @notice Commit the next rollup block. Anyone may send it; the signatures decide.
    @param deposits How many deposits the exchange has consumed so far, and `accumulator` the
        running hash of exactly those: a block built on another chain's deposits fails here.
    @param signatures r || s || v of validators, ordered by ascending address.
    """
    last: Rollup = self.rollups[self.last_number]
    assert number == self.last_number + 1, "wrong number"
    assert height > last.height, "height not above"
    assert deposits >= last.deposits, "deposits shrink"
    assert deposits <= self.deposit_count, "deposits unknown"
    assert accumulator == self._accumulators[deposits], "wrong accumulator"
    digest: bytes32 = keccak256(
        abi_encode(
            ROLLUP_DOMAIN,
            chain.id,
            self,
            number,
            height,
            state_root,
            withdrawal_root,
            deposits,
            accumulator,
        )
    )
    self._check_signatures(digest, signatures)
    self.last_number = number
    self.rollups[number] = Rollup(
        height=height,
        state_root=state_root,
        withdrawal_root=withdrawal_root,
        deposits=deposits,
        accumulator=accumulator,
    )
    log RollupCommitted(
        number=number,
        height=height,
        state_root=state_root,
        withdrawal_root=withdrawal_root,
        deposits=deposits,
        accumulator=accumulator,
    )


@internal
@view
def _check_signatures(digest: bytes32, signatures: DynArray[Bytes[65], VALIDATORS_MAX]):
    assert 3 * len(signatures) > 2 * len(self._validators), "too few signatures"
    previous: uint256 = 0
    for signature: Bytes[65] in signatures:
        assert len(signature) == 65, "signature length"
        s: uint256 = extract32(signature, 32, output_type=uint256)
        v: uint256 = convert(slice(signature, 64, 1), uint256)
        assert s <= SIGNATURE_S_MAX, "signature s"
        assert v == 27 or v == 28, "signature v"
        signer: address = ecrecover(digest, v, extract32(signature, 0, output_type=uint256), s)
        assert signer != empty(address), "bad signature"
        assert self.is_validator[signer], "not a validator"
        assert convert(signer, uint256) > previous, "signer order"
        previous = convert(signer, uint256)


@external
@nonreentrant
def claim(
    number: uint256,
    index: uint256,
    account: address,
    token: uint256,
    units: uint256,
    proof: DynArray[bytes32, PROOF_NODES_MAX],
):
    """
    @notice Pay withdrawal `index` of rollup block `number` to `account`, once. Anyone may send it.
    @param proof The siblings of the withdrawal's leaf, lowest first.
    """
    assert number > 0 and number <= self.last_number, "unknown rollup"
    assert token < len(self._tokens), "unknown token"
    assert units > 0, "zero units"
    assert units < UNITS_LIMIT, "units too large"
    assert not self._claimed[number][index], "already claimed"
    node: bytes32 = keccak256(concat(x"00", abi_encode(number, index, account, token, units)))
    position: uint256 = index
    for sibling: bytes32 in proof:
        if position & 1 == 1:
            node = keccak256(concat(x"01", sibling, node))
        else:
            node = keccak256(concat(x"01", node, sibling))
        position = position >> 1
    assert position == 0, "wrong proof"
    assert node == self.rollups[number].withdrawal_root, "wrong proof"

    self._claimed[number][index] = True
    assert extcall IERC20(self._tokens[token]).transfer(
        account, units * self._scales[token], default_return_value=True
    ), "transfer refused"
    log Withdrawn(number=number, index=index, account=account, token=token, units=units)


@external
@view
def accumulator_at(count: uint256) -> bytes32:
    """
    @return The running hash of the first `count` deposits.
    """
    assert count <= self.deposit_count, "deposits unknown"
    return self._accumulators[count]


@external
@view
def deposit_head() -> (uint256, bytes32):
    """
    @return How many deposits there are, and their running hash: what a poll asks, in one call.
    """
    return self.deposit_count, self._accumulators[self.deposit_count]


@external
@view
def is_claimed(number: uint256, index: uint256) -> bool:
    return self._claimed[number][index]


@external
@view
def validators() -> DynArray[address, VALIDATORS_MAX]:
    return self._validators


@external
@view
def tokens() -> DynArray[address, TOKENS_MAX]:
    return self._tokens


@external
@view
def scales() -> DynArray[uint256, TOKENS_MAX]:
    return self._scales
