"""Ranges of seeds, files of failures, and the command that runs and replays them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from cli.devnet import app
from devnet.faults import FailureUnreadable, ReplayDiffers, SeedFailed
from devnet.simulation import NAMES, World, generate, read_failure, replay, run_range, write_failure
from devnet.simulation.failure import Failure
from devnet.simulation.outcome import Outcome

SEEDS = 6


def failed_world() -> World:
    """A real simulation that cannot succeed: it is given no time after healing."""
    scenario = replace(generate(2, count=4), patience_ms=-1, heal_ms=600, disturbances=())
    world = World(scenario, keep=True)
    assert world.run().violation is not None
    return world


def test_a_range_is_the_same_however_it_is_spread() -> None:
    one, two = run_range(0, SEEDS, count=4), run_range(0, SEEDS, count=4, workers=2)
    assert one.scenarios == two.scenarios == SEEDS
    same = ("passed", "virtual_ms", "blocks", "envelopes", "crashes", "messages", "lost")
    assert [getattr(one, name) for name in same] == [getattr(two, name) for name in same]
    assert one.passed == SEEDS
    assert one.blocks > SEEDS


def test_progress_is_told_for_every_seed() -> None:
    seen: list[Outcome] = []
    run_range(3, 5, count=4, progress=seen.append)
    assert [outcome.seed for outcome in seen] == [3, 4]


def test_a_range_can_end_by_time() -> None:
    assert run_range(0, 1_000, count=4, seconds_max=0.0).scenarios == 1


def test_a_failure_replays_from_its_file_line_by_line(tmp_path: Path) -> None:
    world = failed_world()
    failure = read_failure(write_failure(tmp_path, world))
    steps = list(replay(failure))
    assert [line for step in steps for line in step.lines] == world.trace.lines
    assert "VIOLATION of liveness-after-heal" in steps[-1].lines[-1]
    assert any("v0 round" in stand for stand in steps[-1].nodes)


def test_a_simulation_that_passed_leaves_no_file(tmp_path: Path) -> None:
    world = World(generate(3, count=4), keep=True)
    world.run()
    with pytest.raises(ValueError, match="did not fail"):
        write_failure(tmp_path, world)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_a_file_that_is_no_failure_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "failure.json"
    path.write_bytes(content)
    with pytest.raises(FailureUnreadable):
        read_failure(path)


def test_a_missing_file_or_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FailureUnreadable):
        read_failure(tmp_path / "none.json")
    path = write_failure(tmp_path, failed_world())
    other = msgspec.structs.replace(read_failure(path), format="something/2")
    path.write_bytes(msgspec.json.encode(other))
    with pytest.raises(FailureUnreadable, match="something/2"):
        read_failure(path)


@pytest.mark.parametrize("change", ["a line", "the end"])
def test_a_replay_that_goes_otherwise_is_said_so(tmp_path: Path, change: str) -> None:
    failure: Failure = read_failure(write_failure(tmp_path, failed_world()))
    lines = list(failure.lines)
    if change == "a line":
        lines[20] = "0 v0 dreams"
    else:
        lines.append("9999 world goes on")
    with pytest.raises(ReplayDiffers):
        list(replay(msgspec.structs.replace(failure, lines=lines)))


# The command


def simulate(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_the_command_prints_a_table_and_writes_json(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    result = simulate("--seeds", "0:3", "--validators", "4", "--json", str(path))
    assert result.exit_code == 0
    assert f"All 3 scenarios pass {len(NAMES)} checks" in result.stdout
    report = json.loads(path.read_text())
    assert report["scenarios"] == report["passed"] == 3
    assert report["per_second"] > 0


def test_a_failing_seed_ends_the_command_and_leaves_a_file_that_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("devnet.simulation.scenario.PATIENCE_MS", -1)
    real = generate

    def impatient(seed: int, nodes: str = "agreement", count: int | None = None) -> Any:
        return replace(real(seed, nodes, count), patience_ms=-1, heal_ms=100)

    monkeypatch.setattr("devnet.simulation.runner.generate", impatient)
    monkeypatch.setattr("devnet.simulation.scenario.generate", impatient)
    result = simulate("--seeds", "2", "--validators", "4", "--keep", str(tmp_path))
    assert isinstance(result.exception, SeedFailed)
    assert "--replay" in result.exception.sentence
    (path,) = tmp_path.iterdir()
    again = simulate("--replay", str(path))
    assert again.exit_code == 0
    assert "It happens again" in again.stdout
    stepped = CliRunner().invoke(app, ["simulate", "--replay", str(path), "--step"], input="\nq\n")
    assert stepped.exit_code == 0
    assert "v0 round" in stepped.stdout
    assert "happens again" not in stepped.stdout


def test_a_seed_is_explained_in_words() -> None:
    result = simulate("--explain", "5")
    assert result.exit_code == 0
    assert "all heals at" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--seeds", "5:1"),
        ("--seeds", "many"),
        ("--seeds", "-1:4"),
        ("--nodes", "paper"),
        ("--step",),
        ("--validators", "3"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...]) -> None:
    assert simulate(*arguments).exit_code == 2
