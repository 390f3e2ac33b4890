"""The load signs everything beforehand, keeps its beat, and counts only what it sent."""

from devnet.load import (
    PACK_ITEMS_MAX,
    TICK_MS,
    LoadPlan,
    _packs,
    _Run,
    _Seen,
    _SeenBlock,
    load_accounts,
)
from exchange import admit, envelope_id
from exchange.envelope import Envelope
from primitives import codec
from tests.genesis import make_genesis

GENESIS = make_genesis()


def packs_of(plan):
    return list(_packs(GENESIS, load_accounts(GENESIS, plan.accounts), plan, _Run(7)))


def wires_of(pack):
    return codec.decode(list[bytes], pack.body, bytes_max=1 << 24)


def test_every_order_is_signed_once_and_named_by_its_id():
    packs = packs_of(LoadPlan(rate=130, seconds=2, accounts=7))
    wires = [wire for pack in packs for wire in wires_of(pack)]
    orders = [admit(wire, GENESIS.domain()).transaction for wire in wires]
    assert len(orders) == 260
    assert all(isinstance(order, Envelope) and order.last_valid > 7 for order in orders)
    assert len({(order.account, order.nonce) for order in orders}) == 260
    names = ["0x" + envelope_id(wire, GENESIS.network_id()).hex() for wire in wires]
    assert [name for pack in packs for name in pack.ids] == names


def test_packs_keep_the_rate_at_every_beat():
    plan = LoadPlan(rate=130, seconds=1, accounts=2)
    sent = 0
    for pack in packs_of(plan):
        sent += len(pack.ids)
        assert sent <= plan.rate * (pack.due_s + TICK_MS / 1_000) + 1e-9
        assert sent > plan.rate * pack.due_s - 1


def test_no_pack_is_larger_than_one_request_takes():
    packs = packs_of(LoadPlan(rate=PACK_ITEMS_MAX * 100, seconds=1, accounts=2))
    assert max(len(pack.ids) for pack in packs) == PACK_ITEMS_MAX


def test_an_execution_counts_once_and_only_if_it_was_sent():
    run = _Run(0, sent_at={"0x01": 10.0, "0x02": 10.0})
    run.saw(_SeenBlock(5, [_Seen("0x01"), _Seen("0xff")]), 10.5)
    run.saw(_SeenBlock(6, [_Seen("0x01")]), 11.0)
    assert run.latencies == [500.0]
    assert run.height == 6
    assert list(run.sent_at) == ["0x02"]
