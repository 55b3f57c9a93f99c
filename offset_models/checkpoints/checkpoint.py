"""Opens a checkpoint folder and checks it against its manifest. Reads JSON and safetensors; keeps no weights."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.manifest import MANIFEST_FILE, Manifest, parse_manifest
from deltaserve.offset_models.checkpoints.safetensors_header import all_zero, read_header, refuse_non_finite
from deltaserve.offset_models.files.digests import model_digest, sha256_file
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.offset_models.files.safe_files import list_files, read_bounded, read_object, within
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

MAX_MANIFEST_BYTES: Final = 4 * 2**20
NO_BASES: Final[Mapping[str, Path]] = MappingProxyType({})
# Why a file of this kind is refused; whatever is neither here nor allowed is merely not listed.
REFUSED: Final = {
    **dict.fromkeys((".bin", ".pt", ".pth", ".ckpt"), "may hold a pickle, which runs code when it is opened"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "is a pickle, which runs code when it is opened"),
    **dict.fromkeys((".npy", ".npz"), "may hold a pickle, which runs code when it is opened"),
    **dict.fromkeys((".py", ".pyc", ".so", ".pyd", ".dll"), "is code; code is never taken from a checkpoint"),
}
LAYOUT: Final = {
    "lora": ("adapter/adapter_config.json", "adapter/adapter_model.safetensors"),
    "full": ("initial/config.json", "initial/tokenizer.json", "unlearned/config.json"),
}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified checkpoint: the files at these paths are the ones its manifest describes."""

    folder: Path
    manifest: Manifest
    initial_folder: Path  # the model o: the shared base of a `lora` pair
    tokenizer: Tokenizer

    @property
    def adapter_folder(self) -> Path:
        """peft's files; u is o with this adapter (`lora` only)."""
        return self.folder / "adapter"

    @property
    def unlearned_folder(self) -> Path:
        """The model u (`full` only)."""
        return self.folder / "unlearned"


@refusing("The checkpoint cannot be read")
def open_checkpoint(path: str | Path, *, root: Path, bases: Mapping[str, Path] = NO_BASES) -> Checkpoint:
    """Verify the checkpoint at `path` under `root`.

    `bases`: model folders the operator configured, by name, for checkpoints whose base has no path of its own.
    Raises BadCheckpoint with the first fault found. Blocking: it reads every byte once or twice.
    """
    folder = within(root, path)
    manifest = read_manifest(folder)
    _check_files(folder, manifest)
    _refuse_zero(folder, manifest)
    initial = folder / "initial" if manifest.base is None else _base_folder(folder, manifest, root, bases)
    if manifest.kind == "full" and (folder / "unlearned" / "tokenizer.json").is_file():
        _check_tokenizer(folder / "unlearned", manifest)
    return Checkpoint(folder, manifest, initial, _check_tokenizer(initial, manifest))


@refusing("The checkpoint cannot be read")
def read_manifest(folder: Path) -> Manifest:
    """The manifest, and the certainty that the folder holds the listed files and no other. Raises BadCheckpoint."""
    if not folder.is_dir():
        raise BadCheckpoint(f"{folder.name} is not a folder.")
    present = list_files(folder)
    for path in present:
        _refuse_suffix(path)
    if MANIFEST_FILE not in present:
        raise BadCheckpoint(f"{folder.name} has no {MANIFEST_FILE}; `deltaserve offsets pack` makes one.")
    manifest = parse_manifest(read_bounded(folder / MANIFEST_FILE, MAX_MANIFEST_BYTES))
    _compare_lists(set(present) - {MANIFEST_FILE}, set(manifest.files))
    _check_layout(manifest)
    return manifest


@refusing("The checkpoint cannot be read")
def inspect(path: Path) -> dict[str, Any]:
    """What the checkpoint says and holds, as plain JSON types, without its base and without judging its weights."""
    manifest = read_manifest(path)
    tensors = [entry for name in manifest.files if name.endswith(".safetensors") for entry in read_header(path / name)]
    return {
        **manifest.model_dump(mode="json"),
        "content_digest": manifest.content_digest,
        "tensors": len(tensors),
        "weight_bytes": sum(entry.end - entry.start for entry in tensors),
        "dtypes": sorted({entry.dtype for entry in tensors}),
    }


def _refuse_suffix(path: str) -> None:
    suffix = PurePosixPath(path).suffix.lower()
    if suffix in REFUSED:
        raise BadCheckpoint(f"{path} {REFUSED[suffix]}.")
    if suffix not in (".json", ".safetensors"):
        raise BadCheckpoint(f"{path} is neither JSON nor safetensors; a checkpoint holds nothing else.")


def _compare_lists(present: set[str], listed: set[str]) -> None:
    for path in sorted(listed - present):
        raise BadCheckpoint(f"{path} is listed in {MANIFEST_FILE} and missing.")
    for path in sorted(present - listed):
        raise BadCheckpoint(f"{path} is not listed in {MANIFEST_FILE}.")


def _check_layout(manifest: Manifest) -> None:
    for path in LAYOUT[manifest.kind]:
        if path not in manifest.files:
            raise BadCheckpoint(f"A {manifest.kind!r} checkpoint needs {path}.")
    for side in ("initial/", "unlearned/") if manifest.kind == "full" else ():
        if not any(_is_weights(path, side) for path in manifest.files):
            raise BadCheckpoint(f"A 'full' checkpoint needs safetensors weights in {side}.")


def _check_files(folder: Path, manifest: Manifest) -> None:
    for name, entry in manifest.files.items():
        if (size := (folder / name).stat().st_size) != entry.bytes:
            raise BadCheckpoint(
                f"{name} has {size} bytes where {MANIFEST_FILE} says {entry.bytes}; it may be truncated."
            )
        if sha256_file(folder / name) != entry.sha256:
            raise BadCheckpoint(f"{name} does not have the sha256 that {MANIFEST_FILE} gives.")
        if name.endswith(".safetensors"):
            _check_weights(folder / name)
        else:
            _check_json(folder / name)


def _check_weights(path: Path) -> None:
    refuse_non_finite(path, read_header(path))


def _refuse_zero(folder: Path, manifest: Manifest) -> None:
    """An offset that is zero by construction; one that only comes out as zero is the canary's to find."""
    if _is_zero_lora(folder / LAYOUT["lora"][1]) if manifest.kind == "lora" else _same_models(manifest):
        raise BadCheckpoint("The unlearned model equals the initial one: the offset is zero.")


def _is_zero_lora(path: Path) -> bool:
    entries = read_header(path)
    halves = ([entry for entry in entries if part in entry.name] for part in (".lora_A.", ".lora_B."))
    return any(half and all_zero(path, half) for half in halves)


def _same_models(manifest: Manifest) -> bool:
    initial, unlearned = (
        {name.partition("/")[2]: entry.sha256 for name, entry in manifest.files.items() if _is_weights(name, side)}
        for side in ("initial/", "unlearned/")
    )
    return initial == unlearned


def _is_weights(name: str, side: str) -> bool:
    return name.startswith(side) and name.endswith(".safetensors")


def _check_json(path: Path) -> None:
    value = read_object(path)
    if value.get("auto_map"):
        raise BadCheckpoint(f"{path.name} asks for code of its own (auto_map); code is never taken from a checkpoint.")
    if path.name.endswith(".index.json"):
        _check_index(path, value.get("weight_map"))


def _check_index(path: Path, weight_map: Any) -> None:
    beside = {file.name for file in path.parent.glob("*.safetensors")}
    if not isinstance(weight_map, dict) or not beside.issuperset(map(str, weight_map.values())):
        raise BadCheckpoint(f"{path.name} names weights that are not in its folder.")


def _base_folder(folder: Path, manifest: Manifest, root: Path, bases: Mapping[str, Path]) -> Path:
    base = manifest.base
    if base is None:
        raise BadCheckpoint("The manifest names no base model.")
    beside = base.path is not None and (base.name not in bases or (folder / base.path / "config.json").is_file())
    if beside and base.path is not None:
        initial = within(root, folder / base.path)
    elif base.name in bases:
        initial = bases[base.name]
    else:
        raise BadCheckpoint(
            f"The offset needs its base model {base.name!r}, and the checkpoint does not say where it is: start the "
            "server with --base (DELTASERVE_BASE), that model's folder."
        )
    for file in initial.glob("*.safetensors"):
        if beside:
            within(root, file)
        read_header(file)
    _check_json(initial / "config.json")
    if model_digest(initial) != base.digest:
        raise BadCheckpoint(
            f"The base model {base.name!r} is not the one the offset was trained on: its digest differs."
        )
    return initial


def _check_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    tokenizer = Tokenizer.load(folder)
    differing = manifest.tokenizer.mismatch(tokenizer.fingerprint)
    if differing:
        raise BadCheckpoint(f"The tokenizer in {folder.name} is another one than the manifest's ({differing}).")
    if (tokenizer.vocab_size, tokenizer.masked_ids) != (manifest.vocab_size, manifest.masked_ids):
        raise BadCheckpoint(f"{MANIFEST_FILE} gives another vocabulary size or other masked ids than its tokenizer.")
    return tokenizer
