"""From a request's fields to what its answers are held to."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from pydantic import ValidationError

from deltaserve.errors import BadRequest, UnsupportedParameter
from deltaserve.server.api.requests.body import JsonObject
from deltaserve.server.api.requests.json_text import parse
from deltaserve.server.api.requests.structured_fields import ResponseFormat, StructuredFields, StructuredOutputs
from deltaserve.server.decoding.constraints.constraint import Constraint
from deltaserve.server.grammars.json_schema import JsonGrammar, Spacing, any_object, json_grammar
from deltaserve.server.grammars.texts import choice_grammar, regex_grammar, tag_grammar, text_grammar
from deltaserve.server.serving.ports import Tokenizer
from deltaserve.server.serving.service import Choice

_MAX_VALUES: Final = 100_000  # of a schema that is sent as a string
_ONE: Final = "`structured_outputs` must ask for one of json, regex, choice, grammar, json_object and structural_tag"

Make = Callable[[], JsonGrammar | str]
InThread = Callable[[Make], Awaitable[JsonGrammar | str]]


@dataclass(frozen=True, slots=True)
class Asked:
    """One form of answer that a request asks for."""

    path: str  # of the field, as errors call it
    make: Make

    @property
    def param(self) -> str:
        return self.path.partition(".")[0]

    def about(self, error: BadRequest) -> BadRequest:
        """The error as one about this field."""
        return BadRequest(f"`{self.path}`: {error.message.rstrip('.')}.", param=self.param)


async def constraint_of(request: StructuredFields, tokenizer: Tokenizer, in_thread: InThread) -> Constraint | None:
    """What the answers are held to, its grammar compiled; None: they are free. Raises BadRequest."""
    asked = asked_of(request, tokenizer)
    if asked is None:
        return None
    try:
        grammar = await in_thread(asked.make)
        text = grammar if isinstance(grammar, str) else grammar.text
    except BadRequest as error:
        raise asked.about(error) from None
    try:
        await tokenizer.grammars.check(text)
    except BadRequest as error:
        if isinstance(grammar, JsonGrammar):
            fault = error.message
            error = BadRequest(await tokenizer.grammars.in_thread(lambda: grammar.explained(fault)))
        raise asked.about(error) from None
    return Constraint(text)


def held(choices: Sequence[Choice], constraint: Constraint | None) -> list[Choice]:
    """The choices with their answers held to `constraint`. Raises BadRequest for what cannot hold beside it."""
    if constraint is None:
        return list(choices)
    for choice in choices:
        _refuse_contradictions(choice)
    return [replace(choice, params=replace(choice.params, constraint=constraint)) for choice in choices]


def _refuse_contradictions(choice: Choice) -> None:
    if choice.params.min_tokens:
        raise BadRequest("A structured answer ends where its grammar ends: leave `min_tokens` out.", param="min_tokens")
    if choice.params.ignore_eos:
        raise BadRequest("A structured answer ends where its grammar ends: leave `ignore_eos` out.", param="ignore_eos")
    if choice.scored or not choice.params.max_tokens:
        raise UnsupportedParameter(
            "A prompt that is scored or echoed alone has no structured answer: send two requests.", param="echo"
        )


def asked_of(request: StructuredFields, tokenizer: Tokenizer) -> Asked | None:
    """The one form of answer that the request asks for. Raises BadRequest for two."""
    asked = [
        *_of_response_format(request.response_format, tokenizer),
        *_of_structured_outputs(request.structured_outputs, tokenizer),
        *_of_guided(request, tokenizer),
    ]
    if len(asked) > 1:
        raise BadRequest(
            f"`{asked[0].path}` and `{asked[1].path}` ask for two forms of one answer: send one of them.",
            param=asked[1].param,
        )
    return asked[0] if asked else None


def _of_response_format(form: ResponseFormat | None, tokenizer: Tokenizer) -> list[Asked]:
    if form is None or form.type == "text":
        return []
    if form.type == "json_object":
        return [Asked("response_format", any_object)]
    if form.type == "structural_tag":
        return [Asked("response_format", partial(_tags, form, tokenizer, Spacing()))]
    if form.json_schema is None:
        raise BadRequest("`response_format.json_schema` is required with this type.", param="response_format")
    return [Asked("response_format.json_schema.schema", partial(json_grammar, form.json_schema.schema_))]


def _of_structured_outputs(form: StructuredOutputs | None, tokenizer: Tokenizer) -> list[Asked]:
    if form is None:
        return []
    if form.disable_any_whitespace and form.whitespace_pattern is not None:
        raise BadRequest(
            "`structured_outputs`: `disable_any_whitespace` and `whitespace_pattern` contradict each other.",
            param="structured_outputs",
        )
    spacing = _spacing(form.whitespace_pattern, form.disable_any_whitespace, form.disable_additional_properties)
    asked = _forms("structured_outputs.", form.json_, form.regex, form.choice, form.grammar, spacing)
    if form.json_object:
        asked.append(Asked("structured_outputs.json_object", partial(any_object, spacing)))
    if form.structural_tag is not None:
        make = partial(_tags_in, form.structural_tag, tokenizer, spacing)
        asked.append(Asked("structured_outputs.structural_tag", make))
    if not asked and form.model_fields_set:
        raise BadRequest(f"{_ONE}.", param="structured_outputs")
    return asked


def _of_guided(request: StructuredFields, tokenizer: Tokenizer) -> list[Asked]:
    spacing = _spacing(request.guided_whitespace_pattern)
    asked = _forms(
        "guided_",
        request.guided_json,
        request.guided_regex,
        request.guided_choice,
        request.guided_grammar,
        spacing,
    )
    if request.structural_tag is not None:
        asked.append(Asked("structural_tag", partial(_tags_in, request.structural_tag, tokenizer, spacing)))
    return asked


def _forms(
    prefix: str,
    schema: JsonObject | str | bool | None,
    regex: str | None,
    choice: Sequence[str] | None,
    grammar: str | None,
    spacing: Spacing,
) -> list[Asked]:
    """What vLLM names alike in its newer and its older fields."""
    forms: list[tuple[str, object, Make]] = [
        ("json", schema, lambda: json_grammar(_parsed(schema), spacing)),
        ("regex", regex, lambda: regex_grammar(regex or "")),
        ("choice", choice, lambda: choice_grammar(choice or ())),
        ("grammar", grammar, lambda: text_grammar(grammar or "")),
    ]
    return [Asked(prefix + name, make) for name, value, make in forms if value is not None]


def _spacing(pattern: str | None, none: bool = False, closed: bool = False) -> Spacing:
    if none:
        return Spacing(None, closed)
    return Spacing(closed=closed) if pattern is None else Spacing(pattern, closed)


def _parsed(schema: Any) -> Any:
    return parse(schema.encode(), _MAX_VALUES) if isinstance(schema, str) else schema


def _tags_in(text: str, tokenizer: Tokenizer, spacing: Spacing) -> str:
    value = _parsed(text)
    try:
        form = ResponseFormat.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRequest(f"{'.'.join(map(str, first['loc'])) or 'it'} is not accepted: {first['msg']}") from None
    return _tags(form, tokenizer, spacing)


def _tags(form: ResponseFormat, tokenizer: Tokenizer, spacing: Spacing) -> str:
    if form.format is not None:
        raise BadRequest("tags are taken as `structures` and `triggers`; `format` is not built")
    if form.type != "structural_tag" or form.structures is None or form.triggers is None:
        raise BadRequest("a structural tag has the type structural_tag, `structures` and `triggers`")
    structures: list[Mapping[str, Any]] = [structure.model_dump(by_alias=True) for structure in form.structures]
    special = {tokenizer.token_bytes(i).decode(): i for i in tokenizer.special_ids}
    return tag_grammar(structures, form.triggers, special, spacing)
