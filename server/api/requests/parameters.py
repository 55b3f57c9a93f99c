"""What a request's numbers mean for one tokenizer and one context: checked here, trusted from here on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from deltaserve.errors import BadRequest, ContextLengthExceeded
from deltaserve.server.api.requests.body import Body
from deltaserve.server.api.requests.naming import quoted
from deltaserve.server.api.requests.schema import ChatRequest, CompletionRequest, Generation
from deltaserve.server.api.requests.words import known_ids, words_of
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.serving.ports import Tokenizer, Version
from deltaserve.server.serving.service import Choice, Serving
from deltaserve.server.settings import Settings

_LEAST_LIMIT = 100_000  # characters: a normaliser may shorten a text, so that a small context is no sharp bound
_ID = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """How long an answer may be, and which logprobs it carries."""

    max_tokens: int | None  # None: what fits
    default_tokens: int | None  # when not asked for; None: what fits
    top_logprobs: int | None
    logprobs_field: str


def completion_shape(request: CompletionRequest) -> AnswerShape:
    return AnswerShape(request.max_tokens, 16, request.logprobs, "logprobs")


def chat_shape(request: ChatRequest) -> AnswerShape:
    if request.top_logprobs is not None and not request.logprobs:
        raise BadRequest("`top_logprobs` needs `logprobs` to be true.", param="top_logprobs")
    top = (request.top_logprobs or 0) if request.logprobs else None
    most = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
    return AnswerShape(most, None, top, "top_logprobs")


def encode(tokenizer: Tokenizer, text: str, add_special: bool, max_context: int) -> list[int]:
    """Ids of a prompt. Raises ContextLengthExceeded, without encoding what cannot fit."""
    refuse_long(tokenizer, text, max_context)
    return tokenizer.encode(text, add_special)


def refuse_long(tokenizer: Tokenizer, text: str, max_context: int) -> None:
    """Raises ContextLengthExceeded for a text that cannot fit, whatever its tokens are."""
    most = max(max_context * tokenizer.longest_token, _LEAST_LIMIT)
    if len(text) > most:
        raise ContextLengthExceeded(
            f"The context holds {max_context} tokens, no more than {most:,} characters, and the prompt alone has"
            f" {len(text):,} characters.",
            param="prompt",
        )


def plan(
    request: Generation,
    shape: AnswerShape,
    prompts: Sequence[Sequence[int]],
    version: Version,
    serving: Serving,
) -> list[Choice]:
    """Every choice of the request, in the order of their indices: prompt by prompt, n for each."""
    _check(request, shape, serving.settings)
    shared = _params(request, shape, version, serving)
    policy = replace(serving.policy, explain=serving.settings.explain_candidates if request.explain else 0)
    max_context = serving.max_context(version)
    choices = []
    for at, prompt in enumerate(prompts):
        params = replace(shared, max_tokens=room(prompt, shape, max_context))
        if params.min_tokens > params.max_tokens:
            raise BadRequest(
                f"`min_tokens` is more than the {params.max_tokens} tokens of the answer.", param="min_tokens"
            )
        choices += [
            Choice(at * request.n + i, i, prompt, params, policy, special=not request.skip_special_tokens)
            for i in range(request.n)
        ]
    return choices


def _check(request: Generation, shape: AnswerShape, settings: Settings) -> None:
    if request.n > settings.max_n:
        raise BadRequest(f"`n` must be a whole number from 1 to {settings.max_n}.", param="n")
    if shape.top_logprobs is not None and not settings.max_logprobs:
        raise BadRequest("This server gives no log-probabilities: leave `logprobs` out.", param="logprobs")
    if (shape.top_logprobs or 0) > settings.max_logprobs:
        name = shape.logprobs_field
        raise BadRequest(f"`{name}` must be a whole number from 0 to {settings.max_logprobs}.", param=name)
    if request.stream_options is not None and not request.stream:
        raise BadRequest("`stream_options` needs `stream` to be true.", param="stream_options")


def _params(request: Generation, shape: AnswerShape, version: Version, serving: Serving) -> SamplingParams:
    """All but the length, which depends on the prompt."""
    tokenizer = version.tokenizer
    request = with_defaults(request, serving.sampling_defaults(version))
    return SamplingParams(
        max_tokens=0,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=max(request.top_k, 0),
        min_p=request.min_p,
        repetition_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias=_bias(request, tokenizer),
        seed=request.seed,
        min_tokens=request.min_tokens,
        ignore_eos=request.ignore_eos,
        eos_ids=serving.backends.end_ids(version),
        stop_token_ids=frozenset(known_ids(tokenizer, request.stop_token_ids, "stop_token_ids")),
        stop=request.stop_strings,
        stop_tokens=special_stops(tokenizer, request.stop_strings, shown=not request.skip_special_tokens),
        top_logprobs=shape.top_logprobs,
        words=words_of(request, tokenizer),
        shows_stop=request.include_stop_str_in_output,
    )


AnyBody = TypeVar("AnyBody", bound=Body)


def with_defaults(request: AnyBody, defaults: Mapping[str, float]) -> AnyBody:
    """The request with `defaults` for those of its fields that the client left out; null is left out too."""
    left_out = request.__class__.model_fields.keys() - request.model_fields_set
    return request.model_copy(update={name: defaults[name] for name in left_out & defaults.keys()})


def special_stops(tokenizer: Tokenizer, stops: Sequence[str], *, shown: bool = False) -> dict[int, str]:
    """The stop strings that are special tokens, by id. Raises BadRequest where one holds more than such a token.

    An answer's text never shows them, unless they are `shown`: then every string can be found.

    They stay stop strings too, as other tokens may spell the same text.
    """
    names = {tokenizer.token_bytes(i).decode(): i for i in tokenizer.special_ids} if stops else {}
    for stop in stops:
        if not shown and stop not in names and (held := next((name for name in names if name and name in stop), None)):
            raise BadRequest(
                f"`stop`: {held} is a special token and never part of an answer's text, so a longer string with it in "
                "it cannot be found. Name the token alone, or use `stop_token_ids`.",
                param="stop",
            )
    return {names[stop]: stop for stop in stops if stop in names}


def _bias(request: Generation, tokenizer: Tokenizer) -> dict[int, float]:
    """By id. Two spellings of one id ("1" and "01") would hide one of its values, so there is one spelling."""
    strange = next((key for key in request.logit_bias if not _ID.fullmatch(key)), None)
    if strange is not None:
        raise BadRequest(
            '`logit_bias`: every key must be a token id in plain decimal digits, as in "17"; '
            f"{quoted(strange)} is not.",
            param="logit_bias",
        )
    bias = {int(key): value for key, value in request.logit_bias.items()}
    known_ids(tokenizer, list(bias), "logit_bias")
    return bias


def refuse_longer(prompt: Sequence[int], max_tokens: int | None, max_context: int) -> None:
    """Raises ContextLengthExceeded where no token of an answer would fit; one with none may fill the context."""
    if len(prompt) + (max_tokens != 0) > max_context:
        raise ContextLengthExceeded(
            f"The context holds {max_context} tokens and the prompt alone has {len(prompt)}.", param="prompt"
        )


def room(prompt: Sequence[int], shape: AnswerShape, max_context: int) -> int:
    """Tokens of the answer. Raises ContextLengthExceeded."""
    if not prompt:
        raise BadRequest("The prompt is empty: it needs at least one token.", param="prompt")
    refuse_longer(prompt, shape.max_tokens, max_context)
    left = max_context - len(prompt)
    if shape.max_tokens is None:
        return left if shape.default_tokens is None else min(left, shape.default_tokens)
    if shape.max_tokens > left:
        raise ContextLengthExceeded(
            f"The context holds {max_context} tokens: {len(prompt)} of prompt leave {left} for the answer,"
            f" and {shape.max_tokens} were asked for.",
            param="max_tokens",
        )
    return shape.max_tokens
