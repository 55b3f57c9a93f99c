"""Recommended sampling parameters of a model, from its generation_config.json as vLLM reads it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deltaserve.errors import BadCheckpoint
from deltaserve.offset_models.tokenizer.special_tokens import GENERATION_CONFIG, optional_json
from deltaserve.server.decoding.params import LEAST_TEMPERATURE

# Name → least, most, and both in words. `do_sample` is not heeded, as vLLM does not: temperature 0 is greedy.
KNOWN: Final[Mapping[str, tuple[float, float, str]]] = {
    "temperature": (0, 2, f"a number from 0 (greedy) to 2; above 0 at least {LEAST_TEMPERATURE:g}"),
    "top_p": (0, 1, "a number from 0 to 1"),
    "top_k": (-1, 2**31 - 1, "a whole number; 0 or -1 turns it off"),
    "min_p": (0, 1, "a number from 0 to 1"),
    "repetition_penalty": (0, 10, "a number above 0, at most 10"),
}
ABOVE_ZERO: Final = ("top_p", "repetition_penalty")
WHOLE: Final = ("top_k",)


def recommended_sampling(folder: Path) -> dict[str, float]:
    """Sampling parameters by the names that requests have, as far as the file gives any.

    Raises BadCheckpoint for one that no request could ask for.
    """
    declared = optional_json(folder / GENERATION_CONFIG)
    return {name: _number(name, declared[name]) for name in KNOWN if declared.get(name) is not None}


def _number(name: str, value: Any) -> float:
    low, high, words = KNOWN[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high or not _possible(name, value):
        raise BadCheckpoint(f"{GENERATION_CONFIG}: `{name}` must be {words}. Correct it there, or remove it.")
    return int(value) if name in WHOLE else float(value)


def _possible(name: str, value: float) -> bool:
    if name == "temperature":
        return not 0 < value < LEAST_TEMPERATURE
    return value == int(value) if name in WHOLE else value > 0 or name not in ABOVE_ZERO
