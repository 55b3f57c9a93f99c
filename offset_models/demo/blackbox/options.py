"""Command line options of the embedded black box."""

import argparse
import math
from dataclasses import dataclass, fields
from pathlib import Path

DEFAULT_MODEL = Path(__file__).parents[1] / "weights" / "blackbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Settings of one server process. Defaults are vLLM's where vLLM has the setting."""

    model: Path = DEFAULT_MODEL
    served_name: str | None = None  # default: the folder's name
    host: str = "127.0.0.1"
    port: int = 8001  # 0: any free one
    dtype: str = "float32"
    threads: int = 1  # torch threads
    slots: int = 128  # KV slots: running sequences and idle prefixes together
    max_batched_tokens: int = 512  # prompt tokens computed in one step; bounds how long a prompt holds up the others
    max_model_len: int | None = None  # default: the model's own
    max_logprobs: int = 20  # -1: the whole vocabulary
    api_key: tuple[str, ...] = ()
    generation_config: str = "auto"  # vllm: nothing of the folder's generation_config.json but its end tokens
    seed: int | None = None  # of draws of requests that bring none
    prompt_tokens_details: bool = True  # vLLM: --enable-prompt-tokens-details
    string_tokens_only: bool = False  # ignore return_tokens_as_token_ids and return_token_ids
    no_id_prompts: bool = False
    no_prompt_lists: bool = False
    no_logprobs: bool = False
    no_prompt_logprobs: bool = False
    no_grammars: bool = False
    unmasked_grammars: bool = False  # under a grammar lists are the model's own, as llama.cpp's; vLLM's are masked
    processed_logprobs: bool = False  # vLLM: --logprobs-mode processed_logprobs
    no_prefix_cache: bool = False
    ms_per_token: float = 0.0  # pace of one stream, whatever the batch
    first_token_ms: float = 0.0  # to the first token, when the prompt was cached
    first_token_cold_ms: float | None = None  # the same when it was not; default: as warm
    tokens_per_chunk: int = 1
    faults: str = ""  # see faults.py

    def __post_init__(self) -> None:
        if self.tokens_per_chunk < 1 or self.slots < 2 or self.max_batched_tokens < 1 or self.threads < 1:
            raise ValueError("tokens-per-chunk, max-batched-tokens and threads must be at least 1, slots at least 2")
        if not 0 <= self.port <= 65535:
            raise ValueError("port must be a number from 0 (any free one) to 65535")
        if self.dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError("dtype must be float32, bfloat16 or float16")
        if self.generation_config not in ("auto", "vllm"):
            raise ValueError("generation-config must be auto or vllm")
        if self.max_logprobs < -1:
            raise ValueError("max-logprobs must be -1 (the whole vocabulary) or at least 0")
        if not all(0 <= ms < math.inf for ms in (self.ms_per_token, self.first_token_ms, self.cold_ms)):
            raise ValueError("a pace in milliseconds must be a finite number, 0 or more")

    @property
    def name(self) -> str:
        return self.served_name or self.model.name

    @property
    def cold_ms(self) -> float:
        return self.first_token_ms if self.first_token_cold_ms is None else self.first_token_cold_ms


def parser() -> argparse.ArgumentParser:
    """One flag per field of Options: `max_logprobs` is `--max-logprobs`; off-switches take no value."""
    out = argparse.ArgumentParser(prog="python -m deltaserve.offset_models.demo.blackbox", description=__doc__)
    for field in fields(Options):
        flag = "--" + field.name.replace("_", "-")
        if field.type is bool or field.type == "bool":
            # BooleanOptionalAction would read a flag that begins with --no- as "off".
            on_by_default = field.default is True
            out.add_argument(
                flag, action=argparse.BooleanOptionalAction if on_by_default else "store_true", default=field.default
            )
        elif field.name == "api_key":
            out.add_argument(flag, action="append", default=[], help="may be given several times")
        else:
            out.add_argument(flag, type=_TYPES[field.name], default=field.default)
    return out


_TYPES: dict[str, type] = {
    "model": Path,
    "served_name": str,
    "host": str,
    "port": int,
    "dtype": str,
    "threads": int,
    "slots": int,
    "max_batched_tokens": int,
    "max_model_len": int,
    "max_logprobs": int,
    "generation_config": str,
    "seed": int,
    "ms_per_token": float,
    "first_token_ms": float,
    "first_token_cold_ms": float,
    "tokens_per_chunk": int,
    "faults": str,
}


def parse(argv: list[str] | None = None) -> Options:
    """Options from a command line; exits with a usage message when a value cannot be."""
    given = vars(parser().parse_args(argv))
    given["api_key"] = tuple(given["api_key"])
    try:
        return Options(**given)
    except ValueError as error:
        parser().error(str(error))
