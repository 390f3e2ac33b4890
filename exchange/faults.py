"""What can be wrong with an envelope, or with what it asks for.

RemoteFault
  EnvelopeFault
    MalformedEnvelope   E101  not canonical msgpack, or fields missing
    WrongNetwork        E102  signed for another network
    Expired             E103  its last valid height has passed
    NonceUsed           E104  this nonce was used before, or is outside the window
    OversizedEnvelope   E106  more bytes than an envelope may have
    BadSignature        E107  the key or the owner named in it did not sign it
    UnknownAccount      E108  the account never received a deposit
    KeyNotAuthorized    E109  the key is unknown, expired, or lacks the scope
    LifetimeTooLong     E110  its last valid height is too far ahead
    StaleAuthorization  E111  a later authorization of this account was executed before
  ActionFault
    InsufficientFunds   E105  the free balance does not cover it
    UnknownMarket       E201  no such market
    UnknownToken        E202  no such token
    UnknownOrder        E203  no such open order of this account
    DuplicateClientId   E204  an open order already has this client id
    WouldMatch          E205  a post-only order would match at once
    NotFillable         E206  a fill-or-kill order cannot be filled whole
    InvalidOrder        E207  price, size and lifetime do not fit together
    TooManyOrders       E208  the account has as many open orders as it may have
    NoLiquidity         E209  a market order found nothing to match
    TooManyWithdrawals  E210  the account has as many waiting withdrawals as it may have
  DepositMismatch       E220  a reporter's deposit differs from the chain's running hash
LocalFault
  StateCorrupt          E290  balances do not add up to what came in less what went out
  BlockOutOfOrder       E291  a block that does not follow the one executed last
  InvalidGenesis        E292  the genesis of the exchange contradicts itself
"""

from primitives.faults import LocalFault, RemoteFault


class EnvelopeFault(RemoteFault):
    """The envelope as a whole is refused; nothing of it is executed."""

    code = "E100"


class ActionFault(RemoteFault):
    """One action of an envelope is refused; the others are executed."""

    code = "E200"


class MalformedEnvelope(EnvelopeFault):
    """Not canonical msgpack, or fields are missing."""

    code = "E101"


class WrongNetwork(EnvelopeFault):
    """Signed for another network."""

    code = "E102"

    def __init__(self, found: bytes, expected: bytes) -> None:
        super().__init__(
            f"signed for network {found.hex()[:16]}, this is {expected.hex()[:16]}; "
            "take the network id from /v1/status"
        )


class Expired(EnvelopeFault):
    """Its last valid height has passed."""

    code = "E103"

    def __init__(self, last_valid: int, height: int) -> None:
        super().__init__(f"valid up to height {last_valid}, now at {height}; sign it again")


class NonceUsed(EnvelopeFault):
    """This nonce was used before, or lies outside the window."""

    code = "E104"

    def __init__(self, nonce: int, window: range) -> None:
        super().__init__(
            f"nonce {nonce} was used or is outside the window; "
            f"choose an unused one in {window.start}..{window.stop - 1}"
        )


class InsufficientFunds(ActionFault):
    """The free balance does not cover it."""

    code = "E105"


class OversizedEnvelope(EnvelopeFault):
    """More bytes than an envelope may have."""

    code = "E106"

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"{size} bytes, at most {size_max}; split it into several envelopes")


class BadSignature(EnvelopeFault):
    """The key or the owner named in it did not sign it."""

    code = "E107"


class UnknownAccount(EnvelopeFault):
    """The account never received a deposit."""

    code = "E108"


class KeyNotAuthorized(EnvelopeFault):
    """The key is unknown to the account, expired, or lacks the scope."""

    code = "E109"


class LifetimeTooLong(EnvelopeFault):
    """Its last valid height is too far ahead."""

    code = "E110"


class StaleAuthorization(EnvelopeFault):
    """A later authorization of this account was executed before."""

    code = "E111"


class UnknownMarket(ActionFault):
    """No such market."""

    code = "E201"


class UnknownToken(ActionFault):
    """No such token."""

    code = "E202"


class UnknownOrder(ActionFault):
    """No such open order of this account."""

    code = "E203"


class DuplicateClientId(ActionFault):
    """An open order of the account already has this client id."""

    code = "E204"


class WouldMatch(ActionFault):
    """A post-only order would match at once."""

    code = "E205"


class NotFillable(ActionFault):
    """A fill-or-kill order cannot be filled whole."""

    code = "E206"


class InvalidOrder(ActionFault):
    """Price, size and lifetime do not fit together."""

    code = "E207"


class TooManyOrders(ActionFault):
    """The account has as many open orders as it may have."""

    code = "E208"


class NoLiquidity(ActionFault):
    """A market order found nothing to match."""

    code = "E209"


class TooManyWithdrawals(ActionFault):
    """The account has as many withdrawals waiting for a rollup block as it may have."""

    code = "E210"


class DepositMismatch(RemoteFault):
    """A reporter's deposit differs from the chain's running hash."""

    code = "E220"


class StateCorrupt(LocalFault):
    """Balances do not add up to what came in less what went out; sign nothing."""

    code = "E290"


class BlockOutOfOrder(LocalFault):
    """A block that does not follow the one executed last, in height or in time."""

    code = "E291"


class InvalidGenesis(LocalFault):
    """The genesis of the exchange contradicts itself."""

    code = "E292"
