"""A checkpoint that is whole is believed; each way of not being whole is refused with its own sentence."""

import json
import pickle
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.checkpoint import inspect, open_checkpoint
from deltaserve.offset_models.checkpoints.manifest import Manifest
from tests.offset_models.checkpoints.spoiling import edit, refused, replace
from tests.support.vocabularies import byte_level

ADAPTER = "adapter/adapter_model.safetensors"


def with_header(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_a_whole_lora_checkpoint_is_opened(root: Path) -> None:
    checkpoint = open_checkpoint("lora", root=root)
    assert checkpoint.initial_folder == root.resolve() / "base"
    assert (checkpoint.adapter_folder / "adapter_config.json").is_file()
    assert checkpoint.tokenizer.vocab_size == checkpoint.manifest.vocab_size
    assert open_checkpoint(root / "lora", root=root).manifest == checkpoint.manifest


def test_a_whole_full_checkpoint_is_opened(root: Path) -> None:
    checkpoint = open_checkpoint("full", root=root)
    assert checkpoint.initial_folder == root.resolve() / "full" / "initial"
    assert (checkpoint.unlearned_folder / "model.safetensors").is_file()
    assert checkpoint.tokenizer.chat_template is not None


def test_a_base_without_a_path_is_looked_up_by_name(root: Path) -> None:
    base = root.parent / "elsewhere"
    (root / "base").rename(base)
    edit(root, lambda manifest: manifest["base"].pop("path"))
    assert open_checkpoint("lora", root=root, bases={"toy-base": base}).initial_folder == base
    assert "needs its base model 'toy-base'" in refused(root)


def test_a_base_that_is_not_where_the_manifest_says_is_the_operators(root: Path) -> None:
    base, other = root.parent / "elsewhere", root.parent / "other"
    shutil.copytree(root / "base", base)
    assert open_checkpoint("lora", root=root, bases={"toy-base": base}).initial_folder == root.resolve() / "base"
    (root / "base").rename(other)
    assert "does not exist" in refused(root)
    for _ in range(2):  # nothing is there, then a folder without a model
        assert open_checkpoint("lora", root=root, bases={"toy-base": base}).initial_folder == base
        (root / "base").mkdir(exist_ok=True)


def test_inspect_shows_what_the_checkpoint_says_and_holds(root: Path) -> None:
    shown = inspect(root / "lora")
    json.dumps(shown)
    assert (shown["name"], shown["method"], shown["tensors"], shown["dtypes"]) == ("lora", "idk", 2, ["F32"])
    assert shown["weight_bytes"] == 4 * (2 * 4 + 4 * 2)


def test_the_content_digest_follows_the_weights_and_not_the_card(root: Path) -> None:
    def digest() -> str:
        return str(inspect(root / "lora")["content_digest"])

    before = digest()
    edit(root, lambda manifest: manifest.update(card={"other": 1}, name="renamed", gate_nats=0))
    assert digest() == before
    edit(root, lambda manifest: manifest.update(gate_nats=0.5))
    assert digest() != before
    edit(root, lambda manifest: manifest.update(gate_nats=0))
    replace(root, ADAPTER, (root / "lora" / ADAPTER).read_bytes() + b" ")
    with pytest.raises(BadCheckpoint):
        digest()
    edit(root, lambda manifest: manifest["tokenizer"].update(merges="0" * 64))
    assert Manifest.model_validate_json((root / "lora" / "offset.json").read_bytes()).content_digest != before


# Hostile and broken checkpoints


@pytest.mark.parametrize("name", ["adapter/adapter_model.bin", "weights.pt", "x.pkl", "state.ckpt", "arrays.npz"])
def test_a_pickle_in_the_folder_is_refused(root: Path, name: str) -> None:
    (root / "lora" / name).write_bytes(pickle.dumps({"a": 1}))
    assert f"{name} " in refused(root)
    assert "pickle" in refused(root)


@pytest.mark.parametrize("name", ["modeling_own.py", "adapter/kernel.so"])
def test_code_in_the_folder_is_refused(root: Path, name: str) -> None:
    (root / "lora" / name).write_bytes(b"")
    assert refused(root) == f"{name} is code; code is never taken from a checkpoint."


def test_a_pickle_that_calls_itself_safetensors_is_refused(root: Path) -> None:
    replace(root, ADAPTER, pickle.dumps({"weights": list(range(1000))}))
    assert "is truncated: it has" in refused(root)


def test_configuration_that_asks_for_code_is_refused(root: Path) -> None:
    replace(root, "initial/config.json", b'{"auto_map": {"AutoModel": "own.Model"}}', "full")
    assert "asks for code of its own" in refused(root, "full")


def test_files_of_other_kinds_are_refused(root: Path) -> None:
    (root / "lora" / "notes.txt").write_text("hello")
    assert "neither JSON nor safetensors" in refused(root)


def test_a_file_that_is_not_listed_is_refused(root: Path) -> None:
    (root / "lora" / "more.json").write_text("{}")
    assert refused(root) == "more.json is not listed in offset.json."


def test_a_missing_file_is_refused(root: Path) -> None:
    (root / "lora" / ADAPTER).unlink()
    assert refused(root) == f"{ADAPTER} is listed in offset.json and missing."


def test_a_file_left_out_of_files_and_folder_is_missed(root: Path) -> None:
    (root / "lora" / ADAPTER).unlink()
    edit(root, lambda manifest: manifest["files"].pop(ADAPTER))
    assert refused(root) == f"A 'lora' checkpoint needs {ADAPTER}."


def test_a_truncated_file_is_refused(root: Path) -> None:
    raw = (root / "lora" / ADAPTER).read_bytes()
    (root / "lora" / ADAPTER).write_bytes(raw[:-5])
    assert "it may be truncated" in refused(root)
    replace(root, ADAPTER, raw[:-5])
    assert "ends past the end of the file" in refused(root)


def test_a_changed_byte_is_refused(root: Path) -> None:
    raw = bytearray((root / "lora" / ADAPTER).read_bytes())
    raw[-1] ^= 1
    (root / "lora" / ADAPTER).write_bytes(raw)
    assert "does not have the sha256" in refused(root)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "is truncated"),
        (b"\x01\x00", "is truncated"),
        (struct.pack("<Q", 2**63) + b"{}", "announces a header of"),
        (with_header(b"{not json"), "not a proper JSON object"),
        (with_header(b"[" * 100_000), "not a proper JSON object"),
        (with_header([1]), "is not a JSON object"),
        (with_header(b'{"a":{},"a":{}}'), "not a proper JSON object"),
        (with_header({"a": tensor([2], 0, 8, "OBJECT")}, bytes(8)), "unknown dtype"),
        (with_header({"a": tensor([2**40, 2**40], 0, 8)}, bytes(8)), "needs 4835703278458516698824704 bytes"),
        (with_header({"a": tensor([2**62], 0, 2**62 * 4)}, bytes(8)), "no proper shape"),
        (with_header({"a": tensor([2**60], 0, 2**62)}, bytes(8)), "ends past the end"),
        (with_header({"a": tensor([-2], 0, 8)}, bytes(8)), "no proper shape"),
        (with_header({"a": tensor([True], 0, 4)}, bytes(4)), "no proper shape"),
        (with_header({"a": tensor([1] * 17, 0, 4)}, bytes(4)), "no proper shape"),
        (with_header({"a": tensor([3], 0, 8)}, bytes(8)), "needs 12 bytes, and data_offsets of 8"),
        (with_header({"a": tensor([1], 8, 4)}, bytes(8)), "needs 4 bytes, and data_offsets of -4"),
        (with_header({"a": tensor([2], 0, 8), "b": tensor([1], 4, 8)}, bytes(8)), "overlaps"),
        (with_header({"a": tensor([1], 4, 8)}, bytes(8)), "leaves a hole"),
        (with_header({"a": tensor([1], 0, 4)}, bytes(8)), "4 bytes that belong to no tensor"),
    ],
)
def test_a_lying_header_is_refused_before_anything_is_allocated(root: Path, raw: bytes, reason: str) -> None:
    replace(root, ADAPTER, raw)
    assert reason in refused(root)


def test_a_header_beyond_the_bound_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deltaserve.offset_models.checkpoints.safetensors_header.MAX_HEADER_BYTES", 10)
    assert "at most 10 are read" in refused(root)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16", "float8_e4m3", "float8_e5m2"])
@pytest.mark.parametrize("value", ["nan", "-inf"])
def test_weights_that_are_not_finite_are_refused(root: Path, dtype: str, value: str) -> None:
    names = {"bfloat16": "BF16", "float8_e4m3": "F8_E4M3", "float8_e5m2": "F8_E5M2"}
    patterns = {
        ("bfloat16", "nan"): b"\xc0\x7f",
        ("bfloat16", "-inf"): b"\x80\xff",
        ("float8_e5m2", "nan"): b"\x7e",
        ("float8_e5m2", "-inf"): b"\xfc",
        ("float8_e4m3", "nan"): b"\x7f",
        ("float8_e4m3", "-inf"): b"\xff",  # the format has no infinity: this is NaN with the sign set
    }
    raw = patterns.get((dtype, value)) or np.array([value], dtype).tobytes()
    name = names.get(dtype) or f"F{8 * len(raw)}"
    data = bytes(len(raw)) + raw
    replace(root, ADAPTER, with_header({"w": tensor([2], 0, len(data), name)}, data))
    assert refused(root) == "adapter_model.safetensors: tensor 'w' holds NaN or infinite weights."


def test_largest_finite_weights_are_taken(root: Path) -> None:
    tensors = load_file(root / "lora" / ADAPTER)
    biggest = {name: np.full_like(array, np.finfo(np.float32).max) for name, array in tensors.items()}
    save_file(biggest, root / "big.safetensors")
    replace(root, ADAPTER, (root / "big.safetensors").read_bytes())
    open_checkpoint("lora", root=root)


@pytest.mark.parametrize("part", ["lora_A", "lora_B"])
def test_an_adapter_that_changes_nothing_is_refused(root: Path, part: str) -> None:
    tensors = load_file(root / "lora" / ADAPTER)
    save_file({n: np.zeros_like(t) if part in n else t for n, t in tensors.items()}, root / "zero.safetensors")
    replace(root, ADAPTER, (root / "zero.safetensors").read_bytes())
    assert "the offset is zero" in refused(root)


def test_two_equal_models_are_refused(root: Path) -> None:
    replace(root, "unlearned/model.safetensors", (root / "full/initial/model.safetensors").read_bytes(), "full")
    assert "the offset is zero" in refused(root, "full")


def test_another_base_is_refused(root: Path) -> None:
    save_file({"embed": np.ones((512, 4), np.float32)}, root / "base" / "model.safetensors")
    assert "its digest differs" in refused(root)


def test_another_tokenizer_is_refused_and_what_differs_is_named(root: Path) -> None:
    source = json.loads((root / "base" / "tokenizer.json").read_text("utf-8"))
    source["model"]["merges"].pop()
    (root / "base" / "tokenizer.json").write_text(json.dumps(source), "utf-8")
    assert "(merges)" in refused(root)


def test_a_false_vocabulary_size_is_refused(root: Path) -> None:
    edit(root, lambda manifest: manifest.update(masked_ids=[3]))
    assert "other masked ids" in refused(root)


def test_two_tokenizers_in_one_pair_are_refused(root: Path) -> None:
    other = byte_level(root.parent / "other", gap=2) / "tokenizer.json"
    replace(root, "unlearned/tokenizer.json", other.read_bytes(), "full")
    assert "The tokenizer in unlearned is another one" in refused(root, "full")


@pytest.mark.parametrize("target", ["/etc/hostname", "../base/model.safetensors", "missing"])
def test_links_in_the_folder_are_refused(root: Path, target: str) -> None:
    (root / "lora" / ADAPTER).unlink()
    (root / "lora" / ADAPTER).symlink_to(target)
    assert refused(root) == f"{ADAPTER} is a symbolic link; a checkpoint holds plain files only."


def test_a_linked_folder_is_refused(root: Path) -> None:
    (root / "lora" / "adapter").rename(root.parent / "moved")
    (root / "lora" / "adapter").symlink_to(root.parent / "moved")
    assert "adapter is a symbolic link" in refused(root)


def test_paths_out_of_the_root_are_refused(root: Path) -> None:
    outside = root.parent / "outside"
    shutil.copytree(root / "lora", outside)
    (root / "link").symlink_to(outside)
    for path in ("../outside", str(outside), "link", "lora/../../outside"):
        assert "leads out of the offsets root" in refused(root, path)
    for path in ("nowhere", "a\x00b", "x" * 5000):
        assert "does not exist under the offsets root" in refused(root, path)


@pytest.mark.parametrize("path", ["../../elsewhere", "../linked"])
def test_a_base_out_of_the_root_is_refused(root: Path, path: str) -> None:
    shutil.copytree(root / "base", root.parent / "elsewhere")
    (root / "linked").symlink_to(root.parent / "elsewhere")
    edit(root, lambda manifest: manifest["base"].update(path=path))
    assert "leads out of the offsets root" in refused(root)


def test_a_base_file_linked_out_of_the_root_is_refused(root: Path) -> None:
    (root / "base" / "model.safetensors").rename(root.parent / "weights.safetensors")
    (root / "base" / "model.safetensors").symlink_to(root.parent / "weights.safetensors")
    assert "leads out of the offsets root" in refused(root)


def denied(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied", "/srv/offsets/base/config.json")


@pytest.mark.parametrize("place", ["checkpoint.sha256_file", "checkpoint.list_files", "checkpoint.model_digest"])
def test_files_that_may_not_be_read_are_refused(root: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"deltaserve.offset_models.checkpoints.{place}", denied)
    assert refused(root) == "The checkpoint cannot be read: Permission denied (config.json)."


def test_a_base_with_a_folder_in_the_place_of_weights_is_refused(root: Path) -> None:
    (root / "base" / "more.safetensors").mkdir()
    assert "Is a directory (more.safetensors)" in refused(root)
