"""Requests in vLLM's dialect: what is understood, what is ignored (unknown fields), what is refused and how."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deltaserve.offset_models.demo.blackbox.generation.params import SamplingParams
from deltaserve.offset_models.demo.blackbox.http.errors import ApiError, invalid
from deltaserve.offset_models.demo.blackbox.http.forms import grammar_of
from deltaserve.offset_models.demo.blackbox.options import Options

MAX_CHOICES = 16384  # vLLM's VLLM_MAX_N_SEQUENCES
MAX_PROMPTS = 1024
NOT_BUILT = [
    "suffix",
    "prompt_embeds",
    "use_beam_search",
    "bad_words",
    "tools",
    "documents",
    "truncate_prompt_tokens",
]


class StreamOptions(BaseModel):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class Generation(BaseModel):
    """Fields that both generation routes share. Unknown ones are ignored, as vLLM does."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int = 1
    max_tokens: int | None = None
    min_tokens: int = 0
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    allowed_token_ids: list[int] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    prompt_logprobs: int | None = None
    logprob_token_ids: list[int] | None = None
    return_tokens_as_token_ids: bool | None = None
    return_token_ids: bool | None = None
    structured_outputs: dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=128)] | None = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def continuous_usage(self) -> bool:
        return self.include_usage and self.stream_options is not None and self.stream_options.continuous_usage_stats


class CompletionRequest(Generation):
    prompt: str | list[str] | list[int] | list[list[int]] = ""
    echo: bool = False
    logprobs: int | None = None
    add_special_tokens: bool = True


class ChatRequest(Generation):
    messages: list[dict[str, Any]]
    logprobs: bool = False
    top_logprobs: int | None = None
    max_completion_tokens: int | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    add_special_tokens: bool = False
    chat_template_kwargs: dict[str, Any] | None = None


class TokenizeRequest(BaseModel):
    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    add_special_tokens: bool | None = None  # default: true for a prompt, false for messages
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    return_token_strs: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class DetokenizeRequest(BaseModel):
    model: str | None = None
    tokens: list[Annotated[int, Field(ge=0)]]


class FaultRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    fault: str
    times: Annotated[int, Field(ge=1)] = 1
    after: Annotated[int, Field(ge=0)] = 0


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], body: bytes) -> Model:
    """The request in `body`; raises ApiError (400) that names the fields at fault."""
    try:
        return model.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise ApiError(f"Invalid JSON: {error}") from None
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> ApiError:
    faults = error.errors(include_input=False, include_url=False)[:10]
    lines = [f"  {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in faults]
    plural = "error" if error.error_count() == 1 else "errors"
    param = str(faults[0]["loc"][0]) if faults[0]["loc"] else None
    return ApiError("\n".join([f"{error.error_count()} validation {plural}:", *lines]), param=param)


def sampling_params(
    request: Generation,
    k: int | None,
    max_tokens: int | None,
    vocab_size: int,
    options: Options,
    defaults: Mapping[str, float] = MappingProxyType({}),
) -> SamplingParams:
    """Validated parameters; `max_tokens` None means as many as fit. Raises ApiError (400).

    `defaults`: what the model's makers recommend, for what the request leaves out.
    """
    request = request.model_copy(update={name: defaults[name] for name in defaults if getattr(request, name) is None})
    _refuse_not_built(request)
    _check_ranges(request)
    _check_counts(request, k, vocab_size, options)
    stop = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return SamplingParams(
        max_tokens=max_tokens if max_tokens is not None else 2**31,
        min_tokens=request.min_tokens,
        temperature=_temperature(_or(request.temperature, 1.0)),
        top_p=_or(request.top_p, 1.0),
        top_k=max(0, _or(request.top_k, 0)),
        min_p=_or(request.min_p, 0.0),
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=_or(request.repetition_penalty, 1.0),
        logit_bias=_bias(request.logit_bias or {}, vocab_size),
        allowed_token_ids=_ids(request.allowed_token_ids, "allowed_token_ids", vocab_size),
        seed=None if request.seed == -1 else request.seed,
        stop=tuple(filter(None, stop)),
        stop_token_ids=frozenset(request.stop_token_ids or ()),
        ignore_eos=request.ignore_eos,
        include_stop_str_in_output=request.include_stop_str_in_output,
        skip_special_tokens=request.skip_special_tokens,
        logprobs=vocab_size if k == -1 else k,
        prompt_logprobs=vocab_size if request.prompt_logprobs == -1 else request.prompt_logprobs,
        grammar=_grammar(request, options),
        logprob_token_ids=_ids(request.logprob_token_ids, "logprob_token_ids", vocab_size),
    )


def _grammar(request: Generation, options: Options) -> str | None:
    grammar = grammar_of(request.structured_outputs, request.response_format)
    if grammar is not None and options.no_grammars:
        raise invalid("structured outputs are not supported by this server.", "structured_outputs")
    return grammar


def _temperature(given: float) -> float:
    """As vLLM: next to nothing is greedy, and no divisor is smaller than a hundredth."""
    return 0.0 if given < 1e-5 else max(given, 1e-2)


Number = TypeVar("Number", int, float)


def _or(value: Number | None, default: Number) -> Number:
    return default if value is None else value


def _refuse_not_built(request: Generation) -> None:
    for name in NOT_BUILT:
        if (request.model_extra or {}).get(name):
            raise ApiError(f"`{name}` is not built in the embedded black box.", param=name)


def _check_ranges(request: Generation) -> None:
    bounds: list[tuple[str, float | None, float, float, str]] = [
        ("temperature", request.temperature, 0, float("inf"), "temperature must be non-negative"),
        ("min_p", request.min_p, 0, 1, "min_p must be in [0, 1]"),
        ("top_k", request.top_k, -1, float("inf"), "top_k must be 0 or -1 (disable), or at least 1"),
        ("presence_penalty", request.presence_penalty, -2, 2, "presence_penalty must be in [-2, 2]"),
        ("frequency_penalty", request.frequency_penalty, -2, 2, "frequency_penalty must be in [-2, 2]"),
        ("min_tokens", request.min_tokens, 0, float("inf"), "min_tokens must be greater than or equal to 0"),
        ("n", request.n, 1, MAX_CHOICES, f"n must be between 1 and {MAX_CHOICES}"),
    ]
    for name, value, low, high, message in bounds:
        if value is not None and not low <= value <= high:
            raise invalid(f"{message}, got {value}.", name, value)
    if request.top_p is not None and not 0 < request.top_p <= 1:
        raise invalid(f"top_p must be in (0, 1], got {request.top_p}.", "top_p", request.top_p)
    if request.repetition_penalty is not None and request.repetition_penalty <= 0:
        raise invalid("repetition_penalty must be greater than zero.", "repetition_penalty", request.repetition_penalty)
    if request.temperature == 0 and request.n > 1:
        raise invalid("n must be 1 when using greedy sampling, got " + f"{request.n}.", "n", request.n)


def _check_counts(request: Generation, k: int | None, vocab_size: int, options: Options) -> None:
    if request.stream_options is not None and not request.stream:
        raise invalid("Stream options can only be defined when `stream=True`.", "stream_options")
    if request.prompt_logprobs is not None:
        _check_prompt_logprobs(request, vocab_size, options)
    if k is not None:
        _within_limit("sample", k, "logprobs", vocab_size, options)
        if options.no_logprobs:
            raise invalid("logprobs are disabled on this server.", "logprobs", k)
    elif request.logprob_token_ids:
        raise invalid("when using `logprob_token_ids`, `logprobs` must be set.", "logprob_token_ids")


def _check_prompt_logprobs(request: Generation, vocab_size: int, options: Options) -> None:
    wanted = request.prompt_logprobs or 0
    if options.no_prompt_logprobs:
        raise invalid("prompt_logprobs are disabled on this server.", "prompt_logprobs", wanted)
    if request.stream and wanted != 0:
        raise invalid("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")
    _within_limit("prompt", wanted, "prompt_logprobs", vocab_size, options)


def _within_limit(kind: str, k: int, param: str, vocab_size: int, options: Options) -> None:
    if k < -1:
        raise invalid(f"`{param}` must be a positive value or -1.", param, k)
    count = vocab_size if k == -1 else k
    limit = vocab_size if options.max_logprobs == -1 else options.max_logprobs
    if count > limit:
        raise invalid(f"Requested {kind} logprobs of {count}, which is greater than max allowed: {limit}", param, count)


def _bias(given: dict[str, float], vocab_size: int) -> dict[int, float]:
    if not all(key.lstrip("-").isdecimal() for key in given):
        raise invalid("logit_bias keys must be token ids.", "logit_bias")
    bias = {int(key): min(100.0, max(-100.0, value)) for key, value in given.items()}
    _ids(list(bias), "logit_bias", vocab_size)
    return bias


def _ids(given: list[int] | None, param: str, vocab_size: int) -> tuple[int, ...]:
    wrong = [i for i in given or () if not 0 <= i < vocab_size]
    if wrong:
        raise invalid(
            f"token_id(s) {wrong[:10]} in {param} contain out-of-vocab token ids. Vocabulary size: {vocab_size}", param
        )
    return tuple(given or ())
