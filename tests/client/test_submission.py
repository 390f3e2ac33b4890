"""An envelope is accepted exactly once, whatever the nodes and the way to them do."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from client import (
    ClientFault,
    Mined,
    NetworkMismatch,
    NoChain,
    NodeMisbehaved,
    NodeUnreachable,
    NotCredited,
    NotExecuted,
    OutcomeUnknown,
    ReceiptInvalid,
    RefusedByNode,
    Trader,
    Unanswered,
    Viewer,
    Wallet,
)
from exchange.actions import CancelAll, Place
from exchange.envelope import Authorization, Envelope, Scope

Serve = Callable[[], Awaitable[Any]]
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def wallet() -> Wallet:
    return Wallet.create()


def envelopes(node: Any) -> list[Envelope]:
    return [item.transaction for item in node.taken.values()]


async def test_an_order_reaches_the_node_as_it_was_meant(serve_node: Serve, wallet: Wallet) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        sent = await trader.buy("BTC-USD", "0.25", "30000", client_id="mine")
    (admitted,) = node.taken.values()
    (action,) = admitted.actions
    assert isinstance(action, Place)
    assert (action.market, action.price, action.size) == (0, 30_000, 2_500)
    assert (action.side.name, action.lifetime.name, action.client_id) == ("BUY", "GTC", "mine")
    assert sent.id == admitted.id
    assert sent.receipt is not None
    assert sent.last_valid == admitted.transaction.last_valid > node.height


async def test_an_order_without_a_price_takes_what_is_there(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        await trader.sell("BTC-USD", "0.25")
    (action,) = next(iter(node.taken.values())).actions
    assert (action.price, action.lifetime.name, action.side.name) == (0, "IOC", "SELL")


async def test_many_tasks_send_side_by_side_with_nonces_of_their_own(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        async with trio.open_nursery() as nursery:
            for _ in range(40):
                nursery.start_soon(trader.cancel_all)
        assert trader.statistics().signed_again == 0
    assert sorted(item.nonce for item in envelopes(node)) == list(range(40))


async def test_a_nonce_of_another_program_is_replaced(serve_node: Serve, wallet: Wallet) -> None:
    node = await serve_node()
    node.used = {(wallet.trading.public, nonce) for nonce in range(3)}
    async with Trader.connect(node.url, wallet) as trader:
        await trader.cancel_all()
        assert trader.statistics().nonce_collisions >= 1
    assert envelopes(node)[0].nonce >= 3


async def test_an_envelope_that_came_too_late_is_signed_again(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        await trader.cancel_all()
        node.height = 50_000
        await trader.cancel_all("BTC-USD")
        assert trader.statistics().signed_again == 1
    assert envelopes(node)[-1].last_valid > 50_000


async def test_an_answer_that_was_lost_does_not_place_the_order_twice(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    node.script = ["take, 500"]
    async with Trader.connect(node.url, wallet) as trader:
        await trader.buy("BTC-USD", "1", "1")
    assert len(node.taken) == 1
    assert len(set(node.posts)) == 1 < len(node.posts)


async def test_a_refusal_after_a_lost_answer_is_looked_into(
    serve_node: Serve, wallet: Wallet
) -> None:
    """The second node has the envelope's nonce as used, because the first one passed it on."""
    first, second = await serve_node(), await serve_node()
    first.script = ["take, 500"]
    second.taken, second.used = first.taken, first.used
    async with Trader.connect([first.url, second.url], wallet) as trader:
        second_take = second._take

        def echo(wire: bytes, **_: bool) -> Any:
            second.taken = {}
            answer = second_take(wire)
            second.taken = first.taken
            return answer

        second._take = echo
        sent = await trader.buy("BTC-USD", "1", "1")
    assert sent.receipt is None
    assert list(first.taken) == [sent.id]


async def test_nobody_answering_after_it_was_sent_is_an_unknown_outcome(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    node.script = ["500"] * 10
    async with Trader.connect(node.url, wallet) as trader:
        with pytest.raises(OutcomeUnknown, match="ask for its state") as caught:
            await trader.cancel_all()
    assert len(set(node.posts)) == 1
    assert len(caught.value.envelope) == 32


async def test_a_connection_cut_after_the_request_leaves_the_outcome_unknown(
    serve_node: Serve, wallet: Wallet
) -> None:
    async def cut(stream: trio.SocketStream) -> None:
        await stream.receive_some(65_536)
        await stream.aclose()

    node = await serve_node()
    async with trio.open_nursery() as nursery, Trader.connect(node.url, wallet) as trader:
        await trader.cancel_all()
        (listener,) = await nursery.start(partial(trio.serve_tcp, cut, 0, host="127.0.0.1"))
        trader._nodes.endpoints[:] = [f"http://127.0.0.1:{listener.socket.getsockname()[1]}"]
        wire = await trader.sign([CancelAll(None)])
        with pytest.raises(Unanswered):
            await trader.send_many([wire])
        nursery.cancel_scope.cancel()


async def test_another_node_is_asked_when_the_first_is_away(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    async with Trader.connect([NOBODY, node.url], wallet) as trader:
        await trader.cancel_all()
        assert trader.statistics().http.failovers == 1
        assert trader.endpoints[0] == node.url
    assert len(node.taken) == 1


async def test_a_node_that_is_not_ready_is_passed_over_without_doubt(
    serve_node: Serve, wallet: Wallet
) -> None:
    first, second = await serve_node(), await serve_node()
    first.script = ["503"] * 5
    async with Trader.connect([first.url, second.url], wallet) as trader:
        await trader.cancel_all()
    assert (len(first.taken), len(second.taken)) == (0, 1)


async def test_a_pause_that_the_node_asks_for_is_kept(serve_node: Serve, wallet: Wallet) -> None:
    node = await serve_node()
    node.script = ["429"]
    async with Trader.connect(node.url, wallet) as trader:
        await trader.cancel_all()
    assert len(node.posts) == 2


async def test_a_refusal_carries_the_nodes_code_and_advice(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        with pytest.raises(RefusedByNode) as caught:
            await trader.batch([])
    assert (caught.value.code, caught.value.advice) == ("E101", "do better")


@pytest.mark.parametrize(
    ("step", "fault"), [("forge", ReceiptInvalid), ("garbage", NodeMisbehaved)]
)
async def test_an_answer_that_is_no_receipt_is_not_believed(
    serve_node: Serve, wallet: Wallet, step: str, fault: type[Exception]
) -> None:
    node = await serve_node()
    node.script = [step]
    async with Trader.connect(node.url, wallet) as trader:
        with pytest.raises(fault):
            await trader.cancel_all()


async def test_signed_envelopes_can_be_sent_together(serve_node: Serve, wallet: Wallet) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        wires = [await trader.sign([CancelAll(None)]) for _ in range(3)]
        told = await trader.send_many([*wires, b"\x00"])
    assert [item.id for item in told[:3] if not isinstance(item, RefusedByNode)] == list(node.taken)
    assert isinstance(told[3], RefusedByNode)
    assert told[3].code == "E101"


async def test_an_authorization_names_the_trading_key(serve_node: Serve, wallet: Wallet) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        await trader.authorize(Scope.TRADE, valid_s=60)
    (sent,) = (item.transaction for item in node.taken.values())
    assert isinstance(sent, Authorization)
    assert (sent.key, sent.scope, sent.sequence) == (wallet.trading.public, int(Scope.TRADE), 1)
    assert sent.expires_ms == 5_000 + 60_000


async def test_execution_is_waited_for(serve_node: Serve, wallet: Wallet) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        done = await trader.wait_executed((await trader.cancel_all()).id)
    assert (done.state, done.height) == ("executed", 11)


async def test_a_refusal_at_execution_comes_out_with_its_meaning(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    node.outcome = {"state": "rejected", "code": "E109", "rejections": []}
    async with Trader.connect(node.url, wallet) as trader:
        sent = await trader.cancel_all()
        with pytest.raises(RefusedByNode, match="expired, or lacks the scope") as caught:
            await trader.wait_executed(sent.id)
    assert caught.value.code == "E109"


async def test_a_refused_action_comes_out_with_its_meaning(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    node.outcome = {"state": "executed", "code": "", "rejections": [(0, "E205")]}
    async with Trader.connect(node.url, wallet) as trader:
        done = await trader.wait_executed((await trader.cancel_all()).id)
        with pytest.raises(RefusedByNode, match="post-only order would match"):
            trader.check_actions(done)


async def test_waiting_ends_at_the_deadline(serve_node: Serve, wallet: Wallet) -> None:
    node = await serve_node()
    node.outcome = {"state": "accepted", "code": "", "rejections": []}
    async with Trader.connect(node.url, wallet) as trader:
        sent = await trader.cancel_all()
        with pytest.raises(NotExecuted, match="still accepted"):
            await trader.wait_executed(sent.id, deadline_s=0.2)


async def test_a_deposit_that_is_not_credited_ends_the_waiting(
    serve_node: Serve, wallet: Wallet
) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        assert await trader.wait_credited(Mined(b"", 1, 1, deposit=0))
        with pytest.raises(NotCredited, match="deposit 1 is on chain"):
            await trader.wait_credited(Mined(b"", 1, 1, deposit=1), deadline_s=0.2)


async def test_money_needs_an_evm_endpoint(serve_node: Serve, wallet: Wallet) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        with pytest.raises(NoChain, match="OUTCRY_EVM") as caught:
            await trader.deposit("USD", "1")
    assert isinstance(caught.value, ClientFault)


async def test_a_node_that_claims_another_network_is_refused(serve_node: Serve) -> None:
    node = await serve_node()
    node.claimed = b"\x01" * 32
    with pytest.raises(NetworkMismatch):
        async with Viewer.connect(node.url):
            pass


async def test_a_node_that_changes_the_genesis_is_noticed_by_who_knows_the_network(
    serve_node: Serve,
) -> None:
    node = await serve_node()
    expected = node.genesis.network_id()
    node.shown = msgspec.structs.replace(node.genesis, vault=b"\x66" * 20)
    node.claimed = node.shown.network_id()
    with pytest.raises(NetworkMismatch, match="right network"):
        async with Viewer.connect(node.url, network=expected):
            pass


async def test_a_network_without_nodes_is_said_to_be(wallet: Wallet) -> None:
    with pytest.raises(NodeUnreachable, match=r"127\.0\.0\.1:9"):
        async with Trader.connect([NOBODY], wallet):
            pass


async def test_an_address_that_is_none_is_refused_at_once(wallet: Wallet) -> None:
    with pytest.raises(NodeUnreachable, match="begins with http"):
        async with Trader.connect("127.0.0.1:8001", wallet):
            pass


async def test_a_bulk_request_that_nobody_answers_may_have_arrived(
    serve_node: Serve, wallet: Wallet, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = await serve_node()
    async with Trader.connect(node.url, wallet) as trader:
        wire = await trader.sign([CancelAll(None)])
        monkeypatch.setattr(node, "_take", lambda _: 1 / 0)
        with pytest.raises(Unanswered):
            await trader.send_many([wire])
