"""Reads a LoRA in peft's layout (adapter_config.json + adapter_model.safetensors) and checks it against its base."""

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.checkpoints.lora_weights import AdapterWeights, LoraWeights, embedding_of, head_of
from deltaserve.offset_models.files.library_errors import refusing
from deltaserve.offset_models.files.safe_files import read_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."

# Fields that do not change what a saved adapter computes. Any other field that is set is refused by name.
_UNDERSTOOD = {
    "peft_type", "r", "lora_alpha", "target_modules", "use_rslora", "rank_pattern", "alpha_pattern",
    "ensure_weight_tying",
}  # fmt: skip
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "lora_dropout", "megatron_core", "peft_version",
    "qalora_group_size", "revision", "runtime_config", "task_type",
}  # fmt: skip
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal")  # other starts change the base's weights too
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def load_adapter(folder: Path, base: nn.Module) -> AdapterWeights:
    """The adapter of `folder` for `base`. Raises BadCheckpoint naming the field or the layer that does not fit."""
    with refusing(f"The adapter in {folder.name} cannot be read"):
        config = _read_config(folder)
        linears = dict(_targets(base, config["target_modules"]))
        if not linears:
            raise BadCheckpoint("target_modules of the adapter match no linear layer of the base.")
        _refuse_tying(config, base, linears)
        tensors = _without_copies(_read_tensors(folder), base)
        expected = {_tensor_name(name, part) for name in linears for part in "AB"}
        _require_same(expected, set(tensors))
        return {name: _update(name, linear, tensors, config) for name, linear in linears.items()}


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise BadCheckpoint(f"{CONFIG_FILE}: peft_type must be LORA.")
    _refuse_unknown(config)
    if not (_positive(config.get("r")) and _positive(config.get("lora_alpha"))):
        raise BadCheckpoint(f"{CONFIG_FILE}: r and lora_alpha must be positive numbers.")
    targets = config.get("target_modules")
    if not isinstance(targets, str) and not (isinstance(targets, list) and all(isinstance(t, str) for t in targets)):
        raise BadCheckpoint(f"{CONFIG_FILE}: target_modules must be a string or a list of strings.")
    return config


def _refuse_unknown(config: Mapping[str, Any]) -> None:
    for field, value in config.items():
        plain = field == "bias" and value == "none"
        plain |= field == "init_lora_weights" and value in _PLAIN_STARTS
        if _is_set(value) and not plain and field not in _UNDERSTOOD | _HARMLESS:
            raise BadCheckpoint(f"{CONFIG_FILE}: {field} is set, which is not supported.")


def _is_set(value: object) -> bool:
    """0 is: `layers_to_transform: 0` names the first layer."""
    return value is not None and value is not False and value not in ("", [], {})


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value)


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    with refusing(f"{WEIGHTS_FILE} cannot be read"):
        return load_file(folder / WEIGHTS_FILE)


def _targets(base: nn.Module, wanted: str | list[str]) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers that peft would adapt: a list names suffixes, a string is a pattern for the whole name.

    Raises BadCheckpoint for a target of another kind, which peft would adapt in its own way or refuse.
    """
    head = head_of(base)
    for name, module in base.named_modules():
        if isinstance(wanted, str) and wanted.lower() == "all-linear":
            named = isinstance(module, nn.Linear | Conv1D) and module is not head
        else:
            named = bool(name) and _is_target(name, wanted)
        if named and not isinstance(module, nn.Linear):
            raise BadCheckpoint(
                f"target_modules of the adapter name {name}, a layer of the kind {type(module).__name__}; only linear "
                "layers (nn.Linear) can be adapted here."
            )
        if named:
            yield name, cast(nn.Linear, module)


def _is_target(name: str, wanted: str | list[str]) -> bool:
    if isinstance(wanted, str):
        return _matches(wanted, name)
    return any(name == target or name.endswith(f".{target}") for target in wanted)


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise BadCheckpoint(f"{CONFIG_FILE}: a layer pattern is not a regular expression.") from error


def _refuse_tying(config: Mapping[str, Any], base: nn.Module, linears: Mapping[str, nn.Linear]) -> None:
    """peft then adapts the input embedding too, by the head's update turned round."""
    head, table = head_of(base), embedding_of(base)
    tied = head is not None and table is not None and head.weight is table.weight
    if config.get("ensure_weight_tying") and tied and any(linear is head for linear in linears.values()):
        raise BadCheckpoint(
            f"{CONFIG_FILE}: ensure_weight_tying is set and lm_head is tied to the input embedding, whose adapter is "
            "not supported."
        )


def _without_copies(tensors: Mapping[str, Tensor], base: nn.Module) -> dict[str, Tensor]:
    """Without the base's own weights, which peft saves along where lm_head is a target.

    Raises BadCheckpoint for those that differ: the adapter belongs to another base, or has trained them.
    """
    updates = {}
    for name, tensor in tensors.items():
        own = None if ".lora_" in name else _parameter(base, name.removeprefix(_PREFIX).replace(".base_layer.", "."))
        if own is None:
            updates[name] = tensor
        elif not _same_numbers(tensor, own):
            raise BadCheckpoint(
                f"{WEIGHTS_FILE} brings weights of its own for the base ({name}), and they are not the base's; "
                "put them into the base that is served."
            )
    return updates


def _parameter(base: nn.Module, name: str) -> Tensor | None:
    try:
        return base.get_parameter(name)
    except AttributeError:
        return None


def _same_numbers(tensor: Tensor, own: Tensor) -> bool:
    """Equal as far as the coarser of the two dtypes tells."""
    if tensor.shape != own.shape or tensor.dtype not in _DTYPES:
        return False
    here = tensor.to(own.device)
    return torch.equal(here.to(own.dtype), own) or torch.equal(own.to(here.dtype), here)


def _tensor_name(layer: str, part: str) -> str:
    return f"{_PREFIX}{layer}.lora_{part}.weight"


def _require_same(expected: set[str], present: set[str]) -> None:
    for title, names in (("lacks", expected - present), ("has the unexpected", present - expected)):
        if names:
            raise BadCheckpoint(f"{WEIGHTS_FILE} {title} {min(names)} ({len(names)} such in all).")


def _update(name: str, linear: nn.Linear, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> LoraWeights:
    rank = _by_pattern(config, "rank_pattern", name, config["r"])
    alpha = _by_pattern(config, "alpha_pattern", name, config["lora_alpha"])
    a, b = tensors[_tensor_name(name, "A")], tensors[_tensor_name(name, "B")]
    if a.shape != (rank, linear.in_features) or b.shape != (linear.out_features, rank):
        raise BadCheckpoint(f"{WEIGHTS_FILE}: {name} has other shapes than rank {rank} on this base.")
    if a.dtype not in _DTYPES or b.dtype not in _DTYPES:
        raise BadCheckpoint(
            f"{WEIGHTS_FILE}: {name} is stored as {str(a.dtype).removeprefix('torch.')}, not as floats."
        )
    if not (a.isfinite().all() and b.isfinite().all()):
        raise BadCheckpoint(f"{WEIGHTS_FILE}: {name} holds numbers that are not finite.")
    return LoraWeights(a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _by_pattern(config: Mapping[str, Any], field: str, name: str, default: float) -> Any:
    """A pattern's value where one matches the end of the layer's name, as peft reads them; the first that does."""
    patterns = config.get(field) or {}
    if not isinstance(patterns, dict) or not all(_positive(value) for value in patterns.values()):
        raise BadCheckpoint(f"{CONFIG_FILE}: {field} must map layer patterns to positive numbers.")
    for pattern, value in patterns.items():
        if _matches(rf"(.*\.)?({pattern})", name):
            return value
    return default
