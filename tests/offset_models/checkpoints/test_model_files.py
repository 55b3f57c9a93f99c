"""Model folders as they are met in the wild: run whole, or refused in one sentence that says why."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.model_files import load_model
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from deltaserve.offset_models.training.stages import load_base
from tests.support.models import plain_logits, tiny_llama

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_llama().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def configure(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def weigh(folder: Path, change: Callable[[Tensors], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def refused(folder: Path) -> str:
    """By the server's loader and by the trainer's, in the same words."""
    sentences = []
    for load in (load_model, lambda path: load_base(path, torch.device("cpu"), TrainingSettings())):
        with pytest.raises(BadCheckpoint) as caught:
            load(folder)
        sentences.append(caught.value.message)
    assert sentences[0] == sentences[1]
    assert str(folder.parent) not in sentences[0]
    return sentences[0]


def test_a_whole_model_is_loaded(folder: Path) -> None:
    torch.testing.assert_close(plain_logits(load_model(folder), [1, 2, 3]), plain_logits(tiny_llama(), [1, 2, 3]))


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "compressed-tensors", "fp8", "of_tomorrow"])
def test_a_quantised_base_is_refused_by_its_method_whether_the_library_is_there_or_not(
    folder: Path, method: str
) -> None:
    configure(folder, quantization_config={"quant_method": method, "bits": 4})
    assert f"quantised (quantization_config: {method})" in refused(folder)


def test_weights_that_are_codes_are_refused_without_a_word_in_the_configuration(folder: Path) -> None:
    weigh(folder, lambda t: t.update({"model.layers.0.mlp.up_proj.weight": torch.ones(48, 32, dtype=torch.int8)}))
    assert "model.layers.0.mlp.up_proj.weight is stored as I8" in refused(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "mine.Model"}}, "code of its own (auto_map)"),
        ({"model_type": "of_tomorrow"}, "model type `of_tomorrow`"),
        ({"model_type": "t5"}, "T5Config"),
        ({"quantization_config": {}}, "quant_method"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"num_attention_heads": "four"}, "num_attention_heads"),
        ({"hidden_act": "of_tomorrow"}, "of_tomorrow"),
        ({"rope_parameters": {"rope_type": "of_tomorrow"}}, "of_tomorrow"),
        ({"num_hidden_layers": 4}, "missing keys, first model.layers.3"),
        ({"num_hidden_layers": 2}, "unexpected keys, first model.layers.2"),
        ({"intermediate_size": 56}, "mismatched keys, first ('model.layers.0.mlp.down_proj.weight'"),
        ({"vocab_size": 10**13}, "does not fit into the memory"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused(folder: Path, change: dict[str, Any], reason: str) -> None:
    configure(folder, **change)
    assert reason in refused(folder)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'{"model_type"', "config.json is not JSON"),
        (b"", "config.json is not JSON"),
        (b'{"a": "\xff"}', "config.json is not JSON"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "config.json is not JSON"),
        (b"[1]", "must hold one JSON object"),
    ],
)
def test_a_config_json_that_is_no_object_is_refused(folder: Path, raw: bytes, reason: str) -> None:
    (folder / "config.json").write_bytes(raw)
    assert reason in refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folders_loops_and_nothing_in_the_place_of_a_file_are_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refused(folder)
    (folder / name).symlink_to(folder / name)
    assert name in refused(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    assert name in refused(folder)


@pytest.mark.parametrize("kept", [0, 7, 5000, -50])
def test_truncated_weights_are_refused(folder: Path, kept: int) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:kept])
    assert "SafetensorError" in refused(folder)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        (
            {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}},
            "model-00002-of-00002",
        ),
        ([1], "TypeError"),
        ({"weight_map": [1]}, "AttributeError"),
    ],
)
def test_an_index_that_names_what_is_not_there_is_refused(folder: Path, index: object, reason: str) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert reason in refused(folder)


def test_an_adapter_in_the_models_folder_is_refused_rather_than_mixed_in(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "holds an adapter" in refused(folder)


def test_a_panic_of_a_rust_library_is_refused_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """No Exception, as pyo3's."""

    def panic(*_: object, **__: object) -> None:
        raise PanicException("called `Option::unwrap()` on a `None` value")

    monkeypatch.setattr("deltaserve.offset_models.checkpoints.model_files.AutoModelForCausalLM.from_pretrained", panic)
    assert "PanicException, called `Option::unwrap()`" in refused(folder)


def test_the_librarys_traceback_is_kept_for_whoever_asks_for_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    configure(folder, model_type="of_tomorrow")
    with caplog.at_level(logging.DEBUG, "deltaserve.offset_models.files.library_errors"), pytest.raises(BadCheckpoint):
        load_model(folder)
    assert "Traceback" in caplog.text
