"""Whatever is sent to any route: a refusal with a stable code, and the node lives on."""

import re
from http.client import HTTPConnection

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node.api.application import DOCUMENT, ROUTES
from node.api.refusals import Refused
from node.api.route import JSON, MSGPACK
from tests.node.api_world import MARKET, served

CODE = re.compile(r"E\d{3}")
HEX32 = "0x" + "00" * 32
BIG = "9" * 400


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api")
    with served(directory, requests_per_second=10**6) as furnished:
        yield furnished


@pytest.fixture(scope="module")
def client(api):
    with httpx.Client(base_url=api.url, trust_env=False) as client:
        yield client


def refused(response, *statuses):
    """The error of a refusal; anything else is a failure."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    assert not statuses or response.status_code in statuses, response.text
    error = msgspec.json.decode(response.content, type=Refused).error
    assert CODE.fullmatch(error.code)
    assert error.message
    assert error.next
    assert "Traceback" not in response.text
    return error


def alive(client):
    assert client.get("/v1/health").status_code == 200


PATHS = [
    "/",
    "/v1",
    "/v1/",
    "/v1/nope",
    "/v1/markets/",
    "/v1/markets//book",
    "/v1/markets/../status",
    "/v1/markets/%2e%2e/book",
    "/v1/markets/%2e%2e%2f%2e%2e%2fetc%2fpasswd/book",
    "/v1/markets/..%2f..%2fetc/book",
    "/v1/markets/%00/book",
    "/v1/markets/BTC%00USD/book",
    "/v1/markets/NO-PE/book",
    "/v1/markets/btc-usd/book",
    "/v1/markets/%F0%9F%92%A9/book",
    f"/v1/markets/{'A' * 3_000}/book",
    f"/v1/markets/{MARKET}/book/",
    f"/v1/markets/{MARKET}/book?depth=0",
    f"/v1/markets/{MARKET}/book?depth=-1",
    f"/v1/markets/{MARKET}/book?depth=1001",
    f"/v1/markets/{MARKET}/book?depth=NaN",
    f"/v1/markets/{MARKET}/book?depth=1e2",
    f"/v1/markets/{MARKET}/book?depth=1.0",
    f"/v1/markets/{MARKET}/book?depth=+1",
    f"/v1/markets/{MARKET}/book?depth=%D9%A3",
    f"/v1/markets/{MARKET}/book?depth=",
    f"/v1/markets/{MARKET}/book?depth",
    f"/v1/markets/{MARKET}/book?depth={BIG}",
    f"/v1/markets/{MARKET}/book?depth=1&depth=1",
    f"/v1/markets/{MARKET}/book?symbol={MARKET}",
    f"/v1/markets/{MARKET}/book?more=1",
    f"/v1/markets/{MARKET}/book?depth=%FF",
    f"/v1/markets/{MARKET}/book?{'&'.join(f'p{i}=1' for i in range(40))}",
    f"/v1/markets/{MARKET}/trades?limit=100000",
    f"/v1/markets/{MARKET}/trades?before=-1",
    f"/v1/markets/{MARKET}/trades?before={2**63}",
    f"/v1/markets/{MARKET}/candles?interval=2m",
    f"/v1/markets/{MARKET}/candles?from=x",
    f"/v1/markets/{MARKET}/candles?from_ms=1",
    "/v1/accounts/0x12",
    "/v1/accounts/0x" + "zz" * 20,
    "/v1/accounts/" + "00" * 20,
    "/v1/accounts/0x" + "00" * 20,
    "/v1/accounts/0x" + "00" * 20 + "/proof",
    "/v1/accounts/0x" + "00" * 20 + "/orders?status=closed",
    "/v1/accounts/0x" + "00" * 20 + "/orders?market=NO-PE",
    "/v1/accounts/0x" + "00" * 20 + "/trades",
    "/v1/envelopes/0x12",
    f"/v1/envelopes/{HEX32}",
    f"/v1/envelopes/{HEX32}ff",
    "/v1/blocks/-1",
    "/v1/blocks/999999",
    f"/v1/blocks/{2**63}",
    f"/v1/blocks/{BIG}",
    "/v1/blocks/nope/raw",
    "/v1/blocks/bafy/raw",
    "/v1/blocks/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy/raw",
    "/v1/blocks/%2fetc%2fpasswd/raw",
    f"/v1/blocks/{'b' * 5_000}/raw",
    "/v1/blocks?from=-1",
    "/v1/blocks?first=1",
    "/v1/export",
    "/v1/export?from=1",
    "/v1/export?from=0&to=1",
    "/v1/export?from=1&to=999999999",
    f"/v1/export?from=1&to={2**63 - 1}",
    "/v1/rollups/999",
    "/v1/rollups?limit=0",
    "/v1/chat/NOPE",
    "/v1/chat/..%2f..%2fx",
    f"/v1/chat/{MARKET}?before=nope",
    f"/v1/chat/{MARKET}?limit=201",
    "/v1/stream",
    "/v1/status?x=1",
    "/metrics?x=1",
]


@pytest.mark.parametrize("path", PATHS, ids=[path[:80] for path in PATHS])
def test_a_bad_path_or_query_is_refused(api, client, path):
    connection = HTTPConnection(api.url.removeprefix("http://"))  # which sends paths as they are
    connection.request("GET", path)
    response = connection.getresponse()
    refused(httpx.Response(response.status, content=response.read()))
    connection.close()
    alive(client)


METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]


@pytest.mark.parametrize("path", sorted({route.path for route in ROUTES}))
def test_other_methods_are_refused_with_those_allowed(client, path):
    allowed = {route.method for route in ROUTES if route.path == path}
    for method in METHODS:
        if method in allowed:
            continue
        response = client.request(method, path.replace("{", "").replace("}", ""))
        assert refused(response, 405).code == "E405"
        assert allowed <= set(response.headers["allow"].split(", "))
    alive(client)


POSTS = [route for route in ROUTES if route.method == "POST"]
BODIES = [
    b"",
    b"x",
    b"null",
    b"[]",
    b"{}",
    b"5",
    b'"text"',
    b"{",
    b"\xff\xfe",
    b'{"envelope": "\xff"}',
    b'{"envelope": "\\ud800"}',
    b'{"envelope": null}',
    b'{"envelope": 5}',
    b'{"envelope": NaN}',
    b'{"envelope": 1e999}',
    b'{"envelope": ""}',
    b'{"envelope": "0x"}',
    b'{"envelope": "0x1"}',
    b'{"envelope": "0xzz"}',
    b'{"envelope": "0x 00"}',
    b'{"envelope": "00"}',
    b'{"envelope": "0x00", "more": 1}',
    b'{"envelope": "0x00", "envelopes": ["0x00"]}',
    b'{"envelopes": []}',
    b'{"envelopes": "0x00"}',
    b'{"envelopes": [5]}',
    b'{"envelopes": {"a": 1}}',
    b'{"envelopes": ["zz"]}',
    msgspec.json.encode({"envelopes": ["0x00"] * 257}),
    b'{"message": ""}',
    b'{"message": "0x00"}',
    b'{"message": ["0x00"]}',
    b"[" * 20_000,
    b'{"a":' * 20_000,
    b'{"envelope": "0x' + b"00" * 40_000 + b'"}',
]


@pytest.mark.parametrize("route", POSTS, ids=[route.path for route in POSTS])
@pytest.mark.parametrize("number", range(len(BODIES)))
def test_a_bad_body_is_refused(client, route, number):
    path = route.path.replace("{room}", MARKET)
    refused(client.post(path, content=BODIES[number], headers={"content-type": JSON}))
    alive(client)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x90",
        b"\x91\xa1x",
        b"\x91\xc4\x00",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 20_000,
        msgspec.msgpack.encode([b"x"] * 257),
        msgspec.msgpack.encode({"envelopes": [b"x"]}),
    ],
)
def test_bad_msgpack_is_refused(client, body):
    refused(client.post("/v1/envelopes", content=body, headers={"content-type": MSGPACK}), 400)
    alive(client)


@pytest.mark.parametrize("route", POSTS, ids=[route.path for route in POSTS])
@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/xml", "a/b; json", "\xe9"])
def test_another_content_type_is_refused(client, route, kind):
    headers = {} if kind is None else {"content-type": kind.encode("latin-1")}
    path = route.path.replace("{room}", MARKET)
    assert refused(client.post(path, content=b"{}", headers=headers), 415).code == "E415"


def test_a_content_type_may_carry_parameters(client):
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert refused(client.post("/v1/envelopes", content=b"{}", headers=headers)).code == "E401"


@pytest.mark.parametrize("route", POSTS, ids=[route.path for route in POSTS])
def test_an_oversized_body_is_refused(api, route):
    path = route.path.replace("{room}", MARKET)

    def endless():
        for _ in range(route.body_bytes_max // 65_536 + 2):
            yield b"x" * 65_536

    with httpx.Client(base_url=api.url, trust_env=False) as client:
        for content in (endless(), bytes(route.body_bytes_max + 1)):
            response = client.post(path, content=content, headers={"content-type": JSON})
            assert refused(response, 413).code == "E413"
        alive(client)


def test_an_answer_is_not_lost_over_a_body_that_nobody_wants(client):
    for path in ("/v1/nope", "/v1/status"):
        assert refused(client.post(path, content=bytes(5_000_000))).code in ("E404", "E405")


def test_a_mistake_of_the_node_is_told_without_its_details(api, client, monkeypatch):
    monkeypatch.setattr(type(api.world.node), "status", lambda _self: 1 // 0)
    response = client.get("/v1/status")
    assert response.status_code == 500
    error = msgspec.json.decode(response.content, type=Refused).error
    assert error.code == "E490"
    assert "division" not in response.text
    monkeypatch.undo()
    alive(client)
    assert re.search(r"^outcry_api_guarded_total [1-9]", client.get("/metrics").text, re.MULTILINE)


def test_a_slow_answer_is_given_up_with_its_outcome_unknown(api, client, monkeypatch):
    async def never(_self, _wires):
        import trio

        await trio.sleep_forever()

    monkeypatch.setattr("node.api.door.REQUEST_DEADLINE_S", 0.1)
    monkeypatch.setattr(type(api.world.node), "submit", never)
    response = client.post("/v1/envelopes", json={"envelope": "0x00"})
    assert (response.status_code, response.json()["error"]["code"]) == (504, "E491")
    alive(client)


# Everything that the table of routes says may be sent, and much that it does not

TEXTS = st.one_of(
    st.text(max_size=40),
    st.integers(-(2**70), 2**70).map(str),
    st.floats().map(str),
    st.sampled_from([MARKET, "ETH-USD", HEX32, "0x" + "11" * 20, "1m", "open", "all", "1", "0"]),
    st.binary(max_size=20).map(lambda data: "0x" + data.hex()),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


def quoted(text):
    return "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "surrogatepass"))


@st.composite
def requests(draw):
    """(method, raw path, content type, body) for some route, its parameters drawn freely."""
    route = draw(st.sampled_from(ROUTES))
    operation = DOCUMENT["paths"][route.path][route.method.lower()]
    path, query = route.path, []
    for parameter in operation["parameters"]:
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", quoted(draw(TEXTS)) or "x")
        elif draw(st.booleans()):
            query.append(f"{parameter['name']}={quoted(draw(TEXTS))}")
    if draw(st.integers(0, 5)) == 0:
        query.append(f"{quoted(draw(TEXTS))}={quoted(draw(TEXTS))}")
    body, kind = b"", None
    if "requestBody" in operation:
        kind = draw(st.sampled_from([*operation["requestBody"]["content"], "text/plain"]))
        names = ["envelope", "envelopes", "message"]
        whole = VALUES | st.dictionaries(st.sampled_from(names), VALUES, max_size=3)
        encode = msgspec.msgpack.encode if kind == MSGPACK else msgspec.json.encode
        body = draw(st.binary(max_size=50) | whole.map(encode))
    return route.method, path + ("?" + "&".join(query) if query else ""), kind, body


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests())
def test_no_request_is_answered_by_a_mistake(api, client, request):
    method, path, kind, body = request
    url = httpx.URL(api.url).copy_with(raw_path=path.encode())
    headers = {} if kind is None else {"content-type": kind}
    response = client.send(client.build_request(method, url, content=body, headers=headers))
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        refused(response)
    else:
        assert response.status_code == 200
