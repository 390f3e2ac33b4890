"""Every route answers what its shape declares, over a real exchange and a real server."""

import hashlib
import re

import httpx
import msgspec
import pytest

from exchange.actions import CancelAll
from exchange.envelope import envelope_id
from exchange.receipt import Receipt, check_receipt
from node.api.application import DOCUMENT, ROUTES
from node.api.blocks import BlockDetail, Blocks
from node.api.markets import BookView, Candles, Trades
from node.api.openapi import answers
from node.api.route import Media
from node.genesis import NetworkGenesis
from primitives import document
from primitives.anchors import withdrawal_leaf
from primitives.cid import from_text, matches
from primitives.hashing import digest
from primitives.keccak_tree import verify as verify_keccak
from primitives.merkle import verify as verify_merkle
from storage import ArchiveReader
from tests.node.api_world import MARKET, buy, sell, served, withdraw


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    with served(tmp_path_factory.mktemp("api")) as furnished:
        yield furnished


@pytest.fixture(scope="module")
def client(api):
    with httpx.Client(base_url=api.url, trust_env=False) as client:
        yield client


def read(client, path, shape=None, status=200):
    response = client.get(path)
    assert response.status_code == status, response.text
    return response.json() if shape is None else msgspec.json.decode(response.content, type=shape)


def examples(api):
    """A request that succeeds, for every route that is read."""
    alice, bob = api.alice.hex, api.bob.hex
    newest = "/v1/blocks/{height}"
    return {
        "/v1/status": "/v1/status",
        "/v1/health": "/v1/health",
        "/v1/genesis": "/v1/genesis",
        "/metrics": "/metrics",
        "/v1/openapi.json": "/v1/openapi.json",
        "/v1/tokens": "/v1/tokens",
        "/v1/markets": "/v1/markets",
        "/v1/markets/{symbol}/book": f"/v1/markets/{MARKET}/book?depth=2",
        "/v1/markets/{symbol}/trades": f"/v1/markets/{MARKET}/trades?limit=5&before=9",
        "/v1/markets/{symbol}/candles": f"/v1/markets/{MARKET}/candles?interval=1d&from=0",
        "/v1/accounts/{address}": f"/v1/accounts/{alice}",
        "/v1/accounts/{address}/orders": f"/v1/accounts/{alice}/orders?status=all&market={MARKET}",
        "/v1/accounts/{address}/trades": f"/v1/accounts/{bob}/trades?market={MARKET}",
        "/v1/accounts/{address}/withdrawals": f"/v1/accounts/{bob}/withdrawals",
        "/v1/accounts/{address}/proof": f"/v1/accounts/{alice}/proof",
        "/v1/envelopes/{id}": f"/v1/envelopes/0x{api.placed.hex()}",
        "/v1/blocks": "/v1/blocks?from=1&to=2",
        newest: "/v1/blocks/3",
        "/v1/blocks/{cid}/raw": None,
        "/v1/export": "/v1/export?from=1&to=3",
        "/v1/rollups": "/v1/rollups",
        "/v1/rollups/{number}": "/v1/rollups/1",
        "/v1/settlement": "/v1/settlement",
        "/v1/chat/{room}": f"/v1/chat/{MARKET}",
    }


READ = [route for route in ROUTES if route.method == "GET"]


@pytest.mark.parametrize("route", READ, ids=[route.path for route in READ])
def test_a_live_answer_has_exactly_the_declared_shape(api, client, route):
    path = examples(api)[route.path]
    if path is None:
        cid = read(client, "/v1/blocks", Blocks).blocks[0].cid
        path = f"/v1/blocks/{cid}/raw"
    response = client.get(path)
    assert response.status_code == 200, response.text
    if isinstance(route.answer, Media):
        assert response.headers["content-type"].startswith(route.answer.content_type)
        return
    (shape,) = answers(route)
    value = msgspec.json.decode(response.content, type=shape)
    assert msgspec.json.decode(msgspec.json.encode(value)) == response.json()


def test_every_route_has_an_example():
    assert {route.path for route in READ} == set(examples_of_paths())


def examples_of_paths():
    class Nobody:
        hex = "0x"

    class Empty:
        alice = bob = Nobody
        placed = b""

    return examples(Empty)


def test_the_document_names_every_route_and_no_other(client):
    found = read(client, "/v1/openapi.json")
    assert found["openapi"].startswith("3.1")
    told = {
        (method.upper(), path) for path, methods in found["paths"].items() for method in methods
    }
    assert told == {(route.method, route.path) for route in ROUTES}


def test_every_reference_in_the_document_leads_somewhere():
    text = msgspec.json.encode(DOCUMENT).decode()
    wanted = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert wanted
    assert wanted <= set(DOCUMENT["components"]["schemas"])


def test_path_parameters_are_declared_as_such():
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        in_path = {item["name"] for item in operation["parameters"] if item["in"] == "path"}
        assert in_path == set(route.path_names)
        assert all(item["required"] for item in operation["parameters"] if item["in"] == "path")


def test_the_genesis_document_is_that_of_the_network(api, client):
    genesis = document.parse(NetworkGenesis, read(client, "/v1/genesis"))
    assert genesis.network_id() == api.world.network


def test_the_book_is_that_of_the_exchange(api, client):
    book = read(client, f"/v1/markets/{MARKET}/book", BookView)
    mine = api.world.node.exchange.book(0, 100)
    assert (book.bids, book.asks) == (mine.bids, mine.asks)
    assert (book.sequence, book.checksum) == (mine.sequence, mine.checksum)
    assert book.bids == [(100, 3), (90, 7)]
    assert len(read(client, f"/v1/markets/{MARKET}/book?depth=1", BookView).bids) == 1


def test_trades_and_candles_tell_of_the_same_trade(client):
    (trade,) = read(client, f"/v1/markets/{MARKET}/trades", Trades).trades
    assert (trade.number, trade.price, trade.size, trade.side) == (1, 100, 2, "sell")
    (candle,) = read(client, f"/v1/markets/{MARKET}/candles?interval=1h", Candles).candles
    assert (candle.open, candle.volume, candle.trades) == (100, 2, 1)


def test_without_from_the_newest_candles_are_shown(client):
    (candle,) = read(client, f"/v1/markets/{MARKET}/candles?limit=1", Candles).candles
    assert candle.start_ms % 60_000 == 0


def test_an_account_shows_its_money_keys_and_nonces(api, client):
    account = read(client, f"/v1/accounts/{api.alice.hex.upper().replace('0X', '0x')}")
    assert account["address"] == api.alice.hex
    usd, btc, _ = account["balances"]
    assert (usd["symbol"], usd["reserved"]) == ("USD", (3 * 100 + 7 * 90) * 100)
    assert btc["reserved"] == 3 * 10_000
    (key,) = account["keys"]
    assert key["key"] == "0x" + api.alice.key.public.hex()
    assert key["next_nonce"] == api.alice.nonce
    assert account["authorization_sequence"] == 1


def test_orders_are_open_or_all(api, client):
    path = f"/v1/accounts/{api.alice.hex}/orders"
    assert {item["status"] for item in read(client, path)["orders"]} == {"open"}
    (sold,) = read(client, f"/v1/accounts/{api.bob.hex}/orders?status=all")["orders"]
    assert (sold["status"], sold["filled"]) == ("filled", 2)
    assert read(client, path + "?market=ETH-USD")["orders"] == []


def test_orders_are_paged_by_position(api, client):
    path = f"/v1/accounts/{api.alice.hex}/orders?limit=1"
    seen, before = [], ""
    while page := read(client, path + before)["orders"]:
        seen.append(page[0]["order"])
        before = f"&before={page[0]['position']}"
    assert len(seen) == 3
    assert seen == sorted(seen, reverse=True)


def test_own_trades_tell_the_role(api, client):
    for trader, role in ((api.alice, "maker"), (api.bob, "taker")):
        path = f"/v1/accounts/{trader.hex}/trades?market={MARKET}"
        assert [item["role"] for item in read(client, path)["trades"]] == [role]


def test_withdrawals_come_with_a_proof_that_verifies(api, client):
    claims = read(client, f"/v1/accounts/{api.bob.hex}/withdrawals")["withdrawals"]
    assert [claim["units"] for claim in claims] == [700, 500]
    for claim in claims:
        told = read(client, f"/v1/rollups/{claim['rollup']}")
        leaf = withdrawal_leaf(
            claim["rollup"], claim["index"], api.bob.address, claim["token"], claim["units"]
        )
        root = bytes.fromhex(told["rollup"]["withdrawal_root"][2:])
        siblings = [bytes.fromhex(item[2:]) for item in claim["proof"]]
        assert verify_keccak(root, leaf, claim["index"], siblings)
        assert told["withdrawals"][claim["index"]]["units"] == claim["units"]


def test_an_account_proof_verifies(api, client):
    proof = read(client, f"/v1/accounts/{api.alice.hex}/proof")
    path = [[bytes.fromhex(item[2:]) for item in level] for level in proof["path"]]
    root, leaf = bytes.fromhex(proof["accounts_root"][2:]), bytes.fromhex(proof["leaf"][2:])
    assert verify_merkle(root, proof["index"], leaf, path)
    assert not verify_merkle(root, proof["index"] + 1, leaf, path)
    parts = [bytes.fromhex(proof[name][2:]) for name in ("accounts_root", "history", "counters")]
    state = digest("outcry/state/1", api.world.network, *parts)
    assert proof["root"] == "0x" + state.hex() == "0x" + api.world.node.exchange.root.hex()
    unknown = f"/v1/accounts/{api.stranger.hex}/proof"
    assert read(client, unknown, status=404)["error"]["code"] == "E108"


def test_an_unknown_account_is_not_found(api, client):
    error = read(client, f"/v1/accounts/{api.stranger.hex}", status=404)["error"]
    assert error["code"] == "E108"
    assert error["next"] == "deposit into the vault first"


def test_an_envelope_tells_how_far_it_has_come(api, client):
    placed = read(client, f"/v1/envelopes/0x{api.placed.hex()}")
    assert placed["height"] == 3
    refused = read(client, f"/v1/envelopes/0x{api.rejected.hex()}")
    assert refused["rejections"] == [[0, "E105"]]
    assert read(client, f"/v1/envelopes/0x{bytes(32).hex()}", status=404)["error"]["code"] == "E404"


def test_a_block_lists_its_transactions(api, client):
    block = read(client, "/v1/blocks/3", BlockDetail)
    assert [item.id for item in block.transactions] == ["0x" + api.placed.hex()]
    assert read(client, "/v1/blocks/3?after=0", BlockDetail).transactions == []
    assert read(client, "/v1/blocks/999", status=404)["error"]["code"] == "E404"


def test_blocks_without_from_are_the_newest(api, client):
    height = api.world.node.exchange.height
    newest = read(client, "/v1/blocks?limit=2", Blocks).blocks
    assert [block.height for block in newest] == [height - 1, height]
    upto = read(client, "/v1/blocks?to=2&limit=1", Blocks).blocks
    assert [block.height for block in upto] == [2]


def test_raw_bytes_are_what_their_cid_names(client):
    block = read(client, "/v1/blocks", Blocks).blocks[-1]
    for cid in (block.cid, block.batch):
        response = client.get(f"/v1/blocks/{cid}/raw")
        assert matches(from_text(cid), response.content)
        assert "immutable" in response.headers["cache-control"]


def test_an_archive_holds_the_range(client, tmp_path):
    response = client.get("/v1/export?from=1&to=3")
    path = tmp_path / "archive.car"
    path.write_bytes(response.content)
    with ArchiveReader.open(path) as archive:
        held = dict(archive)
    blocks = read(client, "/v1/blocks?from=1&to=3", Blocks).blocks
    assert {from_text(block.cid) for block in blocks} <= held.keys()
    assert int(response.headers["content-length"]) == len(response.content)


def test_an_archive_of_unrecorded_heights_is_refused(client):
    assert read(client, "/v1/export?from=1&to=900", status=400)["error"]["code"] == "E642"
    assert read(client, "/v1/export?from=3&to=1", status=400)["error"]["code"] == "E401"
    assert read(client, "/v1/export?from=1&to=9000", status=400)["error"]["code"] == "E401"


def test_metrics_are_prometheus_text(client):
    text = client.get("/metrics").text
    assert re.search(r"^outcry_exchange_height \d", text, re.MULTILINE)
    assert re.search(r"^outcry_api_server_connections \d", text, re.MULTILINE)
    assert re.search(r'^outcry_api_by_status_total\{status="200"\} \d', text, re.MULTILINE)


def test_head_is_answered_without_a_body(client):
    response = client.head("/v1/tokens")
    assert (response.status_code, response.content) == (200, b"")


def test_answers_say_where_the_client_stands(client):
    headers = client.get("/v1/tokens").headers
    assert int(headers["x-ratelimit-limit"]) == 2_000
    assert 0 < int(headers["x-ratelimit-remaining"]) < 2_000
    assert 0 <= int(headers["x-ratelimit-reset"]) <= 1


# Submitting


def post(client, path, wire, status=200):
    response = client.post(path, json={"envelope": "0x" + wire.hex()})
    assert response.status_code == status, response.text
    return response.json()


def checked(api, told):
    receipt = document.parse(Receipt, told)
    assert check_receipt(receipt, api.world.network)
    return receipt.envelope


def test_an_envelope_gets_a_signed_receipt(api, client):
    wire = api.alice.sign(api.world.network, buy(10, 1))
    assert checked(api, post(client, "/v1/envelopes", wire)) == envelope_id(wire, api.world.network)
    assert post(client, "/v1/envelopes", wire)["envelope"]  # the same bytes again


def test_each_of_several_envelopes_gets_its_own_result(api, client):
    good = api.alice.sign(api.world.network, buy(10, 1))
    bad = good[:-1] + bytes([good[-1] ^ 1])
    body = {"envelopes": ["0x" + good.hex(), "0x" + bad.hex(), "0xff"]}
    response = client.post("/v1/envelopes", json=body)
    assert response.status_code == 200
    first, second, third = response.json()["results"]
    checked(api, first["receipt"])
    assert second["error"]["code"] == "E107"
    assert third["error"]["code"] == "E101"


def test_envelopes_are_taken_as_msgpack(api, client):
    wires = [api.alice.sign(api.world.network, buy(10, 1)) for _ in range(3)]
    response = client.post(
        "/v1/envelopes",
        content=msgspec.msgpack.encode(wires),
        headers={"content-type": "application/msgpack"},
    )
    assert [checked(api, item["receipt"]) for item in response.json()["results"]] == [
        envelope_id(wire, api.world.network) for wire in wires
    ]


REFUSED = [
    ("a signature that is not the key's", 403, "E107"),
    ("a nonce outside the window", 409, "E104"),
    ("an expired envelope", 409, "E103"),
    ("a life that is too long", 400, "E110"),
    ("an unknown account", 404, "E108"),
    ("another network", 400, "E102"),
    ("bytes that are no envelope", 400, "E101"),
    ("more bytes than an envelope has", 413, "E106"),
    ("an authorization that was overtaken", 409, "E111"),
]


@pytest.mark.parametrize(
    ("status", "code"),
    [item[1:] for item in REFUSED],
    ids=[item[0] for item in REFUSED],
)
def test_a_single_envelope_is_refused_with_its_own_status(api, client, status, code):
    network, alice = api.world.network, api.alice
    wire = alice.sign(network, buy(10, 1))
    if code == "E107":
        wire = wire[:-1] + bytes([wire[-1] ^ 1])
    elif code == "E104":
        alice.nonce += 5_000_000
        wire = alice.sign(network, buy(10, 1))
        alice.nonce -= 5_000_001
    elif code == "E103":
        wire = alice.sign(network, buy(10, 1), last_valid=1)
    elif code == "E110":
        wire = alice.sign(network, buy(10, 1), last_valid=10**9)
    elif code == "E108":
        wire = api.stranger.sign(network, buy(10, 1))
    elif code == "E102":
        wire = alice.sign(hashlib.sha256(b"other").digest(), buy(10, 1))
    elif code == "E101":
        wire = b"\x90"
    elif code == "E106":
        wire = bytes(17_000)
    else:
        wire = api.world.authorization(alice, sequence=0)
    assert post(client, "/v1/envelopes", wire, status)["error"]["code"] == code


def test_routes_for_one_kind_take_that_kind(api, client):
    network, alice = api.world.network, api.alice
    checked(api, post(client, "/v1/orders", alice.sign(network, sell(500, 1))))
    checked(
        api, post(client, "/v1/withdrawals", alice.sign(network, withdraw(0, 1, alice.address)))
    )
    checked(api, post(client, "/v1/cancels", alice.sign(network, CancelAll(None))))
    checked(
        api,
        post(client, "/v1/orders", alice.sign(network, CancelAll(0), sell(500, 1))),
    )
    checked(api, post(client, "/v1/authorizations", api.world.authorization(alice, sequence=9)))


@pytest.mark.parametrize("path", ["/v1/orders", "/v1/cancels", "/v1/authorizations"])
def test_routes_for_one_kind_refuse_other_kinds(api, client, path):
    wire = api.alice.sign(api.world.network, withdraw(0, 1, api.alice.address))
    assert post(client, path, wire, 400)["error"]["code"] == "E402"


def test_a_withdrawal_hidden_beside_an_order_is_refused(api, client):
    wire = api.alice.sign(api.world.network, buy(1, 1), withdraw(0, 1, api.alice.address))
    assert post(client, "/v1/orders", wire, 400)["error"]["code"] == "E402"
    assert post(client, "/v1/withdrawals", wire, 400)["error"]["code"] == "E402"


def test_a_node_that_is_not_ready_says_so(api, client):
    api.world.node.is_ready = False
    try:
        response = client.get("/v1/health")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "E494")
        assert int(response.headers["retry-after"]) >= 1
        wire = api.alice.sign(api.world.network, buy(1, 1))
        assert post(client, "/v1/envelopes", wire, 503)["error"]["code"] == "E494"
    finally:
        api.world.node.is_ready = True


# Chat


def test_a_message_is_posted_and_read(api, client):
    heads = [from_text(cid) for cid in read(client, f"/v1/chat/{MARKET}")["heads"]]
    wire = api.bob.say(api.world.network, "hi there", heads=heads)
    response = client.post(f"/v1/chat/{MARKET}", json={"message": "0x" + wire.hex()})
    assert response.status_code == 200, response.text
    page = read(client, f"/v1/chat/{MARKET}")
    assert [item["text"] for item in page["messages"]] == ["hello", "hi there"]
    assert page["heads"] == [response.json()["cid"]]
    before = read(client, f"/v1/chat/{MARKET}?limit=1&before={response.json()['cid']}")
    assert [item["text"] for item in before["messages"]] == ["hello"]


def test_a_message_for_another_room_is_refused(api, client):
    wire = api.bob.say(api.world.network, "hi", room="ETH-USD")
    response = client.post(f"/v1/chat/{MARKET}", json={"message": "0x" + wire.hex()})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "E401")


def test_an_unknown_room_or_cursor_is_not_found(client):
    assert read(client, "/v1/chat/NOPE", status=404)["error"]["code"] == "E806"
    cid = read(client, "/v1/blocks", Blocks).blocks[0].cid
    path = f"/v1/chat/{MARKET}?before={cid}"
    assert read(client, path, status=404)["error"]["code"] == "E811"


def test_a_stranger_may_not_chat(api, client):
    wire = api.stranger.say(api.world.network, "hi")
    response = client.post(f"/v1/chat/{MARKET}", json={"message": "0x" + wire.hex()})
    assert (response.status_code, response.json()["error"]["code"]) == (403, "E807")
