"""The code keeps to its own rules; every rule is also shown to catch what it forbids.

A rule is a function from a file's path and source to complaints. What is *product* are the
rooms that the wheel ships; benchmarks, scripts and tests are held to fewer rules.
"""

import ast
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
TEXT_SUFFIXES = {
    "", ".py", ".toml", ".md", ".txt", ".lock", ".json", ".yml", ".yaml", ".vy", ".sh",
}  # fmt: skip
Rule = Callable[[Path, str], Iterator[str]]


# ---- which files there are --------------------------------------------------------------------


def listed() -> list[Path]:
    """Every file that git tracks or would, relative to the root; all of them without git."""
    git = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if git.returncode == 0:
        paths = [Path(name) for name in git.stdout.split("\0") if name]
    else:
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        paths = [path for path in paths if not path.parts[0].startswith((".venv", ".setup", ".e"))]
    return sorted(path for path in paths if (ROOT / path).is_file())


FILES = listed()
PYTHON = [path for path in FILES if path.suffix == ".py"]
PRODUCT = [path for path in PYTHON if path.parts[0] in ROOMS]
TEXT = [path for path in FILES if path.suffix in TEXT_SUFFIXES]


def complaints(rule: Rule, paths: list[Path]) -> list[str]:
    found = []
    for path in paths:
        source = (ROOT / path).read_text(errors="replace")
        found += [f"{path}:{complaint}" for complaint in rule(path, source)]
    return found


# ---- the rules --------------------------------------------------------------------------------


def long_file(_path: Path, source: str) -> Iterator[str]:
    lines = source.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"1 {lines} lines: which second concept lives here?"


def long_function(_path: Path, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield f"{node.lineno} {node.name} has {lines} lines"


def vague_name(path: Path, _source: str) -> Iterator[str]:
    words = set(re.split(r"[_\-.]", path.stem.lower()))
    if vague := words & {"and", "util", "utils", "helper", "helpers", "misc", "common", "stuff"}:
        yield f"1 a file called {vague.pop()} is two files"


# A bound's name must say what it counts: a unit, or the plural of the thing.
UNITS = {"KIB", "MIB", "MS", "S", "US", "NS", "PPM", "BPS", "GAS", "WEI", "HZ", "PERCENT"}
UNITS |= {"DEPTH", "HEIGHT", "WIDTH"}  # levels of a tree, blocks of a chain, children of a node
UNITS |= {"DEGREE", "PORT", "AMOUNT"}  # neighbours of a peer, a number, an asset's declared units
BOUND_WORDS = {"MAX", "MIN", "LIMIT", "TIMEOUT", "DEADLINE", "INTERVAL"}
SINGULAR_IN_S = {"ADDRESS", "ACCESS", "PROCESS", "STATUS", "CLASS", "LESS", "PROGRESS"}
TYPE_BOUND = re.compile(
    r"(U\d+|I\d+|UINT\d+|INT\d+|INTEGER)_(MAX|MIN)"
)  # the range of a type counts nothing


def is_bound(name: str) -> bool:
    """MAX and MIN anywhere, the other words at the end: LIMIT_EXCEEDED is a code."""
    words = name.strip("_").split("_")
    return bool({"MAX", "MIN"} & set(words)) or words[-1] in BOUND_WORDS


def says_its_unit(name: str) -> bool:
    words = [word for word in name.strip("_").split("_") if word not in BOUND_WORDS]
    return any(
        word in UNITS or (len(word) > 3 and word.endswith("S") and word not in SINGULAR_IN_S)
        for word in words
    )


def is_number(node: ast.expr | None) -> bool:
    if isinstance(node, ast.BinOp):
        return is_number(node.left) and is_number(node.right)
    if isinstance(node, ast.UnaryOp):
        return is_number(node.operand)
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, int | float)
        and not isinstance(node.value, bool)
    )


def bound_without_unit(_path: Path, source: str) -> Iterator[str]:
    for node in ast.parse(source).body:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign) and is_number(node.value):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and is_number(node.value):
            targets = [node.target]
        for target in targets:
            name = target.id if isinstance(target, ast.Name) else ""
            if not name.isupper() or TYPE_BOUND.fullmatch(name.strip("_")):
                continue
            if is_bound(name) and not says_its_unit(name):
                yield f"{node.lineno} {name} does not say what it counts (BYTES, MS, ITEMS, ...)"


# First argument of these, and these keywords of any call, are bounds: they need a name.
BOUNDED_CALLS = {
    "fail_after", "move_on_after", "sleep", "open_memory_channel", "CapacityLimiter", "Semaphore",
}  # fmt: skip
BOUNDED_KEYWORD = re.compile(
    r"(.*_)?(timeout|deadline|maxsize|maxlen|max_\w+|\w+_max|limit|backlog|retries|attempts)"
)
UNLIMITED = {"inf"}


def called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def is_nameless_bound(node: ast.expr) -> bool:
    """A literal other than 0 and 1, which mean "none" and "the next", or no limit at all."""
    if isinstance(node, ast.Attribute) and node.attr in UNLIMITED:
        return True
    return is_number(node) and ast.unparse(node) not in {"0", "1", "0.0"}


def is_shape(node: ast.Call) -> bool:
    """Meta(min_length=32, max_length=32) states what a key is, it does not bound a list."""
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    return "max_length" in given and given.get("min_length") == given["max_length"]


def bound_without_name(_path: Path, source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or is_shape(node):
            continue
        values = [
            keyword.value
            for keyword in node.keywords
            if keyword.arg and BOUNDED_KEYWORD.fullmatch(keyword.arg)
        ]
        if called(node) in BOUNDED_CALLS:
            values += node.args[:1]
        if any(is_nameless_bound(value) for value in values):
            yield f"{node.lineno} {ast.unparse(node)[:60]}: give this bound a name and a unit"


def ends_by_raising_again(node: ast.ExceptHandler) -> bool:
    last = node.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


def broad_except(_path: Path, source: str) -> Iterator[str]:
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler) or ends_by_raising_again(node):
            continue
        caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {"bare" if kind is None else ast.unparse(kind) for kind in caught}
        broad = names & {"bare", "Exception", "BaseException"}
        if broad and "# guard:" not in lines[node.lineno - 1]:
            yield f"{node.lineno} catches {broad.pop()} without '# guard: why' on the line"


def printing(path: Path, source: str) -> Iterator[str]:
    if path.parts[0] in {"cli", "benchmarks"}:
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            yield f"{node.lineno} prints; use the log"


MACHINE_PATH = re.compile(r"(?<![\w.:/])/(home|root|work|mnt|Users)/\w")
MARKER = re.compile(
    r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b"
)


def machine_path(_path: Path, source: str) -> Iterator[str]:
    for number, line in enumerate(source.splitlines(), 1):
        if MACHINE_PATH.search(line):
            yield f"{number} names a path of one machine"


def marker(_path: Path, source: str) -> Iterator[str]:
    for number, line in enumerate(source.splitlines(), 1):
        if MARKER.search(line):
            yield f"{number} leaves a marker instead of the work"


# ---- the project keeps them -------------------------------------------------------------------

RULES: list[tuple[Rule, list[Path]]] = [
    (long_file, [path for path in FILES if path.suffix in {".py", ".vy"}]),
    (long_function, PYTHON),
    (vague_name, [path for path in FILES if path.suffix in {".py", ".vy"}]),
    (bound_without_unit, PRODUCT),
    (bound_without_name, PRODUCT),
    (broad_except, PYTHON),
    (printing, PRODUCT),
    (machine_path, TEXT),
    (marker, TEXT),
]


@pytest.mark.parametrize(("rule", "paths"), RULES, ids=[rule.__name__ for rule, _ in RULES])
def test_the_project_keeps(rule: Rule, paths: list[Path]) -> None:
    assert paths
    found = complaints(rule, paths)
    assert not found, "\n" + "\n".join(found)


# ---- and each can fail ------------------------------------------------------------------------

BAD: list[tuple[Rule, str, str]] = [
    (long_file, "node/a.py", "x = 1\n" * (FILE_LINES_MAX + 1)),
    (long_function, "node/a.py", "def f():\n" + "    g()\n" * FUNCTION_LINES_MAX),
    (vague_name, "node/peer_utils.py", ""),
    (vague_name, "node/keys_and_locks.py", ""),
    (bound_without_unit, "node/a.py", "QUEUE_MAX = 10"),
    (bound_without_unit, "node/a.py", "DIAL_TIMEOUT: Final = 5.0"),
    (bound_without_unit, "node/a.py", "ADDRESS_MAX = 1 << 10"),
    (bound_without_name, "node/a.py", "with trio.fail_after(5): pass"),
    (bound_without_name, "node/a.py", "deque(maxlen=2 * 10)"),
    (bound_without_name, "node/a.py", "get(url, read_timeout=0.5)"),
    (bound_without_name, "node/a.py", "trio.open_memory_channel(math.inf)"),
    (broad_except, "node/a.py", "try:\n    f()\nexcept (OSError, Exception):\n    g()"),
    (broad_except, "node/a.py", "try:\n    f()\nexcept:\n    g()"),
    (bound_without_name, "node/a.py", "Meta(max_length=32)"),
    (printing, "node/a.py", "print(1)"),
    (machine_path, "a.md", "see /ro" + "ot/notes"),
    (marker, "a.md", "FIX" + "ME: later"),
]
GOOD: list[tuple[Rule, str, str]] = [
    (bound_without_unit, "node/a.py", "LIMIT_EXCEEDED = -32005"),
    (bound_without_name, "node/a.py", "Meta(min_length=32, max_length=32)"),
    (broad_except, "node/a.py", "try:\n    f()\nexcept BaseException:\n    g()\n    raise"),
    (bound_without_unit, "node/a.py", "QUEUE_FRAMES_MAX = 10\nDIAL_TIMEOUT_S = 5\nU64_MAX = 2**64"),
    (bound_without_name, "node/a.py", "with trio.fail_after(DIAL_TIMEOUT_S): sleep(0)"),
    (broad_except, "node/a.py", "try:\n    f()\nexcept Exception:  # guard: a peer's\n    g()"),
    (printing, "cli/a.py", "print(1)"),
    (machine_path, "a.md", "GET https://example.org/root/x and ./work/x"),
    (vague_name, "node/handshake.py", ""),
]


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_a_rule_catches_what_it_forbids(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Path(path), source))


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_a_rule_leaves_alone_what_it_allows(rule: Rule, path: str, source: str) -> None:
    assert not list(rule(Path(path), source))


# ---- dead modules -----------------------------------------------------------------------------


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULE_IN_TEXT = re.compile(r"[a-z_]+(\.[a-z_0-9]+)+(:\w+)?")


def mentioned(path: Path, source: str) -> set[str]:
    """The modules that a file imports, or names in a string (a process, a lazy import)."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {origin} | {f"{origin}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and MODULE_IN_TEXT.fullmatch(str(node.value)):
            names.add(str(node.value).partition(":")[0])
    return names


def unused_modules(sources: dict[Path, str], entries: set[str]) -> list[str]:
    """Modules of the rooms that nothing else imports or names."""
    used = set(entries)
    for path, source in sources.items():
        used |= mentioned(path, source) - {module_name(path)}
    return sorted(
        module_name(path)
        for path in sources
        if path.parts[0] in ROOMS
        and path.name not in {"__init__.py", "__main__.py"}
        and module_name(path) not in used
    )


def test_no_module_is_dead() -> None:
    entries = {entry.partition(":")[0] for entry in PROJECT["project"]["scripts"].values()}
    sources = {path: (ROOT / path).read_text() for path in PYTHON}
    assert not unused_modules(sources, entries)


def test_a_dead_module_is_found() -> None:
    sources = {
        Path("node/__init__.py"): "from node.clock import Clock as Clock",
        Path("node/clock.py"): "from . import tick",
        Path("node/tick.py"): "",
        Path("node/worker.py"): "",
        Path("node/dead.py"): "import node.dead",
        Path("tests/test_worker.py"): "run('-m', 'node.worker')",
    }
    assert unused_modules(sources, set()) == ["node.dead"]
