"""POST /v1/completions: prompts in every form, answers in vLLM's shape."""

import time
from collections.abc import Sequence as Seq
from dataclasses import replace
from typing import Any

import orjson

from deltaserve.offset_models.demo.blackbox.generation.sequence import Job, Token
from deltaserve.offset_models.demo.blackbox.http import wire
from deltaserve.offset_models.demo.blackbox.http.errors import ApiError, invalid
from deltaserve.offset_models.demo.blackbox.http.schema import MAX_PROMPTS, CompletionRequest, parse, sampling_params
from deltaserve.offset_models.demo.blackbox.http.service import Service, request_id
from deltaserve.offset_models.demo.blackbox.options import Options

DEFAULT_MAX_TOKENS = 16  # OpenAI's and vLLM's for this route


def start(service: Service, body: bytes, given_id: str | None) -> tuple[Job, "CompletionShape"]:
    """Parses, checks and submits a request. Raises ApiError."""
    request = parse(CompletionRequest, body)
    service.check_model(request.model)
    prompts = _prompts(service, request)
    for prompt in prompts:
        service.check_prompt(prompt)
    scoring = request.echo and request.max_tokens == 0
    max_tokens = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    most = 1 if scoring else max_tokens
    size, recommended = service.model.vocab_size, service.recommended
    params = sampling_params(request, request.logprobs, most, size, service.options, recommended)
    if request.echo and params.prompt_logprobs is None and params.logprobs is not None:
        if service.options.no_prompt_logprobs:
            raise invalid("logprobs of an echoed prompt are disabled on this server.", "echo")
        params = replace(params, prompt_logprobs=params.logprobs)
    params = service.room(prompts, params)
    job = service.submit(prompts, request.n, params, request.cache_salt)
    return job, CompletionShape(service, job, request, prompts, scoring, request_id("cmpl", given_id))


def _prompts(service: Service, request: CompletionRequest) -> list[list[int]]:
    given = request.prompt
    if isinstance(given, str):
        return [_encode(service, given, request)]
    if not given:
        raise ApiError("Either prompt or prompt_embeds must be provided and non-empty.", param="prompt")
    if isinstance(given[0], int):
        _refuse_ids(service.options)
        return [list(given)]
    if service.options.no_prompt_lists:
        raise invalid("a list of prompts is not supported by this server.", "prompt")
    if len(given) > MAX_PROMPTS:
        raise invalid(f"at most {MAX_PROMPTS} prompts are allowed.", "prompt", len(given))
    if any(isinstance(prompt, list) for prompt in given):
        _refuse_ids(service.options)
    return [_encode(service, p, request) if isinstance(p, str) else list(p) for p in given]


def _refuse_ids(options: Options) -> None:
    if options.no_id_prompts:
        raise invalid("token ids as a prompt are not supported by this server.", "prompt")


def _encode(service: Service, text: str, request: CompletionRequest) -> list[int]:
    return service.backend.encode(text, add_special_tokens=request.add_special_tokens).ids


class CompletionShape:
    """Dresses the tokens of one request as text completions."""

    def __init__(
        self,
        service: Service,
        job: Job,
        request: CompletionRequest,
        prompts: list[list[int]],
        scoring: bool,
        answer_id: str,
    ) -> None:
        self.stream = request.stream
        self._service = service
        self._job = job
        self._request = request
        self._prompts = prompts
        self._scoring = scoring  # echo of the prompt alone: the token that was generated is not shown
        self._counts = [0] * len(job.sequences)
        as_ids = bool(request.return_tokens_as_token_ids) and not service.options.string_tokens_only
        self._ids = bool(request.return_token_ids) and not service.options.string_tokens_only
        self._spellers = [wire.Speller(service.texts, as_ids=as_ids) for _ in job.sequences]
        head = {"id": answer_id, "object": "text_completion", "created": int(time.time()), "model": service.name}
        self._head: dict[str, Any] = head

    def opening(self) -> bytes:
        return b""

    def chunk(self, index: int, tokens: list[Token]) -> bytes:
        first = self._counts[index] == 0
        self._counts[index] += len(tokens)
        last = tokens[-1]
        text = "".join(t.text for t in tokens)
        choice = {
            "index": index,
            "text": self._text(index, text) if first else text,
            "logprobs": self._logprobs(index, tokens, first),
            "finish_reason": last.finish_reason,
            "stop_reason": last.stop_reason,
            "prompt_token_ids": self._prompt(index) if first and self._ids else None,
            "token_ids": self._token_ids(tokens),
        }
        out = {**self._head, "choices": [choice]}
        if self._request.continuous_usage:
            out["usage"] = self._usage(full=False)
        if last.finish_reason is not None and not self._request.include_usage:
            out["system_fingerprint"] = self._service.fingerprint
        return wire.frame(out)

    def closing(self) -> bytes:
        if not self._request.include_usage:
            return b""
        tail = {"choices": [], "usage": self._usage(full=False), "system_fingerprint": self._service.fingerprint}
        return wire.frame({**self._head, **tail})

    def whole(self, choices: list[list[Token]]) -> bytes:
        out = {
            **self._head,
            "choices": [self._choice(i, tokens) for i, tokens in enumerate(choices)],
            "service_tier": None,
            "system_fingerprint": self._service.fingerprint,
            "usage": self._usage(full=True),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
        return orjson.dumps(out)

    def _choice(self, index: int, tokens: list[Token]) -> dict[str, Any]:
        self._counts[index] = len(tokens)
        return {
            "index": index,
            "text": self._text(index, "".join(t.text for t in tokens)),
            "logprobs": self._logprobs(index, tokens, True),
            "finish_reason": tokens[-1].finish_reason,
            "stop_reason": tokens[-1].stop_reason,
            "token_ids": self._token_ids(tokens),
            "prompt_logprobs": self._prompt_logprobs(index),
            "prompt_token_ids": self._prompt(index) if self._ids else None,
            "routed_experts": None,
        }

    def _text(self, index: int, generated: str) -> str:
        if not self._request.echo:
            return generated
        skip = self._request.skip_special_tokens
        prompt = self._service.backend.decode(self._prompt(index), skip_special_tokens=skip)
        return prompt if self._scoring else prompt + generated

    def _logprobs(self, index: int, tokens: list[Token], first: bool) -> dict[str, Any] | None:
        if self._request.logprobs is None:
            return None
        speller = self._spellers[index]
        generated = [] if self._scoring else tokens
        if not (self._request.echo and first):
            return wire.legacy_logprobs(speller, generated)
        echoed = wire.echoed_logprobs(speller, self._positions(index), self._prompt(index))
        return wire.joined(echoed, wire.legacy_logprobs(speller, generated))

    def _token_ids(self, tokens: Seq[Token]) -> list[int] | None:
        if not self._ids:
            return None
        return [] if self._scoring else [t.token_id for t in tokens]

    def _prompt_logprobs(self, index: int) -> list[Any] | None:
        if self._job.params.prompt_logprobs is None:
            return None
        return wire.prompt_logprobs(self._service.texts, self._positions(index), self._prompt(index))

    def _positions(self, index: int) -> list[Any]:
        return self._job.prompt_positions[index // self._request.n]

    def _prompt(self, index: int) -> list[int]:
        return self._prompts[index // self._request.n]

    def _usage(self, *, full: bool) -> dict[str, Any]:
        prompt_tokens = sum(map(len, self._prompts))
        cached = self._job.cached_tokens if self._service.options.prompt_tokens_details else None
        dress = wire.full_usage if full else wire.usage
        return dress(prompt_tokens, sum(self._counts), cached)
