"""The special tokens of a model folder, read from all its files as transformers reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from deltaserve.offset_models.files.safe_files import read_object

GENERATION_CONFIG: Final = "generation_config.json"
ADDED_TOKENS: Final = "added_tokens_decoder"  # where tokenizer_config.json has it, older files are not looked at


def optional_json(path: Path) -> Mapping[str, Any]:
    """A JSON object, empty where there is no such file. Raises BadCheckpoint."""
    return read_object(path) if path.exists() else {}


def named_tokens(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Texts of `bos_token`, `eos_token` and whatever else is named so; `config` is tokenizer_config.json.

    special_tokens_map.json wins where the config is of its time, and fills in what a newer one leaves out.
    """
    older = optional_json(folder / "special_tokens_map.json")
    merged = {**older, **config} if ADDED_TOKENS in config else {**config, **_given(older)}
    named = {name: _text(declared) for name, declared in merged.items() if name.endswith("_token")}
    return {name: text for name, text in named.items() if text is not None}


def listed_tokens(folder: Path, config: Mapping[str, Any], named: Mapping[str, str]) -> dict[int, Mapping[str, Any]]:
    """Added tokens by id with their flags, as far as they stand beside tokenizer.json."""
    if ADDED_TOKENS in config:
        return {int(token_id): about for token_id, about in (config[ADDED_TOKENS] or {}).items()}
    special = {*named.values(), *map(_text, config.get("additional_special_tokens") or ())}
    older = optional_json(folder / "added_tokens.json")
    return {int(i): {"content": text, "special": text in special} for text, i in older.items()}


def declared_ends(folder: Path) -> list[int]:
    """Ids that the model's own settings end an answer with: generation_config.json's, or config.json's without one."""
    generation, model = folder / GENERATION_CONFIG, optional_json(folder / "config.json")
    if generation.exists():
        return _ids(optional_json(generation).get("eos_token_id"))
    return _ids(model.get("eos_token_id")) or _ids((model.get("text_config") or {}).get("eos_token_id"))


def _given(declared: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in declared.items() if value is not None}


def _ids(declared: Any) -> list[int]:
    """One id, several, or none."""
    several = declared if isinstance(declared, list) else [declared]
    return [i for i in several if isinstance(i, int) and not isinstance(i, bool)]


def _text(declared: Any) -> str | None:
    """A token written as its text, or as an object with it; flags such as `add_bos_token` are no tokens."""
    text = declared.get("content") if isinstance(declared, Mapping) else declared
    return text if isinstance(text, str) else None
