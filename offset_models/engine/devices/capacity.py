"""How many streams a pair can serve at a time on a device, before it is loaded: what memory allows, within a bound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.engine.devices.free import cores, free_bytes
from deltaserve.offset_models.engine.forward.fused import FAMILIES
from deltaserve.offset_models.engine.forward.paged.choosing import runs_over_pages
from deltaserve.offset_models.files.safe_files import read_object

MOST: Final = 256  # rows of one member that one batch of a GPU is made for
PER_CORE: Final = 16  # on a CPU: with so many, two cores still keep up with a black box of 20 ms a token
EXPECTED_TOKENS: Final = 2048  # of prompt and answer, where keys and values take what is used
LEFT_ALONE: Final = 0.2  # share of the free memory: for logits, graphs, and another version that is loaded
_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}


@dataclass(frozen=True, slots=True)
class Capacity:
    """Streams at a time, and what decided it, as the log says it."""

    streams: int
    why: str


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What one model takes."""

    weights: int  # bytes
    position: int  # bytes of keys and values
    reserved: bool  # slots of the longest context, whatever is used; else what is used


def capacity(models: Sequence[Path], *, device: str, dtype: str | None, max_len: int) -> Capacity:
    """Of a pair: `models` are the folder of its base, or of its two whole models; none where nothing is known yet.

    `dtype` None: as the weights are stored. A stream has keys and values in both members of the pair.
    """
    bound = _bound(device)
    sizes = [size for folder in models if (size := size_of(folder, device, dtype)) is not None]
    free = free_bytes(device)
    if not sizes or len(sizes) < len(models) or free is None:
        return bound
    weights = sum(size.weights for size in sizes)
    tokens = max_len if any(size.reserved for size in sizes) else min(max_len, EXPECTED_TOKENS)
    each = tokens * sum(size.position for size in sizes) * (2 if len(sizes) == 1 else 1)
    fitting = max(1, int((free * (1 - LEFT_ALONE) - weights) // max(each, 1)))
    if fitting >= bound.streams:
        return bound
    return Capacity(
        fitting,
        f"{_gb(free)} free, {_gb(weights)} for weights, {_gb(each)} a stream of {tokens} tokens, "
        f"{LEFT_ALONE:.0%} left alone",
    )


def size_of(folder: Path, device: str, dtype: str | None) -> ModelSize | None:
    """From config.json and the sizes of the weights' files; None where they do not tell."""
    config = _config(folder)
    stored = config.get("dtype") or config.get("torch_dtype")
    if stored not in _BYTES:
        return None
    position = _position_elements(config)
    files = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    element = _BYTES[dtype or stored]
    if position is None or not files:
        return None
    pages = runs_over_pages(torch.device(device)) and config.get("model_type") in FAMILIES
    return ModelSize(files * element // _BYTES[stored], position * element, reserved=device != "cpu" and not pages)


def _config(folder: Path) -> dict[str, Any]:
    """Empty for a folder that is no model, of which the load tells more."""
    try:
        return read_object(folder / "config.json")
    except (BadCheckpoint, OSError):
        return {}


def _position_elements(config: Mapping[str, Any]) -> int | None:
    """Numbers that one position takes in all layers."""
    heads, width = config.get("num_attention_heads"), config.get("hidden_size")
    layers = config.get("num_hidden_layers")
    if not (isinstance(heads, int) and isinstance(width, int) and isinstance(layers, int) and heads):
        return None
    kv_heads = config.get("num_key_value_heads") or heads
    return layers * 2 * kv_heads * (config.get("head_dim") or width // heads)


def _bound(device: str) -> Capacity:
    if torch.device(device).type != "cpu":
        return Capacity(MOST, "the most that one batch is made for")
    here = cores()
    return Capacity(min(MOST, PER_CORE * here), f"{PER_CORE} for each of {here} cores")


def _gb(size: float) -> str:
    return f"{size / 1e9:.3g} GB"
