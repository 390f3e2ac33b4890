"""The accounts that every development chain funds.

Their mnemonic is printed in the manuals of half a dozen tools: whatever such an account owns
on a public chain is gone within seconds. They exist to pay for deployments and gas in tests.
"""

from eth_account.hdaccount import seed_from_mnemonic
from eth_account.hdaccount.deterministic import HDPath

MNEMONIC = "test test test test test test test test test test test junk"
HD_PATH = "m/44'/60'/0'/0"
ACCOUNTS_FUNDED = 10


def dev_key(index: int) -> bytes:
    """The 32-byte private key of funded account `index`, 0 to `ACCOUNTS_FUNDED` - 1.

    Takes some milliseconds: the mnemonic is stretched by 2,048 rounds of HMAC.
    """
    if not 0 <= index < ACCOUNTS_FUNDED:
        raise ValueError(f"account {index}; 0 to {ACCOUNTS_FUNDED - 1} are funded")
    return bytes(HDPath(f"{HD_PATH}/{index}").derive(seed_from_mnemonic(MNEMONIC, "")))
