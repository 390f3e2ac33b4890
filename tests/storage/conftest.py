"""An index in a fresh directory, the records that fill it, and a journal with its export."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from storage import ChainRecord, Index, export_journal
from tests.storage.journal_files import NETWORK, OWNER, write

CHAIN_WRITER = Path(__file__).with_name("chain_writer.py")


def load_chain_writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chain_writer", CHAIN_WRITER)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def chain_writer() -> ModuleType:
    return load_chain_writer()


@pytest.fixture
def record_of(chain_writer: ModuleType) -> Callable[[int], ChainRecord]:
    made: Callable[[int], ChainRecord] = chain_writer.record_of
    return made


@pytest.fixture
def network() -> bytes:
    return b"n" * 32


@pytest.fixture
def index(tmp_path: Path, network: bytes) -> Iterator[Index]:
    opened = Index.open(tmp_path / "index.db", network)
    yield opened
    opened.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A journal that has signed and forgotten."""
    path = tmp_path / "source.db"
    write(path, range(1, 11), pruned_to=6)
    return path


@pytest.fixture
def moved(tmp_path: Path, source: Path) -> Path:
    """The export of `source`, which is sealed."""
    to = tmp_path / "moved"
    export_journal(source, to, OWNER, NETWORK)
    return to
