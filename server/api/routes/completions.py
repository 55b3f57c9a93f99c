"""POST /v1/completions"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.replies.described import Completion, answers, refusals
from deltaserve.server.api.replies.exchange import Exchange
from deltaserve.server.api.replies.explain import ExplainRows
from deltaserve.server.api.replies.places import Places
from deltaserve.server.api.replies.replies import Reply, respond
from deltaserve.server.api.replies.tokens import LegacyLogprobs, NoLogprobs, Spelling
from deltaserve.server.api.replies.writers import ChoiceBuffer, Envelope
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.api.requests.parameters import completion_shape, encode, plan, refuse_longer
from deltaserve.server.api.requests.schema import CompletionRequest
from deltaserve.server.api.requests.structured import constraint_of, held
from deltaserve.server.api.requests.words import known_ids
from deltaserve.server.serving.ports import Tokenizer, Version
from deltaserve.server.serving.service import Choice
from deltaserve.server.settings import Settings

router = APIRouter(route_class=JsonRoute, responses=refusals())


@router.post("/v1/completions", responses=answers(Completion, streamed=True))
async def completions(body: CompletionRequest, request: Request) -> Response:
    """Continue one or more prompts with corrected tokens."""
    _check(body, request.app.state.settings)
    return await respond(request, body, partial(_prepare, body))


def _check(body: CompletionRequest, settings: Settings) -> None:
    if _scores(body) and body.n > 1:
        raise UnsupportedParameter("`echo` with `logprobs` scores each prompt once: `n` must be 1.", param="n")
    if body.max_tokens == 0 and not body.echo:
        raise BadRequest("`max_tokens` must be a whole number, 1 or more (0 only with echo).", param="max_tokens")
    if body.best_of is not None and body.best_of < body.n:
        raise BadRequest("`best_of` must not be less than `n`.", param="best_of")
    if body.best_of is not None and body.best_of > body.n:
        raise UnsupportedParameter("`best_of` above `n` is not supported: every choice is returned.", param="best_of")
    if len(_prompts(body)) > settings.max_prompts:
        raise BadRequest(f"`prompt` may list at most {settings.max_prompts} prompts.", param="prompt")


def _scores(body: CompletionRequest) -> bool:
    """Whether the log-probabilities of the prompt's own tokens are asked for."""
    return body.echo and body.logprobs is not None


def _prompts(body: CompletionRequest) -> Sequence[str | list[int]]:
    prompt = body.prompt
    if isinstance(prompt, str):
        return [prompt]
    if prompt and isinstance(prompt[0], int):
        return [[i for i in prompt if isinstance(i, int)]]
    return [item for item in prompt if not isinstance(item, int)]


async def _prepare(body: CompletionRequest, exchange: Exchange, version: Version) -> Reply:
    serving, tokenizer = exchange.serving, version.tokenizer
    texts = _prompts(body)
    if not texts:
        raise BadRequest("`prompt` is an empty list.", param="prompt")
    longest = serving.max_context(version)
    ids = await exchange.in_thread(lambda: [_ids(prompt, body, tokenizer, longest) for prompt in texts])
    choices = plan(body, completion_shape(body), ids, version, serving)
    if _scores(body):
        serving.require_scoring()
        choices = [replace(choice, scored=True) for choice in choices]
    choices = held(choices, await constraint_of(body, tokenizer, exchange.beside))
    spelling = exchange.spellings.of(version, body.return_tokens_as_token_ids)
    echoed = await exchange.in_thread(lambda: _echoed(body, tokenizer, texts, ids))
    buffers = [_buffer(body, choice, spelling, tokenizer, echoed[choice.index // body.n]) for choice in choices]
    model = body.model or serving.backends.served_name
    envelope = Envelope("cmpl", "text_completion", model, serving.fingerprint(version))
    return CompletionReply(exchange, envelope, choices, buffers)


def _ids(prompt: str | list[int], body: CompletionRequest, tokenizer: Tokenizer, max_context: int) -> Sequence[int]:
    """Raises ContextLengthExceeded before the next prompt is looked at."""
    if isinstance(prompt, str):
        ids = _last(
            encode(tokenizer, prompt, body.add_special_tokens is not False, max_context) if prompt else [], body
        )
        refuse_longer(ids, body.max_tokens, max_context)
        return ids
    ids = _last(prompt, body)
    refuse_longer(ids, body.max_tokens, max_context)
    return known_ids(tokenizer, ids, "prompt")


def _last(ids: list[int], body: CompletionRequest) -> list[int]:
    return ids if body.truncate_prompt_tokens is None else ids[-body.truncate_prompt_tokens :]


def _echoed(
    body: CompletionRequest, tokenizer: Tokenizer, prompts: Sequence[str | list[int]], ids: Sequence[Sequence[int]]
) -> list[str]:
    """The text of each prompt that comes back: as it was sent, unless it was cut."""
    if not body.echo:
        return [""] * len(prompts)
    cut = body.truncate_prompt_tokens is not None
    return [
        prompt if isinstance(prompt, str) and not cut else tokenizer.decode(kept)
        for prompt, kept in zip(prompts, ids, strict=True)
    ]


def _buffer(
    body: CompletionRequest, choice: Choice, spelling: Spelling, tokenizer: Tokenizer, echoed: str
) -> ChoiceBuffer:
    places = Places(tokenizer, choice.prompt_ids, echoed, special=choice.special)
    logprobs = NoLogprobs() if body.logprobs is None else LegacyLogprobs(spelling, places)
    explain = ExplainRows(tokenizer) if body.explain else None
    buffer = ChoiceBuffer(choice.index, logprobs, body.return_token_ids, explain, [echoed])
    if body.max_tokens == 0:
        buffer.finish_reason = "length"
    return buffer


class CompletionReply(Reply):
    """Legacy completions: a streamed choice and a whole one have the same fields."""

    def opening(self) -> bytes:
        return b""

    def delta(self, buffer: ChoiceBuffer) -> bytes:
        return b'{"index":%d,"text":%b,%b%b}' % (
            buffer.index,
            buffer.take_text(),
            buffer.take_rest(),
            self._prompt_ids(buffer),
        )

    choice = delta

    def document(self) -> bytes:
        return self.envelope.document([self.choice(buffer) for buffer in self.buffers], self.usage)

    def _prompt_ids(self, buffer: ChoiceBuffer) -> bytes:
        """Once per choice, in its first chunk."""
        if not buffer.with_ids or buffer.prompt_ids_sent:
            return b""
        buffer.prompt_ids_sent = True
        return b',"prompt_token_ids":' + orjson.dumps(list(self.choices[buffer.index].prompt_ids))
