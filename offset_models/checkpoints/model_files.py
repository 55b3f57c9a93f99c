"""Reads a decoder in transformers' layout (config.json + safetensors): every weight must fit and be a float."""

from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.safetensors_header import read_header
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.offset_models.files.safe_files import read_object

_FLOATS: Final = ("F32", "F16", "BF16", "F64")
# What transformers tells of a load that was not whole, by its names.
_PROBLEMS: Final = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs", "conversion_errors")


def load_model(folder: Path, dtype: torch.dtype | str = "auto", attention: str | None = None) -> PreTrainedModel:
    """A decoder from safetensors, in the stored dtype unless another is given. Raises BadCheckpoint.

    `attention`: transformers' name of an implementation; None: its own choice.
    """
    with refusing(f"{folder.name} is no causal language model that can be run"):
        _refuse_by_config(folder)
        with _without_progress_bar():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=dtype,
                attn_implementation=attention,
                ignore_mismatched_sizes=True,  # so that they are told by name
                output_loading_info=True,
            )
        model, info = loaded
        _refuse_unfitting(folder, info)
        _refuse_whole_numbers(folder, {name for name, _ in model.named_parameters()})
        return cast(PreTrainedModel, model)


def _refuse_unfitting(folder: Path, info: Mapping[str, Any]) -> None:
    for problem in _PROBLEMS:
        if keys := info.get(problem):
            name = min(str(key) for key in keys)
            raise BadCheckpoint(f"The weights in {folder.name} do not fit: {problem.replace('_', ' ')}, first {name}.")


def _refuse_whole_numbers(folder: Path, parameters: Set[str]) -> None:
    """Quantised weights of which config.json says nothing; transformers would take their codes for the weights."""
    for file in sorted(folder.glob("*.safetensors")):
        for entry in read_header(file):
            if entry.name in parameters and entry.dtype not in _FLOATS:
                raise BadCheckpoint(
                    f"{file.name}: {entry.name} is stored as {entry.dtype}; weights must be {', '.join(_FLOATS)}."
                )


def _refuse_by_config(folder: Path) -> None:
    """What transformers would run otherwise than as a model of plain weights, or not at all."""
    config = read_object(folder / "config.json")
    if config.get("auto_map"):
        raise BadCheckpoint(f"{folder.name} asks for code of its own (auto_map); code is never taken from a model.")
    if quantised := config.get("quantization_config") or config.get("compression_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise BadCheckpoint(
            f"{folder.name} is quantised (quantization_config: {str(method or 'of an unnamed method')[:40]}); only "
            "plain weights are run here. Give the model that it was made from, or save it dequantised."
        )
    if (folder / "adapter_config.json").exists():  # transformers would put the adapter into the model
        raise BadCheckpoint(f"{folder.name} holds an adapter (adapter_config.json) beside its model; keep them apart.")


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """No progress bar among the server's log lines."""
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if bar:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
