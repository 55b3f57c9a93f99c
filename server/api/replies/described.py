"""What answers look like, for the OpenAPI document. Nothing is held against it while the server answers; tests do that.

Further fields may come: `explain`, `prompt_token_ids` and the like, where a request asks for them.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Json = dict[str, Any]
Responses = dict[int | str, dict[str, Any]]  # as FastAPI takes them


class _Shape(BaseModel):
    model_config = ConfigDict(extra="allow")


class ErrorDetail(_Shape):
    message: str
    type: str
    param: str | None
    code: str | None


class Error(_Shape):
    """OpenAI's error body."""

    error: ErrorDetail


class AnthropicErrorDetail(_Shape):
    type: str
    message: str


class AnthropicError(_Shape):
    """Anthropic's error body."""

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None


class Counts(_Shape):
    """`usage`; under `deltaserve` what the black box was asked for."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Choice(_Shape):
    index: int
    finish_reason: str | None
    stop_reason: int | str | None
    logprobs: Json | None


class CompletionChoice(_Choice):
    text: str


class AssistantMessage(_Shape):
    role: Literal["assistant"]
    content: str | None
    refusal: str | None


class ChatChoice(_Choice):
    message: AssistantMessage


class _Answer(_Shape):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Counts


class Completion(_Answer):
    """Of /v1/completions."""

    object: Literal["text_completion"]
    choices: list[CompletionChoice]


class ChatCompletion(_Answer):
    """Of /v1/chat/completions."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class ResponseObject(_Shape):
    """Of /v1/responses."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[Json]
    usage: Json
    error: None


class MessageObject(_Shape):
    """Of /v1/messages."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Json]
    stop_reason: str
    stop_sequence: str | None
    usage: Json


class InputTokens(_Shape):
    input_tokens: int


class ModelCard(_Shape):
    """One served name."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int
    system_fingerprint: str


class ModelCards(_Shape):
    object: Literal["list"]
    data: list[ModelCard]


class Tokenized(_Shape):
    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Detokenized(_Shape):
    prompt: str


class TokenizerInfo(_Shape):
    tokenizer_class: str
    eos_token: str | None
    chat_template: str | None
    vocab_size: int
    model_max_length: int


class BeforeAnswer(_Shape):
    """Of /playground/before."""

    object: Literal["uncorrected"]
    source: str
    choices: list[Json]
    usage: Json


class Loading(_Shape):
    """Of /admin/offsets, while the weights are read."""

    name: str
    state: Literal["loading"]


class Readiness(_Shape):
    """Of /health/ready."""

    status: Literal["ready", "not ready"]
    problems: list[str]


def refusals(shape: type[BaseModel] = Error) -> Responses:
    """What every route may say in the place of an answer."""
    return {
        "4XX": {"model": shape, "description": "The request is refused; the message says what to do."},
        "5XX": {"model": shape, "description": "No corrected answer can be given now."},
    }


def plain_refusals() -> Responses:
    """The same of a route whose answer is no JSON: FastAPI would have them be of the answer's kind."""
    shape = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Error.__name__}"}}}
    return {code: {"content": shape, "description": of["description"]} for code, of in refusals().items()}


def answers(shape: type[BaseModel], *, streamed: bool = False) -> Responses:
    """Of one route; `streamed`: server-sent events where the request says `stream`.

    Events have no schema: OpenAPI 3.1 does not say whether it would be that of one event or of the whole body.
    """
    found: dict[str, Any] = {"model": shape, "description": "The answer."}
    if streamed:
        found["content"] = {"text/event-stream": {}}
    return {200: found}
