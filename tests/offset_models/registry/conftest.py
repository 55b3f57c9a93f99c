"""Three toy checkpoints, and a registry that serves the first."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deltaserve.offset_models.registry.registry import Registry
from tests.offset_models.registry.toy_registry import make
from tests.support.offsets import BookkeepingEngine, lora_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "offsets"
    folder.mkdir()
    for index, name in enumerate(["a", "b", "c"]):
        lora_checkpoint(folder, name, seed=10 * index + 1)
    return folder


@pytest.fixture
def root(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "offsets"))


@pytest.fixture
def engine() -> BookkeepingEngine:
    return BookkeepingEngine()


@pytest.fixture
async def registry(root: Path, engine: BookkeepingEngine) -> AsyncIterator[Registry]:
    registry = make(root, engine)
    await registry.start("a")
    yield registry
    await registry.close()
    assert engine.loaded == {}
