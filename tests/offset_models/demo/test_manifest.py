"""The shipped weights are the ones that were built, and a build folder that was touched is noticed."""

from pathlib import Path

import pytest

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.demo.manifest import WEIGHTS, WeightsManifest, read_weights_manifest, verify_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    WeightsManifest.describe(tmp_path, 3, "mini", {"base": 1.5}, {"forget/black_box": 0.5}).write(tmp_path)
    return tmp_path


def test_a_whole_folder_verifies(folder: Path) -> None:
    manifest = verify_weights(folder)
    assert manifest == read_weights_manifest(folder)
    assert (manifest.seed, manifest.scale, list(manifest.files)) == (3, "mini", ["base/config.json"])
    assert {"python", "torch"} <= set(manifest.versions)


def test_a_changed_file_is_named(folder: Path) -> None:
    (folder / "base" / "config.json").write_text("[]")
    with pytest.raises(BadCheckpoint, match=r"base/config\.json"):
        verify_weights(folder)


def test_a_missing_and_an_added_file_are_named(folder: Path) -> None:
    (folder / "more.json").write_text("{}")
    with pytest.raises(BadCheckpoint, match=r"more\.json"):
        verify_weights(folder)
    (folder / "more.json").unlink()
    (folder / "base" / "config.json").unlink()
    with pytest.raises(BadCheckpoint, match=r"base/config\.json"):
        verify_weights(folder)


@pytest.mark.parametrize("content", [None, "not JSON", "{}"])
def test_a_folder_without_a_sound_manifest_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BadCheckpoint):
        verify_weights(tmp_path)


def test_the_shipped_weights_are_whole_and_small() -> None:
    manifest = verify_weights(WEIGHTS)
    assert manifest.scale == "full"
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= 12_000_000
