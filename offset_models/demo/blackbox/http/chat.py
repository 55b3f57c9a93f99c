"""POST /v1/chat/completions: the chat template, then the same engine."""

import time
from typing import Any

import orjson
from jinja2 import TemplateError

from deltaserve.offset_models.demo.blackbox.generation.sequence import Job, Token
from deltaserve.offset_models.demo.blackbox.http import wire
from deltaserve.offset_models.demo.blackbox.http.errors import ApiError, invalid
from deltaserve.offset_models.demo.blackbox.http.schema import ChatRequest, TokenizeRequest, parse, sampling_params
from deltaserve.offset_models.demo.blackbox.http.service import Service, request_id


def start(service: Service, body: bytes, given_id: str | None) -> tuple[Job, "ChatShape"]:
    """Parses, checks and submits a request. Raises ApiError."""
    request = parse(ChatRequest, body)
    service.check_model(request.model)
    if request.top_logprobs is not None and not request.logprobs and request.top_logprobs != 0:
        raise invalid("when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    prompt = render(service, request)
    service.check_prompt(prompt)
    k = (request.top_logprobs or 0) if request.logprobs else None
    wanted = request.max_completion_tokens if request.max_completion_tokens is not None else request.max_tokens
    size, recommended = service.model.vocab_size, service.recommended
    params = sampling_params(request, k, wanted, size, service.options, recommended)
    params = service.room([prompt], params)
    job = service.submit([prompt], request.n, params, request.cache_salt)
    return job, ChatShape(service, job, request, prompt, request_id("chatcmpl", given_id))


def render(service: Service, request: ChatRequest | TokenizeRequest) -> list[int]:
    """Ids of a rendered chat. Raises ApiError for one that cannot be rendered."""
    if request.continue_final_message and request.add_generation_prompt:
        raise ApiError("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    if not request.messages:
        raise invalid("messages must not be empty.", "messages")
    try:
        text = service.tokenizer.apply_chat_template(
            [_flat(message) for message in request.messages],
            tokenize=False,
            add_generation_prompt=request.add_generation_prompt,
            continue_final_message=request.continue_final_message,
            **(request.chat_template_kwargs or {}),
        )
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        raise ApiError(f"The chat template cannot render these messages ({type(error).__name__}).") from None
    return service.backend.encode(text, add_special_tokens=bool(request.add_special_tokens)).ids


def _flat(message: dict[str, Any]) -> dict[str, Any]:
    """Text parts joined; other parts are refused."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    if any(part.get("type") != "text" for part in content):
        raise ApiError("Only text content is supported by this model.", param="messages")
    return {**message, "content": "\n".join(str(part.get("text", "")) for part in content)}


class ChatShape:
    """Dresses the tokens of one request as a chat completion."""

    def __init__(self, service: Service, job: Job, request: ChatRequest, prompt: list[int], answer_id: str) -> None:
        self.stream = request.stream
        self._service = service
        self._job = job
        self._request = request
        self._prompt = prompt
        self._counts = [0] * len(job.sequences)
        as_ids = bool(request.return_tokens_as_token_ids) and not service.options.string_tokens_only
        self._ids = bool(request.return_token_ids) and not service.options.string_tokens_only
        self._spellers = [wire.Speller(service.texts, as_ids=as_ids) for _ in job.sequences]
        self._id, self._created = answer_id, int(time.time())

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._service.name}

    def opening(self) -> bytes:
        delta = {"role": "assistant", "content": ""}
        empty = {"delta": delta, "logprobs": None, "finish_reason": None}
        prompt = {"prompt_token_ids": self._prompt if self._ids else None, "prompt_text": None}
        head = self._head("chat.completion.chunk")
        return b"".join(
            wire.frame({**head, "choices": [{"index": i, **empty}], **prompt}) for i in range(len(self._counts))
        )

    def chunk(self, index: int, tokens: list[Token]) -> bytes:
        self._counts[index] += len(tokens)
        last = tokens[-1]
        choice: dict[str, Any] = {
            "index": index,
            "delta": {"content": "".join(t.text for t in tokens)},
            "logprobs": self._logprobs(index, tokens),
            "finish_reason": last.finish_reason,
            **({} if last.finish_reason is None else {"stop_reason": last.stop_reason}),
            "token_ids": [t.token_id for t in tokens] if self._ids else None,
        }
        out = {**self._head("chat.completion.chunk"), "choices": [choice]}
        if self._request.continuous_usage:
            out["usage"] = self._usage(full=False)
        if last.finish_reason is not None and not self._request.include_usage:
            out["system_fingerprint"] = self._service.fingerprint
        return wire.frame(out)

    def closing(self) -> bytes:
        if not self._request.include_usage:
            return b""
        tail = {"choices": [], "usage": self._usage(full=False), "system_fingerprint": self._service.fingerprint}
        return wire.frame({**self._head("chat.completion.chunk"), **tail})

    def whole(self, choices: list[list[Token]]) -> bytes:
        out = {
            **self._head("chat.completion"),
            "choices": [self._choice(i, tokens) for i, tokens in enumerate(choices)],
            "service_tier": None,
            "system_fingerprint": self._service.fingerprint,
            "usage": self._usage(full=True),
            "prompt_logprobs": self._prompt_logprobs(),
            "prompt_token_ids": self._prompt if self._ids else None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }
        return orjson.dumps(out)

    def _choice(self, index: int, tokens: list[Token]) -> dict[str, Any]:
        self._counts[index] = len(tokens)
        names = ("refusal", "annotations", "audio", "function_call", "reasoning")
        message = {"role": "assistant", "content": "".join(t.text for t in tokens), **dict.fromkeys(names)}
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs(index, tokens),
            "finish_reason": tokens[-1].finish_reason,
            "stop_reason": tokens[-1].stop_reason,
            "token_ids": [t.token_id for t in tokens] if self._ids else None,
            "routed_experts": None,
        }

    def _logprobs(self, index: int, tokens: list[Token]) -> dict[str, Any] | None:
        if not self._request.logprobs:
            return None
        k = self._job.params.logprobs or 0
        listed = 1 + len(self._job.params.logprob_token_ids) if self._job.params.logprob_token_ids else k
        return wire.chat_logprobs(self._spellers[index], tokens, listed)

    def _prompt_logprobs(self) -> list[Any] | None:
        if self._job.params.prompt_logprobs is None:
            return None
        return wire.prompt_logprobs(self._service.texts, self._job.prompt_positions[0], self._prompt)

    def _usage(self, *, full: bool) -> dict[str, Any]:
        cached = self._job.cached_tokens if self._service.options.prompt_tokens_details else None
        dress = wire.full_usage if full else wire.usage
        return dress(len(self._prompt), sum(self._counts), cached)
