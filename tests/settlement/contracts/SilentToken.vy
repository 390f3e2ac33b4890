# pragma version 0.4.3
# pragma evm-version prague
# An ERC-20 of the old kind: transfers return nothing, and revert when they fail.

balanceOf: public(HashMap[address, uint256])


@deploy
def __init__(amount: uint256):
    self.balanceOf[msg.sender] = amount


@external
def transfer(receiver: address, amount: uint256):
    assert self.balanceOf[msg.sender] >= amount, "silent balance"
    self.balanceOf[msg.sender] -= amount
    self.balanceOf[receiver] += amount


@external
def transferFrom(sender: address, receiver: address, amount: uint256):
    assert self.balanceOf[sender] >= amount, "silent balance"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
