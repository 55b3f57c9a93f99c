"""Files of a checkpoint that a hostile author wrote: manifest, headers of weights, an adapter, a whole folder."""

import json
import tempfile
from collections.abc import Callable
from hashlib import sha256
from math import isfinite
from pathlib import Path
from shutil import copytree
from typing import Any, Final

import numpy as np
from safetensors.numpy import save
from torch import nn

from benchmarks.fuzzing.mutating import Mutator
from benchmarks.fuzzing.target import Different, Target
from benchmarks.support.processes import WEIGHTS
from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.checkpoint import open_checkpoint
from deltaserve.offset_models.checkpoints.manifest import MANIFEST_FILE, parse_manifest
from deltaserve.offset_models.checkpoints.peft_files import CONFIG_FILE, WEIGHTS_FILE, load_adapter
from deltaserve.offset_models.checkpoints.safetensors_header import all_zero, read_header, refuse_non_finite

_DATA: Final = bytes(256)  # of the tensors, behind each header that is tried
_NAME: Final = "registry-erasure"
_LORA: Final = "base_model.model.q_proj.lora_"


def _header(*shapes: tuple[int, ...], dtype: str = "F32", item: int = 4) -> bytes:
    at, entries = 0, dict[str, Any](__metadata__={"format": "pt"})
    for number, shape in enumerate(shapes):
        size = int(np.prod(shape)) * item
        entries[f"layer.{number}"] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    return json.dumps(entries).encode()


HEADERS: Final = [_header((4, 8), (4, 8)), _header((64,)), _header((128,), dtype="BF16", item=2)]
CONFIGS: Final = [
    b'{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "lora_dropout": 0.0}',
    json.dumps(
        {"peft_type": "LORA", "r": 2, "lora_alpha": 4.5, "target_modules": ".*q_proj", "rank_pattern": {"q_proj": 2},
         "alpha_pattern": {}, "use_rslora": True, "bias": "none", "layers_to_transform": None}
    ).encode(),
]  # fmt: skip


class Folder:
    """Files that the targets write anew for each input."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
        self.path = Path(self._temporary.name)
        self._adapter = self.path / "adapter"
        self._adapter.mkdir()
        weights = {f"{_LORA}A.weight": np.ones((2, 4), np.float32), f"{_LORA}B.weight": np.ones((4, 2), np.float32)}
        self._weights = save(weights)
        self._base = nn.ModuleDict({"q_proj": nn.Linear(4, 4)})
        self._root = self.path / "root"
        for name in ("base", _NAME):
            copytree(WEIGHTS / name, self._root / name)
        self._whole = {
            path.relative_to(self._root).as_posix(): path.read_bytes()
            for path in (self._root / _NAME).rglob("*")
            if path.is_file()
        }

    def header(self, raw: bytes, mutator: Mutator) -> None:
        """What a header claims is held against the file; what is taken can be walked through."""
        chance, path = mutator.chance, self.path / "model.safetensors"
        length = len(raw) if chance.random() < 0.9 else chance.choice([0, 1, len(raw) + 1, 2**31, 2**64 - 1])
        data = _DATA if chance.random() < 0.9 else chance.randbytes(chance.randrange(300))
        path.write_bytes(length.to_bytes(8, "little") + raw + data)
        entries = read_header(path)
        if sum(entry.end - entry.start for entry in entries) != path.stat().st_size - 8 - length:
            raise Different("tensors do not fill the file")
        refuse_non_finite(path, entries)
        all_zero(path, entries)

    def adapter(self, raw: bytes, mutator: Mutator) -> None:
        """peft's two files, one of them spoilt."""
        (self._adapter / CONFIG_FILE).write_bytes(raw)
        spoilt = mutator.chance.random() < 0.2
        weights = bytearray(self._weights)
        for _ in range(3 if spoilt else 0):
            weights[mutator.chance.randrange(len(weights))] = mutator.chance.randrange(256)
        (self._adapter / WEIGHTS_FILE).write_bytes(weights)
        for update in load_adapter(self._adapter, self._base).values():
            if not (update.a.isfinite().all() and update.b.isfinite().all() and isfinite(update.scale)):
                raise Different("an update that is not finite was taken")

    def whole(self, _: bytes, mutator: Mutator) -> None:
        """One file of a checkpoint spoilt, and a manifest that agrees with it."""
        chance = mutator.chance
        name = chance.choice(sorted(self._whole))
        path, good = self._root / name, self._whole[name]
        spoilt = Mutator([good], chance.randrange(2**32), of_json=name.endswith(".json")).drawn()
        manifest = self._root / _NAME / MANIFEST_FILE
        try:
            path.write_bytes(spoilt)
            if not name.endswith(MANIFEST_FILE):
                manifest.write_bytes(self._agreeing(name, spoilt))
            open_checkpoint(_NAME, root=self._root)
        finally:
            path.write_bytes(good)
            manifest.write_bytes(self._whole[f"{_NAME}/{MANIFEST_FILE}"])

    def _agreeing(self, name: str, raw: bytes) -> bytes:
        content = json.loads(self._whole[f"{_NAME}/{MANIFEST_FILE}"])
        content["files"][name.partition("/")[2]] = {"sha256": sha256(raw).hexdigest(), "bytes": len(raw)}
        return json.dumps(content).encode()


def manifest(raw: bytes, _: Mutator) -> None:
    """One that is taken can be written and is the same when it is read again."""
    taken = parse_manifest(raw)
    again = parse_manifest(taken.to_json())
    if again.content_digest != taken.content_digest:
        raise Different("a manifest that was written is another one")


def targets() -> list[Target]:
    """Those of this file."""
    folder, refusal = Folder(), (BadCheckpoint,)
    manifests = [(WEIGHTS / _NAME / MANIFEST_FILE).read_bytes()]
    checks: list[tuple[str, list[bytes], Callable[[bytes, Mutator], None], float]] = [
        ("manifests", manifests, manifest, 0.06),
        ("headers", HEADERS, folder.header, 0.06),
        ("adapters", CONFIGS, folder.adapter, 0.018),
        ("checkpoints", [b"{}"], folder.whole, 0.002),
    ]
    return [Target(name, seeds, check, refusal, share) for name, seeds, check, share in checks]
