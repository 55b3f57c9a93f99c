"""An offsets root with a checkpoint of each kind."""

import shutil
from pathlib import Path

import pytest

from tests.support.offsets import full_checkpoint, lora_checkpoint


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "offsets"
    folder.mkdir()
    lora_checkpoint(folder, "lora")
    full_checkpoint(folder, "full")
    return folder


@pytest.fixture
def root(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "offsets"))
