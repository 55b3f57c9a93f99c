"""Checkpoints that appear are loaded when they are complete, once, and what is wrong with them is said."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import BadCheckpoint, Unavailable
from deltaserve.offset_models.registry.audit import Actor
from deltaserve.offset_models.registry.watch_folder import WATCHER, WatchFolder
from tests.support.offsets import lora_checkpoint

pytestmark = pytest.mark.anyio


@dataclass
class Loads:
    """A registry and a log in one."""

    error: Exception | None = None
    loaded: list[tuple[str, str]] = field(default_factory=list)
    said: list[tuple[str, str]] = field(default_factory=list)

    async def load(self, name: str, path: str, *, actor: Actor) -> Any:
        assert actor is WATCHER
        self.loaded.append((name, path))
        if self.error is not None:
            raise self.error

    def info(self, event: str, **about: Any) -> None:
        self.said.append((event, about["folder"]))

    warning = info


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A root with a base and one checkpoint, and another checkpoint elsewhere."""
    root = tmp_path / "offsets"
    root.mkdir()
    lora_checkpoint(root, "old")
    lora_checkpoint(root, "new", seed=7)
    (root / "new").rename(tmp_path / "new")
    return root


async def look(folder: WatchFolder, times: int = 1) -> None:
    for _ in range(times):
        for name, signature in folder._settled().items():
            await folder._take(name, signature)


async def test_a_checkpoint_that_appears_is_loaded_once_under_its_own_name(made: Path) -> None:
    loads = Loads()
    folder = WatchFolder(loads, made, loads, 0.01)
    await look(folder, 3)
    assert loads.loaded == [], "what was there at the start is not new"
    shutil.copytree(made.parent / "new", made / "copied")
    await look(folder)
    assert loads.loaded == [], "it may still be growing"
    await look(folder, 3)
    assert (loads.loaded, loads.said) == ([("new", "copied")], [("checkpoint loaded", "copied")])


async def test_a_checkpoint_is_waited_for_until_every_file_is_there_in_full(made: Path) -> None:
    loads = Loads()
    folder = WatchFolder(loads, made, loads, 0.01)
    shutil.copytree(made.parent / "new", made / "new")
    weights = made / "new" / "adapter" / "adapter_model.safetensors"
    raw = weights.read_bytes()
    weights.write_bytes(raw[:-1])
    await look(folder, 5)
    assert (loads.loaded, loads.said) == ([], [("checkpoint incomplete", "new")])
    weights.write_bytes(raw)
    await look(folder, 2)
    assert loads.loaded == [("new", "new")]


async def test_hidden_folders_links_and_folders_without_a_manifest_are_passed_over(made: Path) -> None:
    loads = Loads()
    folder = WatchFolder(loads, made, loads, 0.01)
    shutil.copytree(made.parent / "new", made / ".new")
    (made / "link").symlink_to(made.parent / "new")
    (made / "notes").mkdir()
    (made / "file.json").write_text("{}")
    await look(folder, 3)
    assert loads.loaded == []
    (made / ".new").rename(made / "new")
    await look(folder, 2)
    assert loads.loaded == [("new", "new")]


@pytest.mark.parametrize(("error", "tries"), [(BadCheckpoint("It is bad."), 1), (Unavailable("The disk is full."), 3)])
async def test_a_refused_one_is_reported_and_tried_again_only_if_that_may_help(
    made: Path, error: Exception, tries: int
) -> None:
    loads = Loads(error)
    folder = WatchFolder(loads, made, loads, 0.01)
    shutil.copytree(made.parent / "new", made / "new")
    await look(folder, 4)
    assert loads.said == [("checkpoint not loaded", "new")] * tries
    loads.error = None
    (made / "new" / "offset.json").touch()
    await look(folder, 2)
    assert loads.said[-1] == ("checkpoint loaded", "new")


async def test_a_broken_manifest_is_left_to_the_registry_to_refuse(made: Path) -> None:
    loads = Loads(BadCheckpoint("offset.json is not JSON."))
    folder = WatchFolder(loads, made, loads, 0.01)
    (made / "broken").mkdir()
    (made / "broken" / "offset.json").write_text("{")
    await look(folder, 3)
    assert loads.loaded == [("broken", "broken")]


async def test_a_root_that_is_away_for_a_while_is_no_error(made: Path) -> None:
    loads = Loads()
    folder = WatchFolder(loads, made, loads, 0.01)
    made.rename(made.parent / "away")  # noqa: ASYNC240  (nothing else runs here)
    await look(folder, 2)
    (made.parent / "away").rename(made)
    await look(folder, 1)
    assert loads.loaded == []
