"""The embedded chain's process: what it answers, what it refuses, what survives kill -9."""

import http.client
import json
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from eth_account import Account
from web3 import Web3
from web3.exceptions import Web3RPCError

from primitives.secp256k1 import EvmKey, checksum_address
from settlement import dev_key
from settlement._endpoints import Endpoints
from settlement._evm_store import EvmStore
from settlement._json_nesting import is_shallow
from settlement._sender import Sender
from settlement.dev_accounts import ACCOUNTS_FUNDED
from settlement.faults import EvmStateUnusable

CHAIN_ID = 31_337
BATCH_CALLS_MAX = 100
BODY_BYTES_MAX = 1_048_576
ROOT = Path(__file__).parents[2]
SOMEBODY = b"\x33" * 20
PARSE, INVALID, UNKNOWN, PARAMS, SERVER = -32700, -32600, -32601, -32602, -32000


@pytest.fixture
def ask(evm):
    """Sends any body; the decoded answer."""
    with httpx.Client(timeout=30) as client:

        def post(body):
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return client.post(evm.url, content=content).json()

        yield post


@pytest.fixture
def result(ask):
    """One call that must succeed."""

    def run(method, *params):
        answer = ask({"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
        assert answer.get("id") == 7
        assert "error" not in answer, answer
        return answer["result"]

    return run


@pytest.fixture
def code(ask):
    """One call that must fail: the error's code."""

    def run(method, *params):
        return ask({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})["error"][
            "code"
        ]

    return run


def sender_on(url, index=1):
    endpoints = Endpoints([url])
    return Web3(endpoints), Sender(endpoints, dev_key(index), CHAIN_ID)


def test_the_usual_accounts_are_funded(result, evm):
    assert evm.accounts[0] == "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    assert result("eth_accounts") == [account.lower() for account in evm.accounts]
    assert len(evm.accounts) == ACCOUNTS_FUNDED
    for index, account in enumerate(evm.accounts):
        assert checksum_address(EvmKey(dev_key(index)).address) == account
    assert int(result("eth_getBalance", evm.accounts[9], "latest"), 16) == 10_000 * 10**18


def test_it_says_what_web3_asks_for(result):
    assert result("eth_chainId") == hex(CHAIN_ID)
    assert result("net_version") == str(CHAIN_ID)
    assert "py-evm" in result("web3_clientVersion")
    assert int(result("eth_gasPrice"), 16) > int(result("eth_maxPriorityFeePerGas"), 16) > 0
    history = result("eth_feeHistory", "0x2", "latest", [10, 90])
    assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1
    head = result("eth_getBlockByNumber", "latest", False)
    assert head["number"] == result("eth_blockNumber")
    assert head["gasLimit"] == hex(60_000_000)
    assert result("eth_getBlockByHash", head["hash"], False) == head
    assert result("eth_getBlockByNumber", hex(10**6), False) is None


def test_a_block_can_be_read_with_its_transactions(evm, result):
    web3, sender = sender_on(evm.url)
    sent = sender.submit(SOMEBODY, b"", 3)
    receipt = sender.receipt(sent)
    block = web3.eth.get_block(receipt.block, full_transactions=True)
    assert block["transactions"][0]["value"] == 3
    assert block["transactions"][0] == web3.eth.get_transaction(sent.hashes[0])
    assert result("eth_getTransactionReceipt", "0x" + "ab" * 32) is None
    parent = web3.eth.get_block(receipt.block - 1)
    assert block["parentHash"] == parent["hash"]
    assert block["timestamp"] > parent["timestamp"]


def test_state_is_answered_as_of_any_block(evm):
    web3, sender = sender_on(evm.url)
    somebody = web3.to_checksum_address(b"\x44" * 20)
    blocks = [sender.receipt(sender.submit(b"\x44" * 20, b"", 1)).block for _ in range(3)]
    assert [web3.eth.get_balance(somebody, block) for block in blocks] == [1, 2, 3]


def test_web3_finds_fees_by_itself(evm):
    web3, _ = sender_on(evm.url)
    account = Account.from_key(dev_key(2))
    fields = {"to": web3.to_checksum_address(SOMEBODY), "value": 1, "nonce": 0, "gas": 21_000}
    fields |= {"chainId": CHAIN_ID, "gasPrice": web3.eth.gas_price}
    fields["nonce"] = web3.eth.get_transaction_count(account.address)
    tx = web3.eth.send_raw_transaction(account.sign_transaction(fields).raw_transaction)
    assert web3.eth.get_transaction_receipt(tx)["status"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"nonce": 10**6}, "nonce too high"),
        ({"nonce": 0}, "nonce too low"),
        ({"chainId": 1}, "invalid chain id"),
        ({"gas": 20_000}, "intrinsic gas too low"),
        ({"gas": 60_000_001}, "exceeds gas limit"),
        ({"value": 10**30}, "insufficient funds"),
        ({"maxFeePerGas": 1, "maxPriorityFeePerGas": 1}, "base fee"),
        ({"data": "0x" + "ff" * 1_000, "gas": 37_200}, "intrinsic gas too low"),
    ],
)
def test_a_transaction_that_no_block_may_hold_is_refused(evm, changes, words):
    web3, sender = sender_on(evm.url, 3)
    sender.submit(SOMEBODY, b"", 1)
    account = Account.from_key(dev_key(3))
    head = web3.eth.block_number
    fields = {
        "to": web3.to_checksum_address(SOMEBODY),
        "value": 1,
        "gas": 21_000,
        "nonce": web3.eth.get_transaction_count(account.address),
        "chainId": CHAIN_ID,
        "maxFeePerGas": 10**11,
        "maxPriorityFeePerGas": 10**9,
    }
    signed = account.sign_transaction({**fields, **changes})
    with pytest.raises(Web3RPCError, match=words):
        web3.eth.send_raw_transaction(signed.raw_transaction)
    assert web3.eth.block_number == head
    sender.submit(SOMEBODY, b"", 1)


def test_a_transaction_that_is_mined_already_is_known(evm):
    web3, sender = sender_on(evm.url)
    sent = sender.submit(SOMEBODY, b"", 1)
    with pytest.raises(Web3RPCError, match="already known"):
        web3.eth.send_raw_transaction(sent.raw)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", PARSE),
        (b"{", PARSE),
        (b"\xff\xfe\x00", PARSE),
        (b"[" * 100_000, PARSE),
        ([], INVALID),
        (1, INVALID),
        (None, INVALID),
        ("eth_chainId", INVALID),
        ({}, INVALID),
        ({"jsonrpc": "1.0", "id": 1, "method": "eth_chainId"}, INVALID),
        ({"jsonrpc": "2.0", "id": 1, "method": 5}, INVALID),
        ({"jsonrpc": "2.0", "id": 1, "method": "eth_sign"}, UNKNOWN),
        ({"jsonrpc": "2.0", "id": 1, "method": "__init__"}, UNKNOWN),
        ({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": {}}, PARAMS),
        ([{"jsonrpc": "2.0", "id": 1, "method": "eth_chainId"}] * (BATCH_CALLS_MAX + 1), INVALID),
    ],
)
def test_garbage_gets_the_error_of_the_standard(ask, result, body, expected):
    assert ask(body)["error"]["code"] == expected
    assert result("eth_chainId") == hex(CHAIN_ID)


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("eth_getBalance", [], PARAMS),
        ("eth_getBalance", ["0x12", "latest"], PARAMS),
        ("eth_getBalance", [5, "latest"], PARAMS),
        ("eth_getBalance", ["0x" + "zz" * 20, "latest"], PARAMS),
        ("eth_getBalance", ["0x" + "11" * 20, "0x" + "f" * 64], SERVER),
        ("eth_getBalance", ["0x" + "11" * 20, "newest"], PARAMS),
        ("eth_getBalance", ["0x" + "11" * 20, {"blockHash": "0x" + "00" * 32}], SERVER),
        ("eth_getBlockByNumber", ["latest", "yes"], PARAMS),
        ("eth_getBlockByNumber", ["0x-1", False], PARAMS),
        ("eth_getBlockByNumber", ["0x1_0", False], PARAMS),
        ("eth_getBalance", ["0x" + "1 " * 20, "latest"], PARAMS),
        ("eth_call", ["latest"], PARAMS),
        ("eth_call", [{"to": "0x11"}], PARAMS),
        ("eth_call", [{"to": "0x" + "11" * 20, "gas": "0x1"}], SERVER),
        ("eth_call", [{"to": "0x" + "11" * 20, "value": "0x" + "f" * 40}], SERVER),
        ("eth_estimateGas", [{"data": "0xzz"}], PARAMS),
        ("eth_sendRawTransaction", ["0x"], SERVER),
        ("eth_sendRawTransaction", ["0x" + "02" * 100], SERVER),
        ("eth_sendRawTransaction", ["0xc0"], SERVER),
        ("eth_sendRawTransaction", ["0x03" + "00" * 50], SERVER),
        ("eth_sendRawTransaction", ["0x" + "00" * 200_000], SERVER),
        ("eth_sendRawTransaction", [None], PARAMS),
        ("eth_getLogs", [{"topics": "0x"}], PARAMS),
        ("eth_getLogs", [{"address": ["0x12"]}], PARAMS),
        ("eth_getLogs", [{"topics": [None] * 5}], PARAMS),
        ("eth_getTransactionReceipt", ["0x12"], PARAMS),
        ("eth_feeHistory", [10**9, "latest", []], PARAMS),
        ("eth_getStorageAt", ["0x" + "11" * 20, "slot", "latest"], PARAMS),
    ],
)
def test_wrong_parameters_are_refused(code, result, method, params, expected):
    head = result("eth_blockNumber")
    assert code(method, *params) == expected
    assert result("eth_blockNumber") == head


def test_a_batch_is_answered_in_order_and_notifications_are_not(ask):
    call = {"jsonrpc": "2.0", "method": "eth_chainId", "params": []}
    unknown = {**call, "method": "eth_sign"}
    answers = ask([{**call, "id": 1}, call, unknown, {**call, "id": "b"}, 5])
    assert [answer["id"] for answer in answers] == [1, "b", None]


def test_a_huge_body_is_refused_unread(evm, result):
    where = urlsplit(evm.url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", str(BODY_BYTES_MAX + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()
    assert result("eth_chainId") == hex(CHAIN_ID)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n", 413),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
def test_what_is_no_post_of_known_length_is_refused(evm, result, request_bytes, status):
    where = urlsplit(evm.url)
    with socket.create_connection((where.hostname, where.port), timeout=10) as raw:
        raw.sendall(request_bytes)
        answer = b""
        while chunk := raw.recv(65_536):
            answer += chunk
    assert str(status).encode() in answer
    assert result("eth_chainId") == hex(CHAIN_ID)


def test_kill_minus_nine_loses_nothing_that_was_answered(own_evm):
    web3, sender = sender_on(own_evm.url)
    sent = [sender.submit(SOMEBODY, b"", 10 + i) for i in range(5)]
    before = [sender.receipt(one) for one in sent]
    head = web3.eth.get_block("latest")
    own_evm.kill()
    own_evm.start()
    web3, sender = sender_on(own_evm.url)
    assert web3.eth.get_block("latest") == head
    assert web3.eth.get_balance(web3.to_checksum_address(SOMEBODY)) == sum(range(10, 15))
    assert [sender.receipt(one) for one in sent] == before
    assert web3.eth.get_balance(web3.to_checksum_address(SOMEBODY), 2) == 21
    assert sender.receipt(sender.submit(SOMEBODY, b"", 1)).block == head["number"] + 1


def test_kill_minus_nine_in_the_middle_of_sending_leaves_whole_blocks(own_evm):
    client = f"""
from settlement import dev_key
from settlement._endpoints import Endpoints
from settlement._sender import Sender
sender = Sender(Endpoints([{own_evm.url!r}]), dev_key(1), {CHAIN_ID})
while True:
    print(sender.submit(bytes([51]) * 20, b"", 1).hashes[0].hex(), flush=True)
"""
    flood = subprocess.Popen([sys.executable, "-c", client], cwd=ROOT, stdout=subprocess.PIPE)
    answered = [flood.stdout.readline().strip() for _ in range(8)]
    own_evm.kill()
    flood.kill()
    rest = [line for line in flood.stdout.read().splitlines() if len(line) == 64]
    flood.wait()
    own_evm.start()
    web3, sender = sender_on(own_evm.url)
    for tx in [*answered, *rest]:
        assert web3.eth.get_transaction_receipt(bytes.fromhex(tx.decode()))["status"] == 1
    head = web3.eth.block_number
    assert web3.eth.get_balance(web3.to_checksum_address(b"\x33" * 20)) == head
    assert web3.eth.get_transaction_count(web3.to_checksum_address(sender.address)) == head


def test_a_state_directory_serves_one_process(evm):
    command = [sys.executable, "-m", "settlement.evm", "--state", str(evm.state)]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert second.returncode == 1
    assert b"E740" in second.stderr
    assert b"in use by another process" in second.stderr


def test_a_state_directory_holds_one_chain(tmp_path):
    EvmStore(tmp_path, "chain 31337").close()
    with pytest.raises(EvmStateUnusable, match="holds chain 31337"):
        EvmStore(tmp_path, "chain 99")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "chain.sqlite").write_bytes(b"not a database" * 1_000)
    with pytest.raises(EvmStateUnusable, match="unreadable"):
        EvmStore(tmp_path, "chain 31337")


def test_a_contract_that_calls_itself_without_end_only_runs_out_of_gas(evm, odd_contract):
    web3, sender = sender_on(evm.url)
    artifact = odd_contract("Bottomless")
    created = sender.submit(None, bytes.fromhex(artifact.bytecode[2:]))
    where = sender.receipt(created).contract
    contract = web3.eth.contract(address=web3.to_checksum_address(where), abi=artifact.abi)
    assert contract.functions.dig().call() > 200
    assert web3.eth.chain_id == CHAIN_ID


@pytest.mark.parametrize(
    ("body", "shallow"),
    [
        (b"[" * 64, True),
        (b"[" * 65, False),
        (b'{"a":' * 65, False),
        (b'["]",' * 65, False),
        (b'["\\"]",' * 65, False),
        (b'["' + b"[" * 1_000 + b'"]', True),
        (b"[" + b"[]," * 1_000 + b"[]]", True),
        (b"[]" * 1_000_001, False),
    ],
)
def test_nesting_is_measured_outside_strings(body, shallow):
    assert is_shallow(body) is shallow
