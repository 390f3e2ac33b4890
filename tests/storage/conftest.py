"""An index in a fresh directory, and the records that fill it."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from storage import ChainRecord, Index

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
