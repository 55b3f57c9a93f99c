"""A checkpoint that is whole is believed; each way of not being whole is refused with its own sentence."""

import hashlib
import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.checkpoint import inspect, open_checkpoint
from deltaserve.offset_models.checkpoints.manifest import Manifest, manifest_json_schema, parse_manifest
from deltaserve.offset_models.checkpoints.pack import pack_adapter, pack_pair, write_lora_checkpoint
from tests.support.offsets import adapter_folder, full_checkpoint, lora_checkpoint, model_folder
from tests.support.vocabularies import byte_level

ADAPTER = "adapter/adapter_model.safetensors"


HUGE = 10**30  # beyond 64 bits


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "offsets"
    folder.mkdir()
    lora_checkpoint(folder, "lora")
    full_checkpoint(folder, "full")
    return folder


@pytest.fixture
def root(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "offsets"))


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


# Packing


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


def denied(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied", "/srv/offsets/base/config.json")


@pytest.mark.parametrize("place", ["checkpoint.sha256_file", "checkpoint.list_files", "checkpoint.model_digest"])
def test_files_that_may_not_be_read_are_refused(root: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"deltaserve.offset_models.checkpoints.{place}", denied)
    assert refused(root) == "The checkpoint cannot be read: Permission denied (config.json)."


def test_a_disk_that_is_full_leaves_no_half_checkpoint(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deltaserve.offset_models.checkpoints.pack.shutil.copyfile", full)
    with pytest.raises(BadCheckpoint, match="cannot be written: No space left on device"):
        lora_checkpoint(root, "new")
    assert not (root / "new").exists()


def test_a_base_with_a_folder_in_the_place_of_weights_is_refused(root: Path) -> None:
    (root / "base" / "more.safetensors").mkdir()
    assert "Is a directory (more.safetensors)" in refused(root)
