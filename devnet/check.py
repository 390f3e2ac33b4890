"""Checking a demo's report against the nodes, the chain, and an offline replay.

    outcome = await check_report(report, cluster_state, genesis)

Each finding names what was compared; the first difference does not hide the others.
"""

from pathlib import Path
from typing import Any

import httpx
import msgspec

from devnet.demo import MARKET, chat_report, wait_height
from devnet.layout import ClusterState
from devnet.replay import Replayed, replay
from devnet.report import DemoReport
from exchange.network import NetworkGenesis
from primitives.anchors import keccak, word
from primitives.faults import Fault

REQUEST_TIMEOUT_S = 20.0


class Finding(msgspec.Struct, frozen=True):
    """One comparison: what, whether it holds, and what was seen."""

    what: str
    holds: bool
    seen: str


async def check_report(
    report: DemoReport, state: ClusterState, genesis: NetworkGenesis
) -> list[Finding]:
    """Compare everything that can be asked again.

    Errors: those of httpx when a node is away, `DemoFailed` when it does not catch up.
    """
    async with httpx.AsyncClient(timeout=REQUEST_TIMEOUT_S, trust_env=False) as http:
        findings = [
            _finding("the network is the one of the genesis", report.network, state.network),
            _finding("the genesis gives its network id", genesis.network_id().hex(), state.network),
        ]
        findings += await _check_nodes(http, report, state)
        findings += await _check_chain(http, report, state, genesis)
        chat = await chat_report(http, state)
        findings.append(_finding("the room's history", report.chat.cids, chat.cids))
        findings.append(_finding("all nodes have the same history", chat.equal_on_all_nodes, True))
    return findings + _check_replay(report, genesis)


async def _check_nodes(
    http: httpx.AsyncClient, report: DemoReport, state: ClusterState
) -> list[Finding]:
    findings = []
    for node in state.nodes:
        highest = max([len(report.blocks), *(item.height for item in report.validators)])
        at_least = f"at least {highest}"
        seen = await wait_height(http, node.api, highest)
        findings.append(
            Finding(
                f"{node.name} stands at or above the report's height",
                seen >= highest,
                f"{seen}, {at_least}",
            )
        )
        last = report.blocks[-1] if report.blocks else ""
        height = len(report.blocks)
        block = (await http.get(f"{node.api}/v1/blocks/{height}")).json()
        findings.append(
            _finding(f"{node.name} has the same block {height}", last, block.get("cid"))
        )
        trades = (await http.get(f"{node.api}/v1/markets/{MARKET}/trades?limit=1000")).json()
        fills = [(item["number"], item["price"], item["size"]) for item in trades["trades"]]
        expected = [(fill.trade, fill.price, fill.size) for fill in reversed(report.fills)]
        findings.append(
            _finding(f"{node.name} has the same trades", expected, fills[-len(expected) :])
        )
    return findings


async def _check_chain(
    http: httpx.AsyncClient, report: DemoReport, state: ClusterState, genesis: NetworkGenesis
) -> list[Finding]:
    findings = []
    for transaction in report.settlement:
        receipt = await _rpc(http, state, "eth_getTransactionReceipt", [transaction.tx])
        gas = int(receipt["gasUsed"], 16) if receipt else None
        findings.append(
            _finding(
                f"the chain has {transaction.what} {transaction.tx[:10]}", transaction.gas, gas
            )
        )
    symbols = [token.symbol for token in genesis.exchange.tokens]
    for balance in report.balances:
        contract = genesis.contracts[symbols.index(balance.token)]
        data = keccak(b"balanceOf(address)")[:4] + word(bytes.fromhex(balance.address[2:]))
        call = {"to": "0x" + contract.address.hex(), "data": "0x" + data.hex()}
        raw = await _rpc(http, state, "eth_call", [call, "latest"])
        units = int(raw, 16) // contract.scale if raw else None
        findings.append(
            _finding(f"{balance.trader}'s {balance.token} on chain", balance.after, units)
        )
    return findings


def _check_replay(report: DemoReport, genesis: NetworkGenesis) -> list[Finding]:
    try:
        replayed = replay(Path(report.archive), genesis)
    except (Fault, OSError) as fault:
        return [Finding("the exported blocks replay offline", False, str(fault))]
    return [
        Finding(
            "the exported blocks replay offline",
            replayed.transactions > 0,
            f"{replayed.height} blocks, {replayed.transactions} envelopes",
        ),
        _finding(
            "the replayed blocks are the report's",
            report.blocks[: replayed.height],
            replayed.blocks,
        ),
        *_check_checkpoints(report, replayed),
    ]


def _check_checkpoints(report: DemoReport, replayed: Replayed) -> list[Finding]:
    findings = []
    for item in report.validators:
        root = replayed.roots.get(item.checkpoint_height)
        if root is not None:
            findings.append(
                _finding(
                    f"the replay gives {item.id}'s root at height {item.checkpoint_height}",
                    item.checkpoint_root,
                    root.hex(),
                )
            )
    if not findings:
        findings.append(Finding("a checkpoint lies within the replay", False, "none does"))
    return findings


async def _rpc(
    http: httpx.AsyncClient, state: ClusterState, method: str, params: list[object]
) -> Any:
    question = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return (await http.post(state.evm, json=question)).json().get("result")


def _finding(what: str, expected: object, seen: object) -> Finding:
    holds = expected == seen
    text = str(seen)
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    return Finding(what, holds, shown if holds else f"{shown}, expected {expected!s:.80}")
