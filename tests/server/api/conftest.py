"""The server that these tests talk to over real HTTP."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from tests.support.app import RunningApp, byte_tokenizer, running_app


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    return byte_tokenizer(folder)


@pytest.fixture(scope="module")
def app(tokenizer: Tokenizer) -> Iterator[RunningApp]:
    with running_app(tokenizer) as running:
        yield running


@pytest.fixture(scope="module")
def client(app: RunningApp) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{app.url}/v1", api_key="none", max_retries=0) as made:
        yield made
