"""Checkpoints are spoilt, and refused."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint


def refused(root: Path, name: str = "lora") -> str:
    with pytest.raises(BadCheckpoint) as caught:
        open_checkpoint(name, root=root)
    return caught.value.message


def edit(root: Path, change: Callable[[dict[str, Any]], None], name: str = "lora") -> None:
    """Change the manifest."""
    manifest = json.loads((root / name / "offset.json").read_bytes())
    change(manifest)
    (root / name / "offset.json").write_text(json.dumps(manifest))


def replace(root: Path, path: str, raw: bytes, name: str = "lora") -> None:
    """Put other bytes in a file, with the manifest agreeing: what a hostile author would do."""
    (root / name / path).write_bytes(raw)
    entry = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    edit(root, lambda manifest: manifest["files"].update({path: entry}), name)
