"""Finds by rendering marks whether a chat template shows every message, and in which form it wants contents.

A template that reads contents as lists of parts makes nothing of a string, a template without a branch for a role makes
nothing of its messages, and neither says so. So words that no template holds are rendered in the place of the
contents, and must come out again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Literal

from deltaserve.errors import BadRequest

Message = dict[str, Any]
Form = Literal["sent", "text", "parts", "part"]
FORMS: Final[tuple[Form, ...]] = ("sent", "text", "parts", "part")
_MARK: Final = "qzwmark{}x{}kramwzq"  # begun and ended by a letter: templates trim; no mark begins another
_NEAR: Final = 200_000  # characters behind the message before, in which a text is looked for as it is
_DUMPED: Final = "qzwdumpedwzq"  # in a part's first, unknown field: seen where a template writes out the list itself


@dataclass(frozen=True, slots=True)
class Probe:
    """Renders messages; the tools that go with them are marked too."""

    render: Callable[[list[Message], list[Message]], str]  # messages, tools. Raises BadRequest
    tools: Sequence[Mapping[str, Any]] = ()

    def forms(self, messages: Sequence[Message]) -> list[Form]:
        """The form of each message's content in which the template shows it.

        Raises BadRequest that names a message, or the tools, of which nothing would be seen, and what `render` raises.
        """
        kinds, failures, best = _distinct(messages), dict[Form, BadRequest](), None
        for form in kinds:
            forms = [form] * len(messages)
            try:
                lost = self._lost(messages, forms)
            except BadRequest as error:
                failures[form] = error
                continue
            if not lost:
                return forms
            best = best or (forms, lost)
        if best is None:
            raise failures["text"]
        return self._mended(messages, *best, kinds)

    def check(self, messages: Sequence[Message], rendered: str) -> None:
        """The same of these very contents, for a template may look at them. Raises BadRequest.

        A text that does not stand there as it is was escaped, or cut: earlier reasoning, by design. Then what is
        written at its end must be seen.
        """
        texts = [[text.strip() for text in _texts(message.get("content"))] for message in messages]
        changed = {*_absent(texts, rendered, near=_NEAR)}
        if not changed:
            return
        marked = [_marked(message, at, keep=True) if at in changed else message for at, message in enumerate(messages)]
        marks = [_marks(message, at) if at in changed else [] for at, message in enumerate(messages)]
        try:
            text = self.render(marked, [dict(tool) for tool in self.tools]).casefold()
            lost = {*islice(_absent(marks, text), 1)}
        except BadRequest:
            lost = changed
        _refuse(messages, lost)

    def _mended(
        self, messages: Sequence[Message], forms: list[Form], lost: set[int], kinds: Sequence[Form]
    ) -> list[Form]:
        """What is not seen in one form, in another. Raises BadRequest."""
        for form in kinds:
            tried = [form if at in lost else own for at, own in enumerate(forms)]
            with suppress(BadRequest):
                still = self._lost(messages, tried)
                if still < lost:
                    forms, lost = tried, still
        _refuse(messages, lost)
        return forms

    def _lost(self, messages: Sequence[Message], forms: Sequence[Form]) -> set[int]:
        """Messages of which something is not seen. Raises BadRequest for tools that are not."""
        formed = [in_form(message, form) for message, form in zip(messages, forms, strict=True)]
        tools = [_called(tool, _mark("tool", at)) for at, tool in enumerate(self.tools)]
        rendered = self.render([_marked(message, at) for at, message in enumerate(formed)], tools).casefold()
        if any(_name(tool) and _mark("tool", at) not in rendered for at, tool in enumerate(self.tools)):
            raise BadRequest("The model's chat template has no place for `tools`: leave them out.", param="tools")
        if _DUMPED in rendered:
            return {at for at, message in enumerate(formed) if isinstance(message.get("content"), list)}
        return _unseen(rendered, formed)


def in_form(message: Message, form: Form) -> Message:
    """The message with its content in another form; its text stays the same."""
    content = message.get("content")
    if not isinstance(content, str | list) or form == "sent" or (form == "parts" and isinstance(content, list)):
        return message
    text = "".join(_texts(content))
    return {**message, "content": text if form == "text" else [{"type": "text", "text": text}]}


def shape_of(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What templates branch on, contents aside: messages of one shape have the same forms. Plain JSON types."""
    return [[_message_shape(message) for message in messages], [_name(tool) is not None for tool in tools]]


def _message_shape(message: Message) -> list[Any]:
    content = message.get("content")
    filled = [bool(text.strip()) for text in _texts(content)]
    calls = [_name(call) is not None for call in _calls(message)]
    return [message.get("role"), type(content).__name__, filled, sorted(message), calls]


def _distinct(messages: Sequence[Message]) -> tuple[Form, ...]:
    """Without lists among what was sent there are only two forms."""
    return FORMS if any(isinstance(message.get("content"), list) for message in messages) else ("text", "parts")


def _mark(at: int | str, part: int) -> str:
    return _MARK.format(at, part)


def _marked(message: Message, at: int, *, keep: bool = False) -> Message:
    """Every text of the message, and the name of every function it calls, replaced by a mark or followed by one."""
    content, marked = message.get("content"), dict(message)
    marks = [
        (text if keep else "") + _mark(at, part) if text.strip() else text for part, text in enumerate(_texts(content))
    ]
    if isinstance(content, str):
        marked["content"] = marks[0]
    elif isinstance(content, list):
        marked["content"] = [
            {"marked": _DUMPED, **part, "text": mark} for part, mark in zip(content, marks, strict=True)
        ]
    if calls := _calls(message):
        marked["tool_calls"] = [_called(call, _mark(f"{at}call", number)) for number, call in enumerate(calls)]
    return marked


def _unseen(rendered: str, messages: Sequence[Message]) -> set[int]:
    """Messages of whose marks one is missing; blank texts have none."""
    return {*_absent([_marks(message, at) for at, message in enumerate(messages)], rendered)}


def _absent(texts: Sequence[Sequence[str]], rendered: str, near: int | None = None) -> Iterator[int]:
    """Which of the lists have a text that is not in `rendered`, or not within `near` characters behind the one before.

    Each is looked for behind the one before first, where it usually stands: time goes with the length of a long chat,
    not with its square.
    """
    behind = 0
    for at, several in enumerate(texts):
        for text in several:
            place = rendered.find(text, behind, None if near is None else behind + len(text) + near)
            if place < 0 and (near is not None or text not in rendered):
                yield at
                break
            behind = max(behind, place)


def _marks(message: Message, at: int) -> list[str]:
    words = [_mark(at, part) for part, text in enumerate(_texts(message.get("content"))) if text.strip()]
    return words + [_mark(f"{at}call", number) for number, call in enumerate(_calls(message)) if _name(call)]


def _texts(content: Any) -> list[str]:
    """The texts of a content in either form; none where it is neither."""
    if isinstance(content, str):
        return [content]
    return [str(part.get("text") or "") for part in content] if isinstance(content, list) else []


def _calls(message: Message) -> list[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _name(call: Any) -> str | None:
    """The function's name, as OpenAI writes calls and tools, or without the object around it."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) and name else None


def _called(call: Any, name: str) -> Any:
    if _name(call) is None:
        return call
    return {**call, "function": {**call["function"], "name": name}} if "function" in call else {**call, "name": name}


def _refuse(messages: Sequence[Message], lost: set[int]) -> None:
    for at in sorted(lost):
        role = str(messages[at].get("role"))[:40]
        raise BadRequest(
            f"`messages[{at}]`: the model's chat template leaves out what a message of the role {role!r} says here, "
            "in part or as a whole. Say it in another role or at another place.",
            param="messages",
        )
