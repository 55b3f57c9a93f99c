"""The bodies of /v1/messages and /v1/messages/count_tokens. Fields that are not here go to the chat request."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, model_validator

from deltaserve.server.api.doors.passing import passed_on
from deltaserve.server.api.requests.body import Body, JsonObject
from deltaserve.server.api.requests.schema import MAX_MESSAGES, ChatRequest, Objects, StopStrings
from deltaserve.server.api.requests.unsupported import Refusal, refuse_misspelled, refuse_unsupported

_IN_CHAT: Final = "belongs to /v1/chat/completions"
_KEEPING_ALL: Final = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
_ELSEWHERE: Final = "is not supported: nothing runs and nothing is kept here"

UNSUPPORTED: Final[Mapping[str, Refusal]] = {
    "container": Refusal(_ELSEWHERE),
    "mcp_servers": Refusal("is not supported: this server calls no other one", ([],)),
    "context_management": Refusal("is not supported: shorten `messages` yourself", ({}, _KEEPING_ALL)),
    "n": Refusal(f"must be 1: a message is one answer. More of them {_IN_CHAT}", (1,)),
    "max_completion_tokens": Refusal(f"{_IN_CHAT}; use max_tokens here"),
    "stop": Refusal(f"{_IN_CHAT}; use stop_sequences here"),
    "response_format": Refusal(f"{_IN_CHAT}; use output_config.format here"),
    "reasoning_effort": Refusal(f"{_IN_CHAT}; use output_config.effort here"),
    "logprobs": Refusal(f"{_IN_CHAT}: a message has no place for them", (False,)),
    "top_logprobs": Refusal(f"{_IN_CHAT}: a message has no place for them"),
    "parallel_tool_calls": Refusal(f"{_IN_CHAT}; use tool_choice.disable_parallel_tool_use here"),
    "return_token_ids": Refusal(_IN_CHAT, (False,)),
}

# What these say concerns nothing that happens here: caches, tiers, regions, accounts.
WITHOUT_EFFECT: Final = frozenset(
    {"cache_control", "service_tier", "inference_geo", "speed", "diagnostics", "user_profile_id", "workspace_id",
     "stream_options"}
)  # fmt: skip


class Turn(Body):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | Objects


Turns = Annotated[list[Turn], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


class CountRequest(Body):
    """POST /v1/messages/count_tokens: what a message is asked with."""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)

    model: str | None = Field(None, description="a model name that /v1/models lists")
    messages: Turns
    system: str | Objects | None = Field(None, description="a string or a list of text blocks")
    tools: Objects | None = Field(None, description="a list of tools with a name and an input_schema")
    tool_choice: JsonObject | None = Field(None, description="an object of the type auto, any, tool or none")
    thinking: JsonObject | None = Field(None, description="an object of the type enabled, adaptive or disabled")
    output_config: JsonObject | None = Field(None, description="an object with `effort` and `format`")

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        if isinstance(data, dict):
            refuse_unsupported({name: data[name] for name in data.keys() & UNSUPPORTED.keys()}, UNSUPPORTED)
            known = {*MessagesRequest.model_fields, *UNSUPPORTED, *WITHOUT_EFFECT, *ChatRequest.model_fields}
            refuse_misspelled(data, known)
        return data

    @property
    def passed_on(self) -> JsonObject:
        """Fields that mean the same in a chat request, or are refused there."""
        return passed_on(self.model_extra, {*UNSUPPORTED, *WITHOUT_EFFECT})


class MessagesRequest(CountRequest):
    """POST /v1/messages"""

    max_tokens: int = Field(ge=1, le=2**31 - 1, description="a whole number, 1 or more")
    stop_sequences: StopStrings = Field(
        default_factory=list, description="a list of at most 16 non-empty strings of at most 512 characters"
    )
    metadata: JsonObject | None = Field(None, description="an object with `user_id`")
