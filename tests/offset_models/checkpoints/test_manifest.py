"""offset.json: what is at fault is named by its field, and later minor versions are read."""

import json
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from deltaserve.offset_models.checkpoints.manifest import Manifest, manifest_json_schema, parse_manifest
from tests.offset_models.checkpoints.spoiling import edit, refused

HUGE = 10**30  # beyond 64 bits


def test_a_folder_without_a_manifest_says_how_to_make_one(root: Path) -> None:
    (root / "lora" / "offset.json").unlink()
    assert "offsets pack" in refused(root)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format_version": "2.0"}, "of format 2.x; this program reads 1.x"),
        ({"format_version": "99999999999999999999.0"}, "this program reads 1.x"),
        ({"format_version": None}, "no format_version"),
        ({"format_version": 1.0}, "no format_version"),
        ({"name": "../x"}, "name: String should match"),
        ({"strength": "nan"}, "strength"),
        ({"strength": 1e9}, "strength"),
        ({"kind": "pickle"}, "kind"),
        ({"kind": "full"}, "names its base model"),
        ({"files": {}}, "files"),
        ({"files": {"/etc/passwd": {"sha256": "0" * 64, "bytes": 1}}}, "files"),
        ({"vocab_size": 0}, "vocab_size"),
        ({"vocab_size": HUGE}, "vocab_size"),
        ({"masked_ids": [HUGE]}, "masked_ids.0"),
        ({"card": {"rouge": HUGE}}, "a number that JSON's readers do not take"),
        ({"card": {"rouge": [{"deep": HUGE}]}}, "a number that JSON's readers do not take"),
        ({"seed": HUGE}, "a number that JSON's readers do not take"),
    ],
)
def test_a_manifest_at_fault_is_refused_by_field(root: Path, change: dict[str, Any], reason: str) -> None:
    edit(root, lambda manifest: manifest.update(change))
    assert reason in refused(root)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff", b"null"])
def test_a_manifest_that_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(BadCheckpoint, match=r"offset\.json"):
        parse_manifest(raw)


def test_a_later_minor_version_is_read(root: Path) -> None:
    edit(root, lambda manifest: manifest.update(format_version="1.7", a_new_field=1))
    assert open_checkpoint("lora", root=root).manifest.format_version == "1.7"


def test_the_json_schema_names_every_field() -> None:
    schema = manifest_json_schema()
    assert set(schema["properties"]) == set(Manifest.model_fields)
    json.dumps(schema)
