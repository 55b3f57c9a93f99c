"""A chat as its model's prompt text: transformers' sandboxed Jinja environment, with errors a caller may see."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import orjson
from jinja2 import TemplateError, TemplateSyntaxError

from deltaserve.errors import BadCheckpoint, BadRequest
from deltaserve.offset_models.files.library_errors import cause_of
from deltaserve.offset_models.files.safe_files import read_bounded, read_json
from deltaserve.offset_models.tokenizer.message_forms import Form, Message, Probe, in_form, shape_of

DEFAULT: Final = "default"
TOOL_USE: Final = "tool_use"
KNOWN_SHAPES: Final = 1024  # of conversations whose forms are remembered
LONG_CHAT: Final = 64  # messages; longer ones are not
# Names the template call itself binds; `chat_template` among a caller's arguments would run a template of theirs.
RESERVED: Final = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversations",
        "messages",
        "return_assistant_tokens_mask",
        "tools",
    }
)


def read_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates of a model folder by name; empty when it has none. A .jinja file wins over the JSON ones.

    `config`: its tokenizer_config.json. Raises BadCheckpoint.
    """
    named = {file.stem: _source(file) for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    if (folder / "chat_template.jinja").is_file():
        return {DEFAULT: _source(folder / "chat_template.jinja"), **named}
    declared = config.get("chat_template")
    if declared is None and (folder / "chat_template.json").is_file():
        content = read_json(folder / "chat_template.json")
        declared = content.get("chat_template") if isinstance(content, dict) else content
    return {**_declared(declared), **named}


def declaration(templates: Mapping[str, str]) -> str | list[dict[str, str]] | None:
    """Templates as one JSON value that tokenizer_config.json may hold and `read_templates` reads."""
    if templates.keys() <= {DEFAULT}:
        return templates.get(DEFAULT)
    return [{"name": name, "template": template} for name, template in sorted(templates.items())]


def _declared(value: Any) -> dict[str, str]:
    """From JSON: one template, a list of {name, template}, or an object of them by name."""
    if isinstance(value, str):
        return {DEFAULT: value}
    try:
        named = value.items() if isinstance(value, dict) else [(one["name"], one["template"]) for one in value or ()]
        templates = dict(named)
    except (TypeError, KeyError):
        templates = {"": None}
    if not all(isinstance(text, str) for text in (*templates, *templates.values())):
        raise BadCheckpoint("chat_template is neither a template nor a list of {name, template}.")
    return templates


def _source(file: Path) -> str:
    try:
        return read_bounded(file).decode()
    except UnicodeDecodeError as error:
        raise BadCheckpoint(f"{file.name} is not UTF-8.") from error


class ChatTemplate:
    """The chat templates of one tokenizer. Its errors never quote a message, only words of the template itself.

    Raises BadCheckpoint for a template that is no Jinja.
    """

    def __init__(self, templates: Mapping[str, str], special_tokens: Mapping[str, str]) -> None:
        for name, template in templates.items():
            _refuse_malformed(name, template)
        self._templates = dict(templates)
        self._special_tokens = dict(special_tokens)
        self._known: dict[bytes, Sequence[Form]] = {}  # by the shape of a conversation

    @property
    def source(self) -> str | None:
        """The default template; None when there is none."""
        return self._templates.get(DEFAULT)

    @property
    def source_with_tools(self) -> str | None:
        """The template of conversations with tools."""
        return self._templates.get(TOOL_USE, self.source)

    @cached_property
    def variables(self) -> frozenset[str]:
        """What any of the templates reads that is not its own."""
        return frozenset().union(*map(_variables, self._templates.values()))

    @property
    def identity(self) -> str | list[dict[str, str]] | None:
        """What a fingerprint is taken of: all templates."""
        return declaration(self._templates)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt's text, special tokens included: encode it with add_special False.

        A content is a string or a list of text parts; the template gets what it can read, preferably what was sent.
        Raises BadRequest, also where a message would be missing from the text.
        """
        arguments = dict(chat_template_kwargs or {})
        _refuse_reserved(arguments)
        if continue_final_message and add_generation_prompt:
            raise BadRequest(
                "continue_final_message and add_generation_prompt cannot both be true.", param="continue_final_message"
            )
        template = self._template(with_tools=bool(tools))
        flags = {"continue_final_message": continue_final_message, "add_generation_prompt": add_generation_prompt}

        def rendered(chat: list[Message], known: list[Message]) -> str:
            return self._rendered(template, chat, known, flags, arguments)

        probe = Probe(rendered, tools or ())
        sent = [dict(message) for message in messages]
        forms = self._forms(probe, sent, [template, flags, arguments])
        chat = [in_form(message, form) for message, form in zip(sent, forms, strict=True)]
        text = rendered(chat, [dict(tool) for tool in probe.tools])
        probe.check(chat, text)
        return text

    def _forms(self, probe: Probe, messages: Sequence[Message], about: Sequence[Any]) -> Sequence[Form]:
        """Asked once for conversations of one shape."""
        key = _key(messages, probe.tools, about)
        known = self._known.get(key) if key is not None else None
        if known is None:
            known = probe.forms(messages)
            if key is not None:
                if len(self._known) >= KNOWN_SHAPES:
                    self._known.clear()
                self._known[key] = known
        return known

    def _rendered(
        self,
        template: str,
        messages: list[Message],
        tools: list[Message],
        flags: Mapping[str, bool],
        arguments: Mapping[str, Any],
    ) -> str:
        """By transformers. Raises BadRequest."""
        try:
            rendered, _ = _render(
                conversations=[messages],
                tools=[*tools] or None,
                chat_template=template,
                add_generation_prompt=flags["add_generation_prompt"],
                continue_final_message=flags["continue_final_message"],
                **{**self._special_tokens, **arguments},
            )
        except TemplateError as error:
            raise BadRequest(_refusal(template, error), param="messages") from None
        except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, LookupError, RecursionError):
            raise BadRequest(_failure(flags["continue_final_message"]), param="messages") from None
        return str(rendered[0])

    def _template(self, *, with_tools: bool) -> str:
        if with_tools and TOOL_USE in self._templates:
            return self._templates[TOOL_USE]
        if self.source is None:
            raise BadRequest("The model has no chat template; use /v1/completions.", param="messages")
        return self.source


def _render(**chat: Any) -> Any:
    """(texts, spans), by transformers: imported here, for it takes a second, and a manifest is read without."""
    from transformers.utils.chat_template_utils import render_jinja_template

    return render_jinja_template(**chat)


def _variables(template: str) -> set[str]:
    from jinja2.meta import find_undeclared_variables
    from transformers.utils.chat_template_utils import _compile_jinja_template

    return find_undeclared_variables(_compile_jinja_template(template).environment.parse(template))


def _key(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], about: Sequence[Any]) -> bytes | None:
    """Of a conversation's shape; None where it is too long to be met again, or no JSON."""
    if len(messages) > LONG_CHAT:
        return None
    try:
        return hashlib.sha256(orjson.dumps([shape_of(messages, tools), *about])).digest()
    except TypeError:
        return None


def _refuse_malformed(name: str, template: str) -> None:
    """Now, and not with the first chat."""
    try:
        _render(conversations=[], chat_template=template)
    except TemplateError as error:
        line = f", line {error.lineno}" if isinstance(error, TemplateSyntaxError) else ""
        raise BadCheckpoint(f"The chat template ({name}{line}) is not valid Jinja: {cause_of(error)}.") from error


def _refuse_reserved(arguments: Mapping[str, Any]) -> None:
    for name in sorted(RESERVED & arguments.keys()):
        raise BadRequest(f"chat_template_kwargs may not set {name}.", param="chat_template_kwargs")


def _refusal(template: str, error: TemplateError) -> str:
    # raise_exception may build its sentence from a message; only words that stand in the template itself are passed on.
    words = (error.message or "").strip()
    if words and words in template:
        return f"The chat template refused the messages: {words}"
    return "The chat template refused the messages."


def _failure(continuing: bool) -> str:
    # transformers' own error texts quote the whole chat.
    if continuing:
        return "The chat template cannot continue the final message: it needs text that the template keeps as it is."
    return "The chat template cannot render these messages; check their roles and fields."
