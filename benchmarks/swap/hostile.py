"""Checkpoints that mean harm, or are merely broken: each must be refused with a sentence of its own."""

import hashlib
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.swap.server import ADMIN_KEY
from benchmarks.swap.site import NAMES
from deltaserve.client.admin import AsyncAdminClient
from deltaserve.client.errors import Refused

ADAPTER: Final = "adapter/adapter_model.safetensors"
Tensors = dict[str, Any]


async def hostile(url: str, root: Path) -> dict[str, str]:
    """Kind → the sentence it was refused with; "" for one that was taken."""
    said: dict[str, str] = {}
    async with AsyncAdminClient(url, api_key=ADMIN_KEY) as admin:
        before = await admin.offsets()
        for kind, spoil in KINDS.items():
            folder = root / f"hostile-{kind.replace(' ', '-')}"
            shutil.copytree(root / NAMES[0], folder)
            spoil(folder)
            said[kind] = await _sentence(admin, folder)
        left = [offset for offset in await admin.offsets() if offset.state != "failed"]
    if [(o.name, o.state, o.digest) for o in left] != [(o.name, o.state, o.digest) for o in before]:
        raise RuntimeError("a refused checkpoint changed what is loaded")
    return said


async def _sentence(admin: AsyncAdminClient, folder: Path) -> str:
    try:
        await admin.load(folder.name, folder.name)
    except Refused as refused:
        return refused.message
    return ""


def _pickle(folder: Path) -> None:
    (folder / "adapter" / "weights.bin").write_bytes(pickle.dumps({"a": 1}))


def _lying_header(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}).encode()
    _replace(folder, ADAPTER, struct.pack("<Q", len(header)) + header + bytes(8))


def _huge_shapes(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 8]}}).encode()
    _replace(folder, ADAPTER, struct.pack("<Q", len(header)) + header + bytes(8))


def _wrong_tokenizer(folder: Path) -> None:
    """A base of its own whose tokenizer lacks one merge, and a manifest that owns up to it."""
    from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

    base = folder.parent / "other-base"
    shutil.copytree(folder.parent / "base", base)
    source = json.loads((base / "tokenizer.json").read_text("utf-8"))
    source["model"]["merges"].pop()
    (base / "tokenizer.json").write_text(json.dumps(source), "utf-8")
    fingerprint = Tokenizer.load(base).fingerprint.model_dump(mode="json")
    _edit(folder, lambda manifest: manifest["tokenizer"].update(fingerprint))
    _edit(folder, lambda manifest: manifest["base"].update(path="../other-base"))


def _missing_key(folder: Path) -> None:
    _tensors(folder, lambda tensors: tensors.pop(next(name for name in sorted(tensors) if "lora_B" in name)))


def _extra_key(folder: Path) -> None:
    shapes = {"lora_A": (4, 8), "lora_B": (8, 4)}
    names = {half: f"base_model.model.model.layers.99.self_attn.q_proj.{half}.weight" for half in shapes}
    _tensors(folder, lambda t: t.update({names[half]: np.ones(shape, np.float32) for half, shape in shapes.items()}))


def _nan_weights(folder: Path) -> None:
    _tensors(folder, lambda tensors: tensors.update({n: np.full_like(a, np.nan) for n, a in tensors.items()}))


def _symlink_out(folder: Path) -> None:
    outside = folder.parent.parent / "outside.safetensors"
    (folder / ADAPTER).rename(outside)
    (folder / ADAPTER).symlink_to(outside)


def _zero_offset(folder: Path) -> None:
    _tensors(folder, lambda tensors: tensors.update({n: np.zeros_like(a) for n, a in tensors.items()}))


def _truncated(folder: Path) -> None:
    path = folder / ADAPTER
    path.write_bytes(path.read_bytes()[:-7])


def _base_digest(folder: Path) -> None:
    _edit(folder, lambda manifest: manifest["base"].update(digest="0" * 64))


KINDS: Final[Mapping[str, Callable[[Path], None]]] = {
    "pickle": _pickle,
    "lying header": _lying_header,
    "huge shapes": _huge_shapes,
    "wrong tokenizer": _wrong_tokenizer,
    "missing key": _missing_key,
    "extra key": _extra_key,
    "NaN weights": _nan_weights,
    "symlink out": _symlink_out,
    "zero offset": _zero_offset,
    "truncated file": _truncated,
    "base digest mismatch": _base_digest,
}


def _edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((folder / "offset.json").read_bytes())
    change(manifest)
    (folder / "offset.json").write_text(json.dumps(manifest))


def _replace(folder: Path, path: str, raw: bytes) -> None:
    """Other bytes in a file, the manifest agreeing: what a hostile author would do."""
    (folder / path).write_bytes(raw)
    entry = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
    _edit(folder, lambda manifest: manifest["files"].update({path: entry}))


def _tensors(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors: Tensors = load_file(folder / ADAPTER)
    change(tensors)
    save_file(tensors, folder / ADAPTER)
    _replace(folder, ADAPTER, (folder / ADAPTER).read_bytes())
