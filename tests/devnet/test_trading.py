"""Traders on a real cluster: money in, trades through different nodes, refusals, money out."""

import httpx
import pytest
import trio

from client import RefusedByNode, Trader, Wallet
from exchange.actions import Lifetime, Place, SelfTrade, Side
from exchange.envelope import sign_envelope

pytestmark = pytest.mark.cluster

MARKET = "XOM-USD"


async def statuses(cluster):
    async with httpx.AsyncClient(trust_env=False) as http:
        return [(await http.get(f"{node.api}/v1/status")).json() for node in cluster.state.nodes]


async def test_a_trade_between_two_validators_is_the_same_on_every_node(outcry_cluster, funded):
    async with funded(0, "v0") as alice, funded(1, "v3") as bob:
        await alice.sell(MARKET, "2", "1.50")
        order = await bob.buy(MARKET, "2", "1.50")
        await bob.wait_executed(order.id)
        assert len(await bob.trades(MARKET)) >= 1
    async with httpx.AsyncClient(trust_env=False) as http:
        with trio.fail_after(20):
            while True:
                seen = [
                    (await http.get(f"{node.api}/v1/markets/{MARKET}/trades")).json()["trades"]
                    for node in outcry_cluster.state.nodes
                ]
                if seen[0] and all(trades == seen[0] for trades in seen):
                    break
                await trio.sleep(0.1)


async def test_a_gateway_takes_orders_without_a_vote(funded):
    async with funded(2, "g0") as carol:
        order = await carol.buy(MARKET, "1", "0.50")
        await carol.wait_executed(order.id)
        assert [item.status for item in await carol.orders(MARKET)] == ["open"]
        cancelled = await carol.cancel_all()
        await carol.wait_executed(cancelled.id)
        assert await carol.orders(MARKET) == []


async def test_every_refusal_has_its_code(funded):
    async with funded(3, "v2") as dave:
        place = Place(0, Side.BUY, 100, 1, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "")

        async def code_of(wire):
            (answer,) = await dave.send_many([wire])
            return getattr(answer, "code", None)

        good = await dave.sign([place])
        assert await code_of(good) is None
        await dave.wait_executed((await dave.send_many([good]))[0].id)
        forged = good[:-1] + bytes([good[-1] ^ 1])
        wallet, network = dave.wallet, dave.genesis.network_id()
        height = (await dave.status()).height

        def signed(nonce=50, last_valid=height + 500, net=network, key=wallet.trading):
            return sign_envelope(key, net, wallet.account, nonce, last_valid, [place])

        stranger = Wallet.create()
        assert await code_of(b"\x00garbage") == "E101"
        assert await code_of(signed(net=bytes(32))) == "E102"
        assert await code_of(signed(last_valid=1)) == "E103"
        assert await code_of(signed(nonce=0)) == "E104"
        assert await code_of(bytes(17_000)) == "E106"
        assert await code_of(forged) == "E107"
        unknown = sign_envelope(stranger.trading, network, stranger.account, 0, height + 9, [place])
        assert await code_of(unknown) == "E108"
        assert await code_of(signed(key=stranger.trading)) == "E109"
        assert await code_of(signed(last_valid=2**62)) == "E110"
        for action, code in (
            (Place(9, Side.BUY, 1, 1, Lifetime.GTC, SelfTrade.CANCEL_RESTING, ""), "E201"),
            (Place(0, Side.BUY, 2**20, 2**20, Lifetime.GTC, SelfTrade.CANCEL_RESTING, ""), "E105"),
        ):
            sent = await dave.batch([action])
            done = await dave.wait_executed(sent.id)
            assert [item[1] for item in done.rejections] == [code]


async def test_a_replayed_envelope_executes_once(funded):
    async with funded(4, "v1") as erin:
        place = Place(0, Side.BUY, 7, 1, Lifetime.GTC, SelfTrade.CANCEL_RESTING, "once")
        wire = await erin.sign([place])
        for _ in range(3):
            (answer,) = await erin.send_many([wire])
        await erin.wait_executed(answer.id)
        assert [item.client_id for item in await erin.orders(MARKET)] == ["once"]


async def test_money_comes_back_to_the_chain(funded):
    async with funded(5, "v4", deposits=(("USD", "25"),)) as frank:
        before = await frank.chain.token_balance(1)
        order = await frank.withdraw("USD", "25")
        await frank.wait_executed(order.id)
        assert await frank.wait_claimable()
        assert len(await frank.claim()) == 1
        assert await frank.chain.token_balance(1) == before + 25 * 10**6
        assert await frank.claim() == []


async def test_a_withdrawal_needs_the_money(funded):
    async with funded(5, "v0", deposits=(("USD", "1"),)) as frank:
        sent = await frank.withdraw("XOM", "999999")
        done = await frank.wait_executed(sent.id)
        assert [item[1] for item in done.rejections] == ["E105"]


async def test_validators_agree_on_a_checkpoint(outcry_cluster):
    with trio.fail_after(60):
        while True:
            seen = [item["checkpoint"] for item in await statuses(outcry_cluster)]
            roots = {(item or {}).get("height"): (item or {}).get("root") for item in seen}
            if None not in roots and len(roots) == 1:
                break
            await trio.sleep(0.05)


async def test_an_unauthorised_key_cannot_trade(outcry_cluster, funded):
    state = outcry_cluster.state
    async with funded(0, "v0", deposits=(("USD", "1"),)):
        pass  # the account exists from here on
    wallet = Wallet.from_hex(state.traders[0].evm_secret).with_new_trading_key()
    async with Trader.connect(outcry_cluster.node("v0").api, wallet) as thief:
        with pytest.raises(RefusedByNode) as caught:
            await thief.buy(MARKET, "1", "1")
        assert caught.value.code == "E109"
