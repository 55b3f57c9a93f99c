"""POST /playground/before: the black box's own answer beside the corrected one. Behind the admin key, or not there."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from fastapi import APIRouter, Depends, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from deltaserve.errors import BadRequest
from deltaserve.server.api.access.privilege import Privilege
from deltaserve.server.api.chat.prompt import chat_ids
from deltaserve.server.api.replies.described import BeforeAnswer, answers, refusals
from deltaserve.server.api.replies.explain import token_json
from deltaserve.server.api.replies.sse import DONE, stream_response, whole_response
from deltaserve.server.api.requests.json_route import JsonRoute
from deltaserve.server.api.requests.parameters import AnswerShape, encode, room, special_stops, with_defaults
from deltaserve.server.api.requests.schema import MAX_STOP, TEMPERATURE, StopStrings, Temperature, TokenizeRequest
from deltaserve.server.decoding.params import SamplingParams
from deltaserve.server.decoding.policy import Policy
from deltaserve.server.decoding.stream import Piece
from deltaserve.server.observability.records import RequestRecord
from deltaserve.server.serving.outbox import Outbox
from deltaserve.server.serving.ports import Version
from deltaserve.server.serving.service import Choice, Serving
from deltaserve.server.serving.uncorrected import Uncorrected

SOURCE: Final = "black box, uncorrected"


class BeforeRequest(TokenizeRequest):
    """A prompt or a chat. What only a corrected answer can do (top_p, penalties, logprobs) is not accepted."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1, description="a whole number, 1 or more")
    temperature: Temperature = Field(1.0, description=TEMPERATURE)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1, description="a 64-bit whole number")
    stop: StopStrings = Field(
        default_factory=list, description=f"a list of at most 16 non-empty strings of at most {MAX_STOP} characters"
    )
    stream: bool = Field(False, description="true or false")


def _only_with_the_key(request: Request) -> None:
    privilege: Privilege = request.app.state.privilege
    privilege.require(request.headers, "This route")


router = APIRouter(dependencies=[Depends(_only_with_the_key)], route_class=JsonRoute, responses=refusals())


@router.post("/playground/before", responses=answers(BeforeAnswer, streamed=True))
async def before(body: BeforeRequest, request: Request) -> Response:
    """What the black box itself says to the same messages or prompt, nothing corrected."""
    if (body.prompt is None) == (body.messages is None):
        raise BadRequest("Send either `prompt` or `messages`.", param="prompt")
    work = _Answering(body, request.app.state.serving, request.state.record)
    if body.stream:
        return await stream_response(request, work.frames())
    return await whole_response(request, work.document())


@dataclass(slots=True)
class _Answering:
    """One request being answered."""

    body: BeforeRequest
    serving: Serving
    record: RequestRecord

    async def frames(self) -> AsyncGenerator[bytes, None]:
        async with self._answering() as answer:
            async for batch in answer.outbox:
                yield b"".join([b"data: %b\n\n" % orjson.dumps(answer.json([piece])) for _, piece in batch])
        yield DONE

    async def document(self) -> bytes:
        pieces: list[Piece] = []
        async with self._answering() as answer:
            async for batch in answer.outbox:
                pieces += [piece for _, piece in batch]
            return orjson.dumps(answer.json(pieces) | {"usage": answer.usage(pieces)})

    @asynccontextmanager
    async def _answering(self) -> AsyncIterator["_Answer"]:
        async with self.serving.pinned(self.body.model, self.record.client) as pinned:
            version = Uncorrected(pinned)
            choice = await self._choice(pinned)
            self.record.model, self.record.prompt_tokens = SOURCE, len(choice.prompt_ids)
            async with self.serving.answer(
                version, [choice], self.record, lambda _, upstream: version.source(upstream)
            ) as outbox:
                yield _Answer(version, choice, outbox, self.record)

    async def _choice(self, version: Version) -> Choice:
        body, tokenizer, longest = self.body, version.tokenizer, self.serving.max_context(version)
        opens_turn = body.add_generation_prompt and not body.continue_final_message

        def read() -> list[int]:
            if body.prompt is not None:
                return encode(tokenizer, body.prompt, body.add_special_tokens is not False, longest)
            tokens = self.serving.settings.message_special_tokens
            return chat_ids(body, tokenizer, opens_turn, longest, special_tokens=tokens)

        ids = await self.serving.threads.run(self.record.body_bytes, read)
        params = SamplingParams(
            max_tokens=room(ids, AnswerShape(body.max_tokens, None, None, ""), longest),
            temperature=with_defaults(body, self.serving.sampling_defaults(version)).temperature,
            seed=body.seed,
            stop=tuple(body.stop),
            stop_tokens=special_stops(tokenizer, body.stop),
            eos_ids=self.serving.backends.end_ids(version),
        )
        return Choice(0, 0, ids, params, Policy(tail="truncate"))


@dataclass(slots=True)
class _Answer:
    """Pieces as plain JSON types."""

    version: Uncorrected
    choice: Choice
    outbox: Outbox
    record: RequestRecord
    _counted: int = field(init=False, default=0)

    def json(self, pieces: Sequence[Piece]) -> dict[str, Any]:
        steps = [step for piece in pieces for step in piece.steps]
        self._counted += len(steps)
        self.record.completion_tokens = self._counted
        choice = {
            "index": 0,
            "text": "".join(piece.text for piece in pieces),
            "tokens": [token_json(self.version.tokenizer, step.token_id) for step in steps],
            "finish_reason": pieces[-1].finish_reason,
            "stop_reason": pieces[-1].stop_reason,
        }
        return {"object": "uncorrected", "source": SOURCE, "choices": [choice]}

    def usage(self, pieces: Sequence[Piece]) -> dict[str, int]:
        prompt, completion = len(self.choice.prompt_ids), sum(len(piece.steps) for piece in pieces)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
