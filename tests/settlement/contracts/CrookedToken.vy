# pragma version 0.4.3
# pragma evm-version prague
# Cheats in the way that `mode` names: 1 takes a fee on the way, 2 answers False, 3 calls back
# into the vault's deposit, 4 into its claim.

interface Vault:
    def deposit(token: uint256, units: uint256, account: address): nonpayable
    def claim(
        number: uint256,
        index: uint256,
        account: address,
        token: uint256,
        units: uint256,
        proof: DynArray[bytes32, 8],
    ): nonpayable

mode: public(uint256)
balanceOf: public(HashMap[address, uint256])


@deploy
def __init__(amount: uint256):
    self.balanceOf[msg.sender] = amount


@external
def behave(mode: uint256):
    self.mode = mode


@external
def transfer(receiver: address, amount: uint256) -> bool:
    return self._move(msg.sender, receiver, amount)


@external
def transferFrom(sender: address, receiver: address, amount: uint256) -> bool:
    return self._move(sender, receiver, amount)


@internal
def _move(sender: address, receiver: address, amount: uint256) -> bool:
    if self.mode == 2:
        return False
    if self.mode == 3:
        extcall Vault(msg.sender).deposit(0, 1, sender)
    if self.mode == 4:
        nothing: DynArray[bytes32, 8] = []
        extcall Vault(msg.sender).claim(1, 0, receiver, 0, 1, nothing)
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    if self.mode == 1:
        self.balanceOf[receiver] -= 1
    return True
