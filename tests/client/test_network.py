"""The SDK against a real validator and a real chain: in, trade, talk, out."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio

from client import (
    BookView,
    ChatView,
    ForgedMessage,
    Lifetime,
    RefusedByNode,
    Scope,
    Side,
    Trader,
    TradeView,
    Viewer,
    Wallet,
)
from client.book import book_checksum
from client.talk import check_talk
from exchange.actions import CancelAll, Place, SelfTrade
from tests.client.single_node import SingleNode

pytestmark = pytest.mark.cluster

DEADLINE_S = 50.0
Enter = Callable[[], Any]


@pytest.fixture
def wallet(network: SingleNode) -> Wallet:
    made = Wallet.create()
    network.bank.fund(made, 10**10)
    return made


async def bring(trader: Trader, token: str, amount: str) -> None:
    """Deposit, and authorise the trading key."""
    await trader.wait_credited(await trader.deposit(token, amount))
    await trader.wait_executed((await trader.authorize()).id)


async def units(trader: Trader, symbol: str) -> tuple[int, int]:
    (held,) = [item for item in await trader.balances() if item.symbol == symbol]
    return held.free, held.reserved


async def test_money_comes_in_is_traded_and_goes_back(network: SingleNode) -> None:
    buyer, seller = Wallet.create(), Wallet.create()
    for each in (buyer, seller):
        network.bank.fund(each, 10**10)
    evm = network.bank.url
    with trio.fail_after(DEADLINE_S):
        async with (
            Trader.connect(network.url, buyer, evm=evm) as bob,
            Trader.connect(network.url, seller, evm=evm) as alice,
        ):
            await bring(bob, "USD", "100000")
            await bring(alice, "BTC", "10")
            ask = await alice.sell("BTC-USD", "0.5", "30000", client_id="mine")
            await alice.wait_executed(ask.id)
            await bob.wait_executed((await bob.buy("BTC-USD", "0.2", "30001")).id)
            (order,) = await alice.orders("BTC-USD")
            assert (order.client_id, order.size, order.filled) == ("mine", 5_000, 2_000)
            assert [item.order for item in await alice.placed_by(ask.id)] == [order.order]
            (fill,) = await bob.fills("BTC-USD")
            assert (fill.role, fill.price, fill.size) == ("taker", 30_000, 2_000)
            assert (await bob.trades("BTC-USD"))[0].number == fill.number
            assert (await bob.candles("BTC-USD"))[-1].close == 30_000
            assert await units(alice, "BTC") == (9_500_000, 300_000)
            await alice.wait_executed((await alice.cancel("BTC-USD", "mine")).id)
            assert await units(alice, "USD") == (60_000_000, 0)

            before = await alice.chain.token_balance(0)
            await alice.wait_executed((await alice.withdraw("USD", "6000")).id)
            assert len(await alice.wait_claimable()) == 1
            ((claim, mined),) = await alice.claim()
            assert (claim.units, mined.gas > 0) == (60_000_000, True)
            paid = await alice.chain.token_balance(0) - before
            assert paid == 60_000_000 * alice.genesis.contracts[0].scale
            assert await alice.claim() == []


async def test_what_the_exchange_refuses_has_its_code(network: SingleNode, wallet: Wallet) -> None:
    with trio.fail_after(DEADLINE_S):
        async with Trader.connect(network.url, wallet, evm=network.bank.url) as trader:
            with pytest.raises(RefusedByNode) as unknown:
                await trader.cancel_all()
            assert unknown.value.code == "E108"
            await trader.wait_credited(await trader.deposit("USD", "10"))
            with pytest.raises(RefusedByNode) as keyless:
                await trader.cancel_all()
            assert keyless.value.code == "E109"
            await trader.wait_executed((await trader.authorize(Scope.TRADE)).id)
            sent = await trader.batch(
                [trader.order("BTC-USD", Side.BUY, "1", "30000"), CancelAll(None)]
            )
            done = await trader.wait_executed(sent.id)
            assert done.rejections == [(0, "E105")]
            with pytest.raises(RefusedByNode) as scopeless:
                await trader.withdraw("USD", "1")
            assert scopeless.value.code == "E109"


async def test_envelopes_side_by_side_all_execute(network: SingleNode, wallet: Wallet) -> None:
    sent = []
    with trio.fail_after(DEADLINE_S):
        async with Trader.connect(network.url, wallet, evm=network.bank.url) as trader:
            await bring(trader, "USD", "1000")

            async def place(number: int) -> None:
                order = await trader.buy("BTC-USD", "0.0001", str(100 + number))
                sent.append(order.id)

            async with trio.open_nursery() as nursery:
                for number in range(30):
                    nursery.start_soon(place, number)
            for identity in sent:
                trader.check_actions(await trader.wait_executed(identity))
            assert len(await trader.orders()) == 30
            again = await trader.sign([CancelAll(None)])
            (first,) = await trader.send_many([again])
            (second,) = await trader.send_many([again])
            assert not isinstance(first, RefusedByNode)
            assert not isinstance(second, RefusedByNode)
            assert first.id == second.id
            await trader.wait_executed(first.id)
            assert await trader.orders() == []


async def test_a_second_program_with_the_same_wallet_finds_its_own_nonces(
    network: SingleNode, wallet: Wallet
) -> None:
    with trio.fail_after(DEADLINE_S):
        async with (
            Trader.connect(network.url, wallet, evm=network.bank.url) as first,
            Trader.connect(network.url, wallet) as second,
        ):
            await bring(first, "USD", "10")
            await second.wait_executed((await second.cancel_all()).id)
            for _ in range(3):
                await first.wait_executed((await first.cancel_all()).id)
            await second.wait_executed((await second.cancel_all()).id)
            assert second.statistics().nonce_collisions >= 1


async def test_the_book_stream_follows_the_real_book(network: SingleNode, wallet: Wallet) -> None:
    seen: list[BookView] = []
    with trio.fail_after(DEADLINE_S):
        async with Trader.connect(network.url, wallet, evm=network.bank.url) as trader:
            await bring(trader, "USD", "1000")
            async with trader.stream("book", market="BTC-USD") as updates:
                for price in ("500", "501", "502"):
                    sent = await trader.buy("BTC-USD", "0.001", price)
                    await trader.wait_executed(sent.id)
                await trader.wait_executed((await trader.cancel_all()).id)
                async for update in updates:
                    assert update.book is not None
                    seen.append(update.book)
                    if seen[-1].sequence >= (await trader.book("BTC-USD")).sequence:
                        break
                assert updates.statistics().gaps == 0
            whole = await trader.book("BTC-USD")
    assert (seen[-1].bids, seen[-1].asks) == (whole.bids, whole.asks)
    assert book_checksum(whole.bids, whole.asks) == whole.checksum
    assert any((502, 10) in book.bids for book in seen)


async def test_the_account_and_trades_streams_tell_what_happened(
    network: SingleNode, wallet: Wallet
) -> None:
    with trio.fail_after(DEADLINE_S):
        async with Trader.connect(network.url, wallet, evm=network.bank.url) as trader:
            await bring(trader, "USD", "1000")
            address = "0x" + wallet.account.hex()
            async with trader.stream("account", account=address) as updates:
                assert (await anext(updates)).is_snapshot
                order = await trader.buy("BTC-USD", "0.001", "400")
                update = await anext(updates)
                assert update.data["events"][0]["type"] == "placed"
                assert update.data["events"][0]["envelope"] == "0x" + order.id.hex()
                await trader.wait_executed((await trader.cancel_all()).id)
            async with trader.stream("trades", market="BTC-USD") as updates:
                snapshot = await anext(updates)
                msgspec.convert(snapshot.data["trades"], list[TradeView])


async def test_what_is_said_is_heard_once_and_signed(network: SingleNode, wallet: Wallet) -> None:
    heard: list[ChatView] = []
    with trio.fail_after(DEADLINE_S):
        async with (
            Trader.connect(network.url, wallet, evm=network.bank.url) as trader,
            Viewer.connect(network.url) as viewer,
        ):
            await bring(trader, "USD", "1")
            async with viewer.listen("BTC-USD") as messages:
                cids = [await trader.say("btc-usd", text) for text in ("one", "two", "three")]
                async for message in messages:
                    heard.append(message)
                    if message.cid == cids[-1]:
                        break
            shown = await viewer.history("BTC-USD", limit=2)
    assert [item.text for item in heard if item.cid in cids] == ["one", "two", "three"]
    assert heard[-1].heads == [cids[1]]
    assert [item.text for item in shown] == ["two", "three"]
    forged = msgspec.structs.replace(shown[0], text="buy now")
    with pytest.raises(ForgedMessage, match="another node"):
        check_talk([forged], trader.network, network.url)


async def test_a_stream_of_a_market_that_is_not_there_is_refused(network: SingleNode) -> None:
    with trio.fail_after(DEADLINE_S):
        async with (
            Viewer.connect(network.url) as viewer,
            viewer.stream("book", market="NO-SUCH") as updates,
        ):
            with pytest.raises(RefusedByNode):
                await anext(updates)


async def test_an_action_is_built_as_the_exchange_takes_it(network: SingleNode) -> None:
    async with Trader.connect(network.url, Wallet.create()) as trader:
        built = trader.order("BTC-USD", Side.SELL, Decimal("0.01"), "9", Lifetime.POST_ONLY, "a")
    wanted = Place(0, Side.SELL, 9, 100, Lifetime.POST_ONLY, SelfTrade.CANCEL_RESTING, "a")
    assert built == wanted
