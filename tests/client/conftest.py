from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.app import RunningApp, byte_tokenizer, running_app
from tests.support.command import KEY, Command


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def app(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    """A server without keys."""
    with running_app(tokenizer) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    """A server that wants KEY."""
    with running_app(tokenizer, api_keys=KEY) as running:
        yield running


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`deltaserve` in this process, without any of its variables set, in an empty folder."""
    for name in ("URL", "API_KEY", "UPSTREAM_URL", "UPSTREAM_KEY", "CONFIG"):
        monkeypatch.delenv(f"DELTASERVE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    return Command()
