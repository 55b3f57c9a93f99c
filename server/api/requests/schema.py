"""Request bodies. Each field's description says what it accepts: it is the API document and the error sentence.

A field is here, or refused (`unsupported.py`), or OpenAI's and without effect on the text, or unknown and ignored.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from deltaserve.server.answers.effort import EFFORTS, Effort
from deltaserve.server.api.requests.body import Body, JsonObject
from deltaserve.server.api.requests.json_text import MAX_FIELDS
from deltaserve.server.api.requests.structured_fields import StructuredFields
from deltaserve.server.api.requests.unsupported import CHAT, COMMON, COMPLETION, refuse_misspelled, refuse_unsupported
from deltaserve.server.decoding.params import LEAST_TEMPERATURE

MAX_MESSAGES: Final = 4096
MAX_BIAS: Final = 4096  # entries: that many cost each token no more than a few do, ten times as many milliseconds
MAX_BAD_WORDS: Final = 128
MAX_STOP: Final = 512  # characters of a stop string: answers are held back while they may be the beginning of one

Number = Annotated[float, Field(allow_inf_nan=False)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]
StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP)]
StopStrings = Annotated[list[StopString], Field(max_length=16, fail_fast=True)]
BadWords = Annotated[list[StopString], Field(max_length=MAX_BAD_WORDS, fail_fast=True)]
AllowedIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
# Of a list with a mistake in each of its items the first one is told: pydantic would make an error for every item,
# and a union of lists one for every item and member.
Texts = Annotated[list[str], Field(fail_fast=True)]
Ids = Annotated[list[TokenId], Field(fail_fast=True)]
ListsOfIds = Annotated[list[Ids], Field(fail_fast=True)]
TemplateArguments = Annotated[JsonObject, Field(max_length=MAX_FIELDS)]
TEMPLATE_ARGUMENTS: Final = f"an object of at most {MAX_FIELDS} fields"
Objects = Annotated[list[JsonObject], Field(fail_fast=True)]


def _few(entries: Any) -> Any:
    """Refused before pydantic looks at each entry."""
    if isinstance(entries, dict) and len(entries) > MAX_BIAS:
        raise ValueError("too many entries")
    return entries


def _reachable(temperature: float) -> float:
    if 0 < temperature < LEAST_TEMPERATURE:
        raise ValueError("too small to divide by")
    return temperature


Temperature = Annotated[Number, Field(ge=0, le=2), AfterValidator(_reachable)]
TEMPERATURE: Final = f"a number from 0 (greedy) to 2; above 0 at least {LEAST_TEMPERATURE:g}"


class StreamOptions(Body):
    include_usage: bool = False
    continuous_usage_stats: bool = False


class Generation(StructuredFields):
    """What completions and chat have in common."""

    model: str | None = Field(None, description="a model name that /v1/models lists")
    stream: bool = Field(False, description="true or false")
    stream_options: StreamOptions | None = Field(
        None, description="an object with include_usage and continuous_usage_stats, each true or false"
    )
    n: int = Field(1, ge=1, description="a whole number, 1 or more")
    temperature: Temperature = Field(1.0, description=TEMPERATURE)
    top_p: Number = Field(1.0, ge=0, le=1, description="a number from 0 (the most probable token alone) to 1")
    top_k: int = Field(0, ge=-1, le=2**31 - 1, description="a whole number; 0 or -1 turns it off")
    min_p: Number = Field(0.0, ge=0, le=1, description="a number from 0 to 1")
    presence_penalty: Number = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    frequency_penalty: Number = Field(0.0, ge=-2, le=2, description="a number from -2 to 2")
    repetition_penalty: Number = Field(1.0, gt=0, le=10, description="a number above 0, at most 10")
    logit_bias: Annotated[dict[str, Annotated[Number, Field(ge=-100, le=100)]], BeforeValidator(_few)] = Field(
        default_factory=dict,
        description="an object from token ids (as strings) to numbers from -100 to 100, of at most "
        f"{MAX_BIAS:,} entries",
    )
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1, description="a 64-bit whole number")
    stop: StopString | StopStrings = Field(
        default_factory=list,
        description=f"a non-empty string of at most {MAX_STOP} characters or a list of at most 16 of them",
    )
    stop_token_ids: Annotated[list[TokenId], Field(max_length=128, fail_fast=True)] = Field(
        default_factory=list, description="a list of at most 128 token ids"
    )
    min_tokens: int = Field(0, ge=0, le=2**31 - 1, description="a whole number, 0 or more, at most max_tokens")
    ignore_eos: bool = Field(False, description="true or false")
    include_stop_str_in_output: bool = Field(False, description="true or false")
    allowed_token_ids: AllowedIds | None = Field(None, description="a list of token ids, at least one")
    bad_words: BadWords = Field(
        default_factory=list,
        description=f"a list of at most {MAX_BAD_WORDS} non-empty strings of at most {MAX_STOP} characters",
    )
    add_special_tokens: bool | None = Field(None, description="true or false")
    return_token_ids: bool = Field(False, description="true or false")
    return_tokens_as_token_ids: bool = Field(False, description="true or false")
    skip_special_tokens: bool = Field(True, description="true or false; false: special tokens are shown in the text")
    user: str | None = Field(None, description="a string")
    explain: bool = Field(False, description="true or false; true needs the admin key")

    @property
    def stop_strings(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def usage_chunk(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def usage_in_chunks(self) -> bool:
        return self.usage_chunk and self.stream_options is not None and self.stream_options.continuous_usage_stats


class CompletionRequest(Generation):
    """POST /v1/completions"""

    prompt: str | Texts | Ids | ListsOfIds = Field(
        description="a string, a list of strings, a list of token ids, or a list of lists of token ids"
    )
    max_tokens: int | None = Field(None, ge=0, le=2**31 - 1, description="a whole number, 1 or more (0 with echo)")
    echo: bool = Field(False, description="true or false")
    logprobs: int | None = Field(None, ge=0, description="a whole number, 0 or more")
    best_of: int | None = Field(None, ge=1, description="a whole number equal to n")
    truncate_prompt_tokens: int | None = Field(None, ge=1, le=2**31 - 1, description="a whole number, 1 or more")

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        return _checked(cls, data, {**COMMON, **COMPLETION})


class Message(Body):
    """One turn. Fields beyond these (tool_calls, tool_call_id, name) go to the template as they are."""

    model_config = ConfigDict(extra="allow", strict=True, hide_input_in_errors=True)

    role: str = Field(min_length=1)
    content: str | Objects | None = None


Messages = Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]


class ChatRequest(Generation):
    """POST /v1/chat/completions"""

    messages: Messages
    max_tokens: int | None = Field(None, ge=1, le=2**31 - 1, description="a whole number, 1 or more")
    max_completion_tokens: int | None = Field(None, ge=1, le=2**31 - 1, description="a whole number, 1 or more")
    logprobs: bool = Field(False, description="true or false")
    top_logprobs: int | None = Field(None, ge=0, description="a whole number, 0 or more")
    add_generation_prompt: bool | None = Field(None, description="true or false")
    continue_final_message: bool = Field(False, description="true or false")
    chat_template_kwargs: TemplateArguments | None = Field(None, description=TEMPLATE_ARGUMENTS)
    reasoning_effort: Effort | None = Field(None, description=f"one of {', '.join(EFFORTS)}")
    tools: Objects | None = Field(None, description="a list of objects")
    tool_choice: str | JsonObject | None = Field(
        None, description='"auto", "none", "required" or {"type": "function", "function": {"name": …}}'
    )
    parallel_tool_calls: bool = Field(True, description="true or false")

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        return _checked(cls, data, {**COMMON, **CHAT})


class TokenizeRequest(Body):
    """POST /tokenize: a prompt or a chat."""

    model: str | None = Field(None, description="a model name that /v1/models lists")
    prompt: str | None = Field(None, description="a string")
    messages: Messages | None = None
    add_special_tokens: bool | None = Field(None, description="true or false")
    add_generation_prompt: bool = Field(True, description="true or false")
    continue_final_message: bool = Field(False, description="true or false")
    chat_template_kwargs: TemplateArguments | None = Field(None, description=TEMPLATE_ARGUMENTS)
    tools: Objects | None = Field(None, description="a list of objects")
    return_token_strs: bool = Field(False, description="true or false")


class DetokenizeRequest(Body):
    """POST /detokenize"""

    model: str | None = Field(None, description="a model name that /v1/models lists")
    tokens: Ids = Field(description="a list of token ids")


def _checked(model: type[Generation], data: Any, unsupported: Mapping[str, Any]) -> Any:
    if isinstance(data, dict):
        refuse_unsupported(data, unsupported)
        refuse_misspelled(data, [*model.model_fields, *unsupported])
    return data
