"""What dashboard and alerts ask for is what running nodes show."""

import json
import re
from pathlib import Path

import httpx
import pytest
import trio
import yaml
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.cluster

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "operations"
WAIT_S = 60
OF_PROMETHEUS = {"up"}  # made by the one that scrapes
WORDS = re.compile(r"\b(?:outcry_\w+|up)\b")


def queries():
    dashboard = json.loads((FOLDER / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield f"variable {variable['name']}", variable["query"]["query"]
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield f"alert {rule['alert']}", rule["expr"]


async def families(cluster, name):
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{cluster.node(name).api}/metrics")
    assert answer.status_code == 200
    return list(text_string_to_metric_families(answer.text))


async def samples(cluster, name):
    """The samples of a node, once it has certified rounds and answered somebody."""
    with trio.fail_after(WAIT_S):
        while True:
            found = [item for family in await families(cluster, name) for item in family.samples]
            held = {item.name: item.value for item in found}
            worked = (
                held["outcry_consensus_rounds_certified_total"] and held["outcry_ledger_height"]
            )
            if worked and "outcry_api_by_status_total" in held:
                return found
            await trio.sleep(0.2)


async def test_a_validator_shows_every_metric_that_dashboard_and_alerts_ask_for(outcry_cluster):
    shown = {item.name for item in await samples(outcry_cluster, "v1")} | OF_PROMETHEUS
    asked = {(who, name) for who, query in queries() for name in WORDS.findall(query)}
    assert len(asked) > 50
    assert sorted(item for item in asked if item[1] not in shown) == []


async def test_counters_and_only_they_are_rated(outcry_cluster):
    found = await families(outcry_cluster, "v1")
    counters = {
        item.name for family in found if family.type == "counter" for item in family.samples
    }
    assert all(name.endswith("_total") for name in counters)
    rated = {name for _, query in queries() for name in re.findall(r"rate\((\w+)", query)}
    assert rated
    assert rated <= counters


async def test_labels_that_queries_group_by_are_there(outcry_cluster):
    found = await samples(outcry_cluster, "v1")
    names = {f"v{number}" for number in range(5)}
    for prefix, expected in (("outcry_validator_", names), ("outcry_peer_", names - {"v1"})):
        seen = {item.name for item in found if item.name.startswith(prefix)}
        assert seen
        for name in seen:
            assert {item.labels["validator"] for item in found if item.name == name} == expected
    statuses = {
        item.labels["status"] for item in found if item.name == "outcry_api_by_status_total"
    }
    assert "200" in statuses


async def test_a_gateway_says_nothing_about_votes(outcry_cluster):
    found = {item.name for item in await samples(outcry_cluster, "g0")}
    assert "outcry_peer_connected" in found
    assert "outcry_peer_linked" not in found, "frames go between validators only"
    assert [name for name in found if name.startswith("outcry_validator_")] == []
    assert "outcry_consensus_signing" not in found


@pytest.mark.parametrize(("name", "signs"), [("v1", True), ("g0", False)])
async def test_status_tells_who_signs_and_who_is_in_disgrace(outcry_cluster, name, signs):
    async with httpx.AsyncClient(trust_env=False) as http:
        told = (await http.get(f"{outcry_cluster.node(name).api}/v1/status")).json()
    assert told["signing"] is signs
    assert told["epoch"] >= 1
    assert told["accused"] == []
    assert set(told["passed_over"]) <= {f"v{number}" for number in range(5)}
