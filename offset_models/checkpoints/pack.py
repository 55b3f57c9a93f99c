"""Make checkpoints: from a freshly trained adapter, a plain peft folder, or two plain model folders."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from pydantic import JsonValue, ValidationError

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.manifest import (
    MANIFEST_FILE,
    BaseModelRef,
    FileEntry,
    Manifest,
    TrainingSummary,
)
from deltaserve.offset_models.files.digests import model_digest, sha256_file
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.offset_models.files.safe_files import list_files, new_folder, read_json
from deltaserve.offset_models.tokenizer.chat_template import declaration, read_templates
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer

ADAPTER_FILES: Final = ("adapter_config.json", "adapter_model.safetensors")
TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
)


@refusing("The checkpoint cannot be written")
def write_lora_checkpoint(
    out: Path,
    *,
    name: str,
    adapter_folder: Path,
    base_folder: Path,
    base_name: str,
    base_path: str | None = None,
    tokenizer_folder: Path | None = None,
    method: str,
    strength: float = 1.0,
    gate_nats: float = 0.0,
    training: TrainingSummary | None = None,
    card: Mapping[str, JsonValue] | None = None,
    licence: str,
    seed: int | None = None,
) -> Manifest:
    """Write a `lora` checkpoint at `out` (which must not exist), all of it or nothing.

    `adapter_folder` holds adapter_config.json and adapter_model.safetensors as peft writes them. `base_path` is where
    the base will be found, relative to `out` (`../base`); without it the server looks `base_name` up in its settings.
    The tokenizer is the base's own unless `tokenizer_folder` says otherwise. Raises BadCheckpoint.
    """
    base = BaseModelRef(name=base_name, path=base_path, digest=model_digest(base_folder))
    with new_folder(out) as folder:
        _copy(adapter_folder, folder / "adapter", ADAPTER_FILES)
        return _seal(
            folder,
            Tokenizer.load(tokenizer_folder or base_folder),
            name=name,
            kind="lora",
            base=base,
            method=method,
            strength=strength,
            gate_nats=gate_nats,
            training=training,
            card=card,
            licence=licence,
            seed=seed,
        )


@refusing("The checkpoint cannot be written")
def write_full_checkpoint(
    out: Path,
    *,
    name: str,
    initial_folder: Path,
    unlearned_folder: Path,
    tokenizer_folder: Path | None = None,
    method: str,
    strength: float = 1.0,
    gate_nats: float = 0.0,
    training: TrainingSummary | None = None,
    card: Mapping[str, JsonValue] | None = None,
    licence: str,
    seed: int | None = None,
) -> Manifest:
    """Write a `full` checkpoint at `out`: copies of two models and the first one's tokenizer. Raises BadCheckpoint."""
    with new_folder(out) as folder:
        _copy_model(initial_folder, folder / "initial")
        _copy_model(unlearned_folder, folder / "unlearned")
        copy_tokenizer(tokenizer_folder or initial_folder, folder / "initial")
        return _seal(
            folder,
            Tokenizer.load(folder / "initial"),
            name=name,
            kind="full",
            method=method,
            strength=strength,
            gate_nats=gate_nats,
            training=training,
            card=card,
            licence=licence,
            seed=seed,
        )


@refusing("The checkpoint cannot be written")
def pack_adapter(
    out: Path, *, name: str, adapter_folder: Path, base_folder: Path, licence: str, **about: Any
) -> Manifest:
    """A plain peft adapter folder becomes a checkpoint. `about`: the other arguments of `write_lora_checkpoint`."""
    named = read_json(adapter_folder / ADAPTER_FILES[0])
    base_name = named.get("base_model_name_or_path") if isinstance(named, dict) else None
    about = {"base_name": base_name or base_folder.name, "method": "imported", **about}
    return write_lora_checkpoint(
        out, name=name, adapter_folder=adapter_folder, base_folder=base_folder, licence=licence, **about
    )


@refusing("The checkpoint cannot be written")
def pack_pair(
    out: Path, *, name: str, initial_folder: Path, unlearned_folder: Path, licence: str, **about: Any
) -> Manifest:
    """Two model folders become a checkpoint: proxy-tuning (untuned, tuned), divergence decoding (forget, retain)."""
    _refuse_two_tokenizers(initial_folder, unlearned_folder)
    about = {"method": "imported", **about}
    return write_full_checkpoint(
        out, name=name, initial_folder=initial_folder, unlearned_folder=unlearned_folder, licence=licence, **about
    )


def _seal(folder: Path, tokenizer: Tokenizer, **about: Any) -> Manifest:
    """Digest what lies in `folder` and write its manifest as the last file."""
    files = {path: _entry(folder / path) for path in list_files(folder)}
    try:
        manifest = Manifest(
            tokenizer=tokenizer.fingerprint,
            vocab_size=tokenizer.vocab_size,
            masked_ids=tokenizer.masked_ids,
            files=files,
            **about,
        )
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        raise BadCheckpoint(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}.") from error
    (folder / MANIFEST_FILE).write_bytes(manifest.to_json())
    return manifest


def _entry(path: Path) -> FileEntry:
    return FileEntry(sha256=sha256_file(path), bytes=path.stat().st_size)


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(exist_ok=True)
    for name in names:
        if not (source / name).is_file():
            raise BadCheckpoint(f"{source.name} has no {name}.")
        shutil.copyfile(source / name, target / name)


def _copy_model(source: Path, target: Path) -> None:
    weights = sorted(file.name for file in source.glob("*.safetensors"))
    if not weights:
        raise BadCheckpoint(f"{source.name} has no safetensors weights; convert them first.")
    index = [name for name in ("model.safetensors.index.json",) if (source / name).is_file()]
    _copy(source, target, ("config.json", *weights, *index))


def copy_tokenizer(source: Path, target: Path) -> None:
    """All that a tokenizer is read from, as JSON: chat templates in other files go into tokenizer_config.json."""
    _copy(
        source, target, tuple(name for name in TOKENIZER_FILES if name == "tokenizer.json" or (source / name).is_file())
    )
    config_file = target / "tokenizer_config.json"
    config = read_json(config_file) if config_file.is_file() else {}
    templates = read_templates(source, config)
    if templates != read_templates(target, config):
        config["chat_template"] = declaration(templates)
        config_file.write_bytes(orjson.dumps(config, option=orjson.OPT_INDENT_2))


def _refuse_two_tokenizers(initial: Path, unlearned: Path) -> None:
    if (unlearned / "tokenizer.json").is_file():
        differing = Tokenizer.load(initial).fingerprint.mismatch(Tokenizer.load(unlearned).fingerprint)
        if differing:
            raise BadCheckpoint(f"The two models have different tokenizers ({differing}).")
