"""Plain adapters and models become checkpoints: a whole one, or nothing."""

from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from deltaserve.offset_models.checkpoints.pack import pack_adapter, pack_pair, write_lora_checkpoint
from tests.support.offsets import adapter_folder, lora_checkpoint, model_folder
from tests.support.vocabularies import byte_level


def test_a_plain_adapter_becomes_a_checkpoint(root: Path) -> None:
    plain = adapter_folder(root.parent / "plain")
    (plain / "README.md").write_text("left behind")
    about = {"base_path": "../base", "base_folder": root / "base", "licence": "MIT"}
    manifest = pack_adapter(root / "packed", name="packed", adapter_folder=plain, **about)
    assert (manifest.method, manifest.base and manifest.base.name) == ("imported", "base")
    assert open_checkpoint("packed", root=root).manifest == manifest


def test_two_plain_models_become_a_checkpoint_whose_template_is_json(root: Path) -> None:
    initial, unlearned = model_folder(root.parent / "o", 1), model_folder(root.parent / "u", 2)
    (initial / "chat_template.jinja").write_text("from the file")
    pack_pair(root / "pair", name="pair", initial_folder=initial, unlearned_folder=unlearned, licence="MIT")
    assert open_checkpoint("pair", root=root).tokenizer.chat_template == "from the file"
    byte_level(unlearned, gap=1)
    with pytest.raises(BadCheckpoint, match="different tokenizers"):
        pack_pair(root / "other", name="o", initial_folder=initial, unlearned_folder=unlearned, licence="MIT")


def test_writing_leaves_the_whole_checkpoint_or_nothing(root: Path) -> None:
    about: dict[str, Any] = {
        "base_folder": root / "base",
        "base_name": "b",
        "adapter_folder": adapter_folder(root.parent / "plain"),
        "method": "idk",
        "licence": "MIT",
    }
    before = sorted(path.name for path in root.iterdir())
    with pytest.raises(BadCheckpoint, match="name"):
        write_lora_checkpoint(root / "new", name="not a name", **about)
    with pytest.raises(BadCheckpoint, match="exists already"):
        write_lora_checkpoint(root / "lora", name="lora", **about)
    assert sorted(path.name for path in root.iterdir()) == before


def test_a_disk_that_is_full_leaves_no_half_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deltaserve.offset_models.checkpoints.pack.shutil.copyfile", full)
    with pytest.raises(BadCheckpoint, match="cannot be written: No space left on device"):
        lora_checkpoint(root, "new")
    assert not (root / "new").exists()
