"""What can go wrong between the exchange and its contracts.

RemoteFault
  ChainFault
    ChainUnreachable     E701  no endpoint answered in time
    ChainMismatch        E702  an endpoint serves another chain, or there is no vault on it
    ChainContradiction   E703  what an endpoint tells about deposits does not add up
    ChainBehind          E704  the history of deposits is still being read
    TransactionReverted  E705  the contract refused, and says why
    TransactionRefused   E706  the chain would not take the transaction
    TransactionUnmined   E707  no receipt before the deadline
  BadRollupSignature     E720  not a validator's signature of this rollup block
  TooManySignatures      E721  more signatures than the vault takes
LocalFault
  ArtifactUnreadable     E730  a contract's artifact is missing or damaged
  CompilerMissing        E731  vyper is not installed, or not the pinned version
  ReadOnlyChain          E732  sending without a key
  EvmStateUnusable       E740  the state directory belongs to another chain, process or version
  EvmNotReady            E741  the chain's process did not answer in time
  AnvilMissing           E742  no anvil binary at hand
"""

from primitives.faults import LocalFault, RemoteFault


class ChainFault(RemoteFault):
    """The EVM chain, or an endpoint that stands for it, did not do its part."""

    code = "E700"


class ChainUnreachable(ChainFault):
    """No endpoint answered before the deadline; the outcome of a write is unknown."""

    code = "E701"

    def __init__(self, what: str) -> None:
        super().__init__(f"no EVM endpoint answered ({what}); check their addresses, then repeat")


class ChainMismatch(ChainFault):
    """This endpoint must not be used: it is not the chain of the deployment."""

    code = "E702"

    def __init__(self, endpoint: str, what: str) -> None:
        super().__init__(f"{endpoint} is not the deployment's chain: {what}; correct the endpoint")


class ChainContradiction(ChainFault):
    """Deposits, their count and their running hash do not agree."""

    code = "E703"

    def __init__(self, what: str) -> None:
        super().__init__(f"the chain's deposits do not add up: {what}; they are read again")


class ChainBehind(ChainFault):
    """A first read of a long history takes several calls."""

    code = "E704"

    def __init__(self, reached: int, wanted: int) -> None:
        super().__init__(f"deposits are read up to block {reached} of {wanted}; ask again")


class TransactionReverted(ChainFault):
    """The contract refused; `reason` is its text, or empty when it gave none."""

    code = "E705"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the contract refused: {reason or 'no reason given'}")


class TransactionRefused(ChainFault):
    """The endpoint would not take the transaction (funds, fee, nonce, size)."""

    code = "E706"

    def __init__(self, what: str) -> None:
        super().__init__(f"the chain would not take the transaction: {what}")


class TransactionUnmined(ChainFault):
    """The transaction may still be mined later."""

    code = "E707"

    def __init__(self, tx: bytes, waited_s: float) -> None:
        self.tx = tx
        super().__init__(
            f"0x{tx.hex()} has no receipt after {waited_s:.0f} s; look for it before sending again"
        )


class BadRollupSignature(RemoteFault):
    """Not 65 bytes r || s || v with a low s that recover to an address."""

    code = "E720"

    def __init__(self) -> None:
        super().__init__("not a signature of this rollup block; sign its digest with an EVM key")


class TooManySignatures(RemoteFault):
    """The vault takes a bounded number of signatures."""

    code = "E721"

    def __init__(self, count: int, count_max: int) -> None:
        super().__init__(f"{count} signatures; the vault takes at most {count_max}")


class ArtifactUnreadable(LocalFault):
    """The package is incomplete."""

    code = "E730"

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"artifact {name} is unusable ({what}); run python -m settlement.compile")


class CompilerMissing(LocalFault):
    """Contracts are compiled with one pinned version only."""

    code = "E731"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}; install the test dependencies, which pin vyper")


class ReadOnlyChain(LocalFault):
    """A chain that was opened without a key cannot sign transactions."""

    code = "E732"

    def __init__(self) -> None:
        super().__init__("this chain was opened without a key; give it one to send transactions")


class EvmStateUnusable(LocalFault):
    """The embedded chain would not continue the history in this directory."""

    code = "E740"

    def __init__(self, directory: str, what: str) -> None:
        super().__init__(f"{directory}: {what}; use another state directory")


class EvmNotReady(LocalFault):
    """The chain's process did not come up."""

    code = "E741"

    def __init__(self, url: str, waited_s: float) -> None:
        super().__init__(f"no EVM chain answered at {url} within {waited_s:.0f} s; read its log")


class AnvilMissing(LocalFault):
    """The anvil binary is an extra."""

    code = "E742"

    def __init__(self) -> None:
        super().__init__(
            "no anvil binary found; run make setup-extras, or point OUTCRY_ANVIL at one"
        )
