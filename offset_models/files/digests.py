"""Digests of files, of model folders and of JSON values."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import Field

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.files.library_errors import refusing

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def digest_of(value: Any) -> str:
    """sha256 (hex) of a JSON value, independent of key order."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)).hexdigest()


def sha256_file(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@refusing("The model cannot be read")
def model_digest(folder: Path) -> str:
    """Digest (hex) of a model folder: its config.json and every safetensors file beside it, by name and sha256."""
    weights = sorted(folder.glob("*.safetensors"))
    if not weights or not (folder / "config.json").is_file():
        raise BadCheckpoint(f"{folder.name} is no model folder: it needs config.json and safetensors files.")
    return digest_of([[file.name, sha256_file(file)] for file in [folder / "config.json", *weights]])
