"""The ceiling does what it says: five processes agree on every batch that they verified."""

import pytest
import trio

from benchmarks.ceiling import _BATCH, _NUMBER, QUORUM, _Member, _signed_batches, measure_ceiling


@pytest.mark.xdist_group("cluster")
def test_five_processes_commit_everything():
    ceiling = measure_ceiling(transactions=200, batch_items=50)
    assert ceiling.per_second > 0
    assert ceiling.cpu_ms > 0
    assert ceiling.p50_ms > 0


async def test_a_wrong_signature_is_not_passed_over():
    member = _Member(1, batches=1, batch_items=3)
    (data,) = _signed_batches(1, 3)
    forged = data[:-1] + bytes([data[-1] ^ 1])
    with pytest.raises(ValueError, match="not signed"):
        await member._on_frame(_BATCH, _NUMBER.pack(0) + forged)


def test_a_batch_needs_a_quorum_and_its_own_verification():
    member = _Member(1, batches=2, batch_items=1)
    member._done = trio.Event()
    for voter in range(QUORUM):
        member._count(0, voter)
    assert not member.committed
    member.verified.add(0)
    member._count(0, 0)
    assert member.committed == {0}
