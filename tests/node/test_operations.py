"""What operators are given agrees with itself: dashboard, alerts and their description."""

import json
import re
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "operations"
DASHBOARD = json.loads((FOLDER / "dashboard.json").read_text())
ALERTS = yaml.safe_load((FOLDER / "alerts.yml").read_text())
README = (FOLDER / "README.md").read_text()
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
ROWS = {"Agreement", "Validators", "Journal and disk", "Network", "Execution"}
GRID_WIDTH = 24


def names(panels):
    return [panel["title"] for panel in panels]


def overlap(one, other):
    across = one["x"] < other["x"] + other["w"] and other["x"] < one["x"] + one["w"]
    down = one["y"] < other["y"] + other["h"] and other["y"] < one["y"] + one["h"]
    return across and down


def test_the_dashboard_has_its_rows_and_variables():
    assert {panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"} == ROWS
    variables = {item["name"] for item in DASHBOARD["templating"]["list"]}
    assert {"datasource", "instance"} <= variables
    assert DASHBOARD["schemaVersion"] >= 38


def test_panels_have_their_own_place_and_number():
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    assert all(place["x"] + place["w"] <= GRID_WIDTH for place in places)
    clashes = [
        (one, other)
        for number, one in enumerate(places)
        for other in places[:number]
        if overlap(one, other)
    ]
    assert clashes == []
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("panel", PANELS, ids=names(PANELS))
def test_a_panel_asks_the_chosen_source_for_the_chosen_nodes(panel):
    assert panel["description"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        selected = re.findall(r"outcry_\w+(\{[^}]*\})?", target["expr"])
        assert all('instance=~"$instance"' in braces for braces in selected), target["expr"]


@pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
def test_an_alert_says_how_bad_it_is_and_what_to_do_next(rule):
    assert rule["expr"]
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"]
    assert len(rule["annotations"]["description"].split(".")) >= 2
    assert re.fullmatch(r"\d+[sm]", rule.get("for", "0s"))


def test_alerts_have_names_of_their_own():
    found = [rule["alert"] for rule in RULES]
    assert len(set(found)) == len(found)


def test_every_alert_and_panel_is_described_and_no_other():
    rows = set(re.findall(r"^\| ([^|]+?) \|", README, re.MULTILINE)) - {"alert", "panel"}
    described = {row.strip("`") for row in rows}
    assert described == {rule["alert"] for rule in RULES} | set(names(PANELS))


def test_a_threshold_is_drawn_where_its_alert_rings():
    """The line in a panel is the number in the rule that the panel's description names."""
    by_name = {rule["alert"]: rule["expr"] for rule in RULES}
    checked = 0
    for panel in PANELS:
        named = re.search(r"(Outcry\w+) warns above the line", panel["description"])
        if named is None:
            continue
        line = panel["fieldConfig"]["defaults"]["thresholds"]["steps"][-1]["value"]
        numbers = [float(text) for text in re.findall(r"> ([\d.]+)", by_name[named[1]])]
        assert line in numbers, panel["title"]
        checked += 1
    assert checked > 0


def test_the_links_of_the_description_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []
