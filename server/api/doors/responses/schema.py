"""The body of /v1/responses. Fields that are not here go to the chat request as they are, which checks them."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from deltaserve.server.api.doors.passing import passed_on
from deltaserve.server.api.requests.body import Body, JsonObject
from deltaserve.server.api.requests.schema import MAX_MESSAGES, ChatRequest, Objects
from deltaserve.server.api.requests.unsupported import Refusal, refuse_misspelled, refuse_unsupported

MAX_INCLUDED: Final = 16
MAX_METADATA: Final = 16
LOGPROBS: Final = "message.output_text.logprobs"
# The others ask for parts of items that no answer of this server has; reasoning is never encrypted.
Includable = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]

_STATELESS: Final = "is not supported: no answers are kept here. Send the whole conversation in `input`"
_IN_CHAT: Final = "belongs to /v1/chat/completions"

UNSUPPORTED: Final[Mapping[str, Refusal]] = {
    "previous_response_id": Refusal(_STATELESS),
    "conversation": Refusal(_STATELESS),
    "store": Refusal("must be false or left out: no answers are kept here", (False,)),
    "background": Refusal("is not supported: an answer lasts as long as its request", (False,)),
    "prompt": Refusal("is not supported: no prompt templates are kept here. Send its text in `instructions`"),
    "truncation": Refusal("must be 'disabled': shorten `input` yourself", ("disabled",)),
    "context_management": Refusal("is not supported: shorten `input` yourself", ([],)),
    "moderation": Refusal("is not supported: this server moderates nothing"),
    "n": Refusal(f"must be 1: a response is one answer. More of them {_IN_CHAT}", (1,)),
    "messages": Refusal(f"{_IN_CHAT}; use input here"),
    "max_tokens": Refusal(f"{_IN_CHAT}; use max_output_tokens here"),
    "max_completion_tokens": Refusal(f"{_IN_CHAT}; use max_output_tokens here"),
    "response_format": Refusal(f"{_IN_CHAT}; use text.format here"),
    "reasoning_effort": Refusal(f"{_IN_CHAT}; use reasoning.effort here"),
    "verbosity": Refusal(f"{_IN_CHAT}; use text.verbosity here"),
    "logprobs": Refusal(f"{_IN_CHAT}; use include: ['{LOGPROBS}'] here", (False,)),
    "return_token_ids": Refusal(_IN_CHAT, (False,)),
}

# What these say concerns nothing that happens here: who asks, caches, tiers, tools that the server would run.
WITHOUT_EFFECT: Final = frozenset(
    {"service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
     "max_tool_calls", "stream_options", "background_options", "client_metadata", "access_programs", "image"}
)  # fmt: skip

Metadata = Annotated[dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=MAX_METADATA)]
Items = Annotated[list[JsonObject], Field(max_length=MAX_MESSAGES, fail_fast=True)]


class ResponsesRequest(Body):
    """POST /v1/responses"""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)

    model: str | None = Field(None, description="a model name that /v1/models lists")
    input: str | Items = Field(
        description=f"a string or a list of at most {MAX_MESSAGES:,} items: messages, function_call, "
        "function_call_output, reasoning"
    )
    instructions: str | None = Field(None, description="a string")
    max_output_tokens: int | None = Field(None, ge=1, le=2**31 - 1, description="a whole number, 1 or more")
    include: list[Includable] = Field(
        default_factory=list, max_length=MAX_INCLUDED, description=f"a list of names such as {LOGPROBS}"
    )
    top_logprobs: int | None = Field(None, ge=0, description="a whole number, 0 or more")
    text: JsonObject | None = Field(None, description="an object with `format`")
    reasoning: JsonObject | None = Field(None, description="an object with `effort`")
    tools: Objects | None = Field(None, description="a list of function tools")
    tool_choice: str | JsonObject | None = Field(
        None, description='"auto", "none", "required", or an object that names a function'
    )
    parallel_tool_calls: bool | None = Field(None, description="true or false")
    metadata: Metadata | None = Field(
        None, description=f"an object of at most {MAX_METADATA} strings of at most 512 characters"
    )
    user: str | None = Field(None, description="a string")

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        if isinstance(data, dict):
            refuse_unsupported({name: data[name] for name in data.keys() & UNSUPPORTED.keys()}, UNSUPPORTED)
            refuse_misspelled(data, {*cls.model_fields, *UNSUPPORTED, *WITHOUT_EFFECT, *ChatRequest.model_fields})
        return data

    @property
    def passed_on(self) -> JsonObject:
        """Fields that mean the same in a chat request, or are refused there."""
        return passed_on(self.model_extra, {*UNSUPPORTED, *WITHOUT_EFFECT})
