# pragma version 0.4.3
# pragma evm-version prague
# Calls itself until the gas is gone, and counts how deep it came.


@external
def dig() -> uint256:
    ok: bool = False
    answer: Bytes[32] = b""
    ok, answer = raw_call(self, msg.data, max_outsize=32, revert_on_failure=False)
    if not ok:
        return 1
    return 1 + extract32(answer, 0, output_type=uint256)
