"""What a client sends: a body's bytes as JSON, as each route's model, and as the chat that it asks for."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import orjson
from pydantic import BaseModel, ValidationError

from benchmarks.fuzzing.mutating import Mutator
from benchmarks.fuzzing.target import Different, Target
from benchmarks.support.processes import WEIGHTS
from deltaserve.errors import BadRequest
from deltaserve.offset_models.tokenizer.tokenizer import Tokenizer
from deltaserve.server.api.doors.messages import request as messages
from deltaserve.server.api.doors.messages.schema import MessagesRequest
from deltaserve.server.api.doors.responses import request as responses
from deltaserve.server.api.doors.responses.schema import ResponsesRequest
from deltaserve.server.api.errors import error_body, schema_error
from deltaserve.server.api.requests.admin_schema import OffsetOrder, StrengthOrder
from deltaserve.server.api.requests.json_text import parse
from deltaserve.server.api.requests.schema import ChatRequest, CompletionRequest, DetokenizeRequest, TokenizeRequest
from deltaserve.server.api.requests.structured import asked_of
from deltaserve.server.api.requests.structured_fields import StructuredFields

_MOST_VALUES: Final = 4096
_LONGEST: Final = 1200  # characters of an error
_TURNS: Final = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    {"role": "assistant", "content": None,
     "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "1"},
]  # fmt: skip
_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "a": {"type": "string", "pattern": "^x+$"},
        "b": {"enum": [1, "x", None]},
        "c": {"$ref": "#/$defs/d"},
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"d": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": {"type": "number"}}]}},
}
_TOOL: Final = {"type": "function", "function": {"name": "f", "description": "d", "parameters": _SCHEMA}}
_SAMPLING: Final = {
    "model": "m", "max_tokens": 3, "n": 1, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "min_p": 0.01, "seed": 1,
    "presence_penalty": 0.1, "frequency_penalty": 0.1, "repetition_penalty": 1.1, "logit_bias": {"5": 1}, "stop": ["z"],
    "stop_token_ids": [7], "min_tokens": 1, "ignore_eos": False, "stream": True, "bad_words": ["x"], "user": "u",
    "allowed_token_ids": [1, 2], "stream_options": {"include_usage": True},
}  # fmt: skip
_FORM: Final = {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA, "strict": True}}
COMPLETIONS: Final = [
    {**_SAMPLING, "prompt": "hello", "logprobs": 2, "echo": False, "best_of": 1, "guided_json": _SCHEMA},
    {"prompt": [[1, 2], [3]], "structured_outputs": {"regex": "(a|b)+c{2,3}"}},
    {"prompt": [1, 2, 3], "guided_choice": ["a", "b"], "truncate_prompt_tokens": 2},
    {"prompt": "x", "guided_grammar": 'root ::= "a" | "b"'},
]
CHATS: Final = [
    {**_SAMPLING, "messages": _TURNS, "tools": [_TOOL], "tool_choice": "auto", "logprobs": True, "top_logprobs": 2},
    {"messages": _TURNS[:2], "response_format": _FORM, "reasoning_effort": "low", "chat_template_kwargs": {"a": 1}},
]
RESPONSES: Final = [
    {"model": "m", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]}],
     "text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}}, "max_output_tokens": 3,
     "tools": [{"type": "function", "name": "f", "parameters": _SCHEMA}], "reasoning": {"effort": "low"},
     "instructions": "a", "tool_choice": "auto", "store": False, "metadata": {"a": "b"},
     "include": ["message.output_text.logprobs"]},
    {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
               {"type": "function_call_output", "call_id": "c", "output": "1"}]},
]  # fmt: skip
MESSAGES: Final = [
    {"model": "m", "max_tokens": 3, "system": [{"type": "text", "text": "a"}],
     "messages": [{"role": "user", "content": "hi"},
                  {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}]},
                  {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "1"}]}],
     "tools": [{"name": "f", "input_schema": _SCHEMA}], "tool_choice": {"type": "auto"}, "stop_sequences": ["z"],
     "thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "low"}},
]  # fmt: skip
TOKENIZING: Final = [{"messages": _TURNS, "return_token_strs": True, "tools": [_TOOL]}, {"prompt": "a"}]
DETOKENIZING: Final = [{"model": "m", "tokens": [1, 2, 256]}]
ORDERS: Final = [
    {"name": "b", "path": "b", "strength": 0.5},
    {"name": "c", "sum": [{"name": "a"}, {"name": "b", "strength": 1}]},
]
STRENGTHS: Final = [{"strength": 0.5}]

Then = Callable[[Any], None]


def validated(model: type[BaseModel], value: Any) -> Any:
    """The request; BadRequest, whose words fit into an answer, for one that the model does not take."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise schema_error(error.errors(), model.model_fields) from None


def read(model: type[BaseModel], then: Then, raw: bytes, _: Mutator) -> None:
    """As a route reads its body. An error must fit into an answer."""
    try:
        value = parse(raw, _MOST_VALUES)
        then(validated(model, value))
    except BadRequest as error:
        if len(orjson.loads(error_body(error))["error"]["message"]) > _LONGEST:
            raise Different("an error repeats much of the request") from None
        raise


def _nothing_more(_: Any) -> None:
    pass


class _Forms:
    """What comes behind a model: the chat that it asks for, and the form of the answer."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.load(WEIGHTS / "base")

    def form(self, request: StructuredFields) -> None:
        asked_of(request, self._tokenizer)

    def response(self, request: ResponsesRequest) -> None:
        self.form(validated(ChatRequest, responses.chat_fields(request)))

    def message(self, request: MessagesRequest) -> None:
        self.form(validated(ChatRequest, messages.chat_fields(request)))


def targets() -> list[Target]:
    """Those of this file."""
    forms = _Forms()
    routes: list[tuple[str, type[BaseModel], list[dict[str, Any]], Then, float]] = [
        ("completions", CompletionRequest, COMPLETIONS, forms.form, 0.04),
        ("chats", ChatRequest, CHATS, forms.form, 0.04),
        ("responses", ResponsesRequest, RESPONSES, forms.response, 0.03),
        ("messages", MessagesRequest, MESSAGES, forms.message, 0.03),
        ("tokenize", TokenizeRequest, TOKENIZING, _nothing_more, 0.005),
        ("detokenize", DetokenizeRequest, DETOKENIZING, _nothing_more, 0.005),
        ("orders", OffsetOrder, ORDERS, _nothing_more, 0.005),
        ("strengths", StrengthOrder, STRENGTHS, _nothing_more, 0.005),
    ]
    return [
        Target(name, [json.dumps(one).encode() for one in seeds], partial(read, model, then), (BadRequest,), share)
        for name, model, seeds, then, share in routes
    ]
