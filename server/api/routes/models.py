"""What is served, and its tokenizer: /v1/models, /tokenize, /detokenize, /tokenizer_info (vLLM's shapes)."""

import math
from collections.abc import Callable
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from deltaserve.errors import BadRequest, ModelNotFound
from deltaserve.server.api.chat.prompt import chat_ids
from deltaserve.server.api.replies.described import (
    Detokenized,
    ModelCard,
    ModelCards,
    Tokenized,
    TokenizerInfo,
    answers,
    refusals,
)
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.api.requests.parameters import encode
from deltaserve.server.api.requests.schema import DetokenizeRequest, TokenizeRequest
from deltaserve.server.api.requests.words import known_ids
from deltaserve.server.serving.admission.clients import ANYBODY
from deltaserve.server.serving.ports import Tokenizer, Version
from deltaserve.server.serving.service import Serving

router = APIRouter(route_class=JsonRoute, responses=refusals())
Json = dict[str, Any]
MAX_TEXT: Final = 400_000  # characters that /tokenize takes, or more where the context may hold more


@router.get("/v1/models", responses=answers(ModelCards))
async def list_models(request: Request) -> dict[str, Any]:
    """One card for each served name."""
    return {"object": "list", "data": await _cards(request)}


@router.get("/v1/models/{model_id:path}", responses=answers(ModelCard))
async def retrieve_model(model_id: str, request: Request) -> dict[str, Any]:
    """The card of one served name."""
    cards = await _cards(request)
    for card in cards:
        if card["id"] == model_id:
            return card
    raise ModelNotFound.among(model_id, [card["id"] for card in cards])


async def _cards(request: Request) -> list[dict[str, Any]]:
    """Of what the client's key may ask."""
    serving: Serving = request.app.state.serving
    return [
        {
            "id": name,
            "object": "model",
            "created": int(created),
            "owned_by": "deltaserve",
            "root": name,
            "parent": None,
            "max_model_len": serving.max_context(version),
            "system_fingerprint": serving.fingerprint(version),
            "sampling_defaults": dict(serving.sampling_defaults(version)),
        }
        for name, created, version in await serving.backends.registry.cards()
        if serving.may_ask(request.state.record.client, name)
    ]


@router.post("/tokenize", responses=answers(Tokenized))
async def tokenize(body: TokenizeRequest, request: Request) -> Response:
    """Ids of a prompt or of a rendered chat."""
    serving: Serving = request.app.state.serving
    if (body.prompt is None) == (body.messages is None):
        raise BadRequest("Send either `prompt` or `messages`.", param="prompt")
    async with serving.pinned(body.model, request.state.record.client) as version:
        longest = serving.max_context(version)
        tokens = serving.settings.message_special_tokens
        return await _in_thread(request, lambda: _tokenized(body, version.tokenizer, longest, special_tokens=tokens))


def countable(tokenizer: Tokenizer, max_context: int) -> int:
    """Tokens that may be counted. Clients count those of texts longer than the context too, to cut them."""
    return max(max_context, math.ceil(MAX_TEXT / tokenizer.longest_token))


def _tokenized(body: TokenizeRequest, tokenizer: Tokenizer, max_context: int, *, special_tokens: bool) -> Json:
    bound = countable(tokenizer, max_context)
    if body.prompt is not None:
        ids = encode(tokenizer, body.prompt, body.add_special_tokens is not False, bound)
    else:
        ids = chat_ids(body, tokenizer, body.add_generation_prompt, bound, special_tokens=special_tokens)
    names = [tokenizer.backend.id_to_token(i) for i in ids] if body.return_token_strs else None
    return {"count": len(ids), "max_model_len": max_context, "tokens": ids, "token_strs": names}


@router.post("/detokenize", responses=answers(Detokenized))
async def detokenize(body: DetokenizeRequest, request: Request) -> Response:
    """Text of token ids."""
    async with request.app.state.serving.pinned(body.model, request.state.record.client) as version:
        return await _in_thread(request, lambda: _detokenized(body, version.tokenizer))


def _detokenized(body: DetokenizeRequest, tokenizer: Tokenizer) -> Json:
    return {"prompt": tokenizer.decode(known_ids(tokenizer, body.tokens, "tokens"))}


async def _in_thread(request: Request, work: Callable[[], Json]) -> Response:
    """The result of `work` as a JSON document, both made in a thread where the request is long."""
    serving: Serving = request.app.state.serving
    content = await serving.threads.run(request.state.record.body_bytes, lambda: orjson.dumps(work()))
    return Response(content, media_type="application/json")


@router.get("/tokenizer_info", responses=answers(TokenizerInfo))
async def tokenizer_info(request: Request) -> dict[str, Any]:
    """What a client needs to know of the tokenizer without having it."""
    serving: Serving = request.app.state.serving
    async with serving.pinned(None, ANYBODY) as version:
        tokenizer = version.tokenizer
        eos = tokenizer.eos_ids[0] if tokenizer.eos_ids else None
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "backend": "tokenizers",
            "bos_token": _spelled(version, tokenizer.bos_id),
            "eos_token": _spelled(version, eos),
            "turn_end_token": _spelled(version, tokenizer.turn_end_id),
            "pad_token": _spelled(version, eos),
            "chat_template": tokenizer.chat_template,
            "vocab_size": tokenizer.vocab_size,
            "model_max_length": serving.max_context(version),
            "added_tokens_decoder": {str(i): _spelled(version, i) for i in sorted(tokenizer.special_ids)},
        }


def _spelled(version: Version, token_id: int | None) -> str | None:
    return None if token_id is None else version.tokenizer.backend.id_to_token(token_id)
