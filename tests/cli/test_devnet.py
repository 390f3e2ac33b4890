"""`outcry devnet` as a person uses it: the demo, its check, Ctrl-C, and wrong use."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

OUTCRY = [sys.executable, "-m", "cli.main", "devnet"]
DEMO_S_MAX = 240
STOP_S_MAX = 60


def outcry(*arguments, cwd, timeout=DEMO_S_MAX):
    return subprocess.run(
        [*OUTCRY, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


def processes_below(directory):
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(directory) in part for part in process.info["cmdline"] or ()):
            found.append(process.pid)
    return found


@pytest.mark.parametrize("command", ["up", "demo", "check", "status", "load", "down"])
def test_every_command_explains_itself_with_an_example(command, tmp_path):
    shown = outcry(command, "--help", cwd=tmp_path)
    assert shown.returncode == 0
    assert f"Example: outcry devnet {command}" in shown.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["up", "--validators", "0"],
        ["up", "--validators", "many"],
        ["up", "--evm", "bitcoin"],
        ["demo", "--validators", "1"],
        ["load", "--rate", "-5"],
        ["check"],
        ["fly"],
    ],
)
def test_wrong_use_ends_with_2(arguments, tmp_path):
    assert outcry(*arguments, cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status"], "E901"),
        (["down"], "E901"),
        (["load"], "E901"),
        (["check", "no such file"], "E908"),
    ],
)
def test_a_refusal_ends_with_1_and_says_what_to_do(arguments, code, tmp_path):
    shown = outcry(*arguments, cwd=tmp_path)
    assert shown.returncode == 1
    assert f"error {code}" in shown.stderr
    assert "next:" in shown.stderr or "with:" in shown.stderr


@pytest.mark.cluster
def test_the_demo_ends_with_a_report_that_the_checker_confirms(tmp_path):
    where = tmp_path / "a place with spaces"
    where.mkdir()
    shown = outcry("demo", "--json", "report.json", cwd=where)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    report = json.loads((where / "report.json").read_text())
    assert len(report["validators"]) == 5
    assert {item["checkpoint_root"] for item in report["validators"]} != {""}
    assert len(report["fills"]) >= 20
    assert report["latency_ms"]["count"] == 40
    assert report["chat"]["equal_on_all_nodes"]
    assert len(report["chat"]["messages"]) == 3
    assert {item["what"] for item in report["settlement"]} == {"deposit", "rollup", "claim"}
    changes = {}
    for item in report["balances"]:
        changes.setdefault(item["token"], []).append(item["after"] - item["before"])
    assert all(min(pair) < 0 < max(pair) and sum(pair) <= 0 for pair in changes.values())
    assert processes_below(where) == []

    checked = outcry("check", "report.json", "--json", "findings.json", cwd=where)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert all(item["holds"] for item in json.loads((where / "findings.json").read_text()))

    report["balances"][0]["after"] += 1
    report["fills"][3]["price"] += 1
    (where / "forged.json").write_text(json.dumps(report))
    forged = outcry("check", "forged.json", cwd=where)
    assert forged.returncode == 1
    assert "error E906" in forged.stderr
    assert processes_below(where) == []


@pytest.mark.cluster
def test_ctrl_c_stops_everything_and_up_continues_the_history(tmp_path):
    def start():
        running = subprocess.Popen(
            [*OUTCRY, "up", "--validators", "2", "--json", "net.json"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in running.stdout:
            if "Ctrl-C stops it" in line:
                return running
        raise AssertionError("it ended before it ran")

    heights = []
    for _ in range(2):
        running = start()
        time.sleep(2)
        seen = outcry("status", cwd=tmp_path)
        (row,) = [line for line in seen.stdout.splitlines() if " v0 " in line]
        heights.append(int([part for part in row.split() if part.isdigit()][1]))
        os.kill(running.pid, signal.SIGINT)
        assert running.wait(STOP_S_MAX) == 0
        assert processes_below(tmp_path) == []
    assert heights[1] > heights[0] > 0
    state = json.loads((tmp_path / "net.json").read_text())
    assert [node["name"] for node in state["nodes"]] == ["v0", "v1"]


def begin(*arguments, cwd, until):
    """A process of the command, once it has said `until`; with all that it said so far."""
    running = subprocess.Popen(
        [*OUTCRY, *arguments], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = ""
    for line in running.stdout:
        said += line
        if until in line:
            return running, said
    raise AssertionError(f"it ended before it said {until!r}:\n{said}")


def terminated(running):
    """Exit code and last words after SIGTERM."""
    running.send_signal(signal.SIGTERM)
    rest = running.stdout.read()
    return running.wait(STOP_S_MAX), rest


@pytest.mark.cluster
def test_sigterm_ends_load_and_up_cleanly(tmp_path):
    up, _ = begin("up", "--validators", "2", cwd=tmp_path, until="Ctrl-C stops it")
    load, _ = begin("load", "--seconds", "600", cwd=tmp_path, until="accounts")
    time.sleep(1)
    code, rest = terminated(load)
    assert (code, "Traceback" in rest) == (130, False), rest
    code, rest = terminated(up)
    assert (code, "Traceback" in rest) == (0, False), rest
    assert processes_below(tmp_path) == []


@pytest.mark.cluster
def test_sigterm_in_the_middle_of_the_demo_leaves_no_process(tmp_path):
    demo, said = begin("demo", "--validators", "2", cwd=tmp_path, until="all nodes answer")
    said += demo.stdout.readline()  # the first word of the traders, in the loop
    code, rest = terminated(demo)
    assert (code, "Traceback" in rest) == (130, False), said + rest
    assert processes_below(tmp_path) == []
