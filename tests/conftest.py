"""What holds for every test: hypothesis' profile, clusters one at a time, no silent skips.

A skipped test proves nothing, so a run fails when a test is skipped that
`tests/allowed_skips.txt` does not name. Tests marked `extras` are skipped, with a reason, when
`make setup-extras` has not been run.
"""

import os
import signal
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")
PEERS = ROOT / "tests" / "p2p"
ANVIL = ROOT / ".extras" / "bin" / "anvil"

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


class SkipGuard:
    """Collects what was skipped and fails the run for what the list does not allow."""

    def __init__(self, patterns: list[str]) -> None:
        self._patterns = patterns
        self.refused: dict[str, str] = {}  # node id -> the reason that the test gave

    def note(self, nodeid: str, longrepr: object) -> None:
        """Remember one skipped test or module."""
        if not any(fnmatchcase(nodeid, pattern) for pattern in self._patterns):
            self.refused[nodeid] = str(longrepr[2]) if isinstance(longrepr, tuple) else "no reason"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self.note(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.note(report.nodeid, report.longrepr)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.refused and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.refused:
            return
        terminalreporter.section("skipped, but not in tests/allowed_skips.txt", red=True)
        for nodeid, reason in sorted(self.refused.items()):
            terminalreporter.line(f"{nodeid}: {reason}")


def allowed_skips(text: str) -> list[str]:
    """The patterns of `allowed_skips.txt`; a line without a reason is an error."""
    patterns = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pattern, _, reason = line.partition("|")
        if not reason.strip():
            raise pytest.UsageError(f"allowed_skips.txt: no reason given in: {line}")
        patterns.append(pattern.strip())
    return patterns


def pytest_configure(config: pytest.Config) -> None:
    # Whoever starts tests in the background may have had Ctrl-C ignored; children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # under xdist the controller sees every report
        guard = SkipGuard(allowed_skips(ALLOWED_SKIPS.read_text()))
        config.pluginmanager.register(guard, "skip-guard")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # Two of these on two cores would only measure each other.
        if item.get_closest_marker("cluster") or item.path.is_relative_to(PEERS):
            item.add_marker(pytest.mark.xdist_group("cluster"))
        if item.get_closest_marker("extras") and not ANVIL.exists():
            item.add_marker(pytest.mark.skip(reason="needs anvil; make setup-extras brings it"))


@pytest.fixture(scope="session")
def anvil_binary() -> Path:
    """The anvil binary; a test that asks for it carries the mark `extras`."""
    assert ANVIL.exists(), "mark this test with @pytest.mark.extras"
    return ANVIL


@pytest.fixture(autouse=True, scope="session")
def _loggers_follow_their_configuration() -> Iterator[None]:
    """A logger that was used keeps its configuration in a node, but not from test to test."""
    configure = structlog.configure
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            structlog,
            "configure",
            lambda *args, **kw: configure(*args, **(kw | {"cache_logger_on_first_use": False})),
        )
        yield


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()
