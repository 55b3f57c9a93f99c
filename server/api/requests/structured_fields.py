"""Fields that ask for a structured answer: OpenAI's `response_format`, vLLM's `structured_outputs` and `guided_*`."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from deltaserve.server.api.requests.body import Body, JsonObject

SchemaName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
AnySchema = JsonObject | str | bool  # a string is a schema's JSON
Texts = Annotated[list[str], Field(min_length=1, fail_fast=True)]


class _Exact(Body):
    """A misspelled field would be a constraint that does not hold: it is refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, populate_by_name=True)


class NamedSchema(_Exact):
    """`response_format.json_schema`. Strict or not, the answer is held to the schema."""

    name: SchemaName
    description: str | None = None
    schema_: JsonObject = Field(alias="schema")
    strict: bool = False


class Structure(_Exact):
    """A tag of `structural_tag`."""

    begin: str = Field(min_length=1)
    schema_: JsonObject | bool = Field(True, alias="schema")
    end: str


class ResponseFormat(_Exact):
    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: NamedSchema | None = None
    structures: Annotated[list[Structure], Field(min_length=1, fail_fast=True)] | None = None
    triggers: Texts | None = None
    format: Any = None


class StructuredOutputs(_Exact):
    """vLLM's, with its options for JSON. `disable_fallback` asks for nothing: there is one grammar engine."""

    json_: AnySchema | None = Field(None, alias="json")
    regex: str | None = None
    choice: Texts | None = None
    grammar: str | None = None
    json_object: bool = False
    structural_tag: str | None = None
    disable_any_whitespace: bool = False
    disable_additional_properties: bool = False
    whitespace_pattern: str | None = None
    disable_fallback: bool = False


class StructuredFields(Body):
    """Of completions and chat. Of all these fields one may ask for something."""

    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: AnySchema | None = Field(None, description="a JSON schema: an object, or a string that holds one")
    guided_regex: str | None = Field(None, description="a string")
    guided_choice: Texts | None = Field(None, description="a list of one string or more")
    guided_grammar: str | None = Field(None, description="a string: a grammar in Lark or GBNF")
    guided_whitespace_pattern: str | None = Field(None, description="a string")
    guided_decoding_backend: str | None = Field(None, description="a string; there is one grammar engine")
    structural_tag: str | None = Field(None, description="a string: the JSON of a structural tag")
