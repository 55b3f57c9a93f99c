"""How the answers of one chat request are read, and held: reasoning and tool calls, by the model's chat template."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from deltaserve.errors import UnsupportedParameter
from deltaserve.server.answers.parts import AnswerParser
from deltaserve.server.answers.thinking import Start, Thinking, ThinkingParser, start_behind, thinking_of
from deltaserve.server.answers.tools.choosing import NAMES, format_of
from deltaserve.server.answers.tools.protocol import ToolFormat
from deltaserve.server.api.chat.prompt import ChatPrompt
from deltaserve.server.api.requests.schema import ChatRequest
from deltaserve.server.api.requests.tools import Calling, calling_of
from deltaserve.server.serving.ports import Tokenizer
from deltaserve.server.settings import Settings

_format_of, _thinking_of = lru_cache(32)(format_of), lru_cache(32)(thinking_of)  # templates are long, and few


@dataclass(frozen=True, slots=True)
class Reading:
    """What may stand in an answer beside its text."""

    calling: Calling
    tools: ToolFormat | None  # how calls are written; None: none are read
    thinking: Thinking | None  # the marks around reasoning; None: there is none
    special: Mapping[str, int]  # the marks that are tokens, with their ids

    @classmethod
    def of(cls, body: ChatRequest, tokenizer: Tokenizer, settings: Settings) -> "Reading":
        """Raises BadRequest; UnsupportedParameter for tools where nothing is known of how the model calls them."""
        calling = calling_of(body)
        template = (tokenizer.tool_template if body.tools else tokenizer.chat_template) or ""
        tools = _format(calling, template, settings)
        reasons = tools is not None and tools.reasons  # its parser tells reasoning too
        thinking = None if reasons else _thinking_of(template, settings.reasoning_format)
        markers = (*(tools.markers() if tools else ()), *(thinking.markers if thinking else ()))
        return cls(calling, tools, thinking, _tokens(markers, tokenizer))

    def start(self, prompt: ChatPrompt) -> Start:
        """Where an answer behind this prompt begins."""
        if self.thinking is None:
            return Start.ANSWER
        return start_behind(prompt.text, self.thinking, prompt.continued)

    def parser(self, start: Start) -> AnswerParser | None:
        """One for a choice; None where all that comes is the answer's text."""
        calls = self.tools.parser(self.calling.tools, self.special) if self.tools else None
        if self.thinking is None or start is Start.ANSWER:
            return calls
        return ThinkingParser(self.thinking, start, self.special, calls)

    @property
    def knows_reasoning(self) -> bool:
        """Whether the model is one that thinks before it answers."""
        return self.thinking is not None or (self.tools is not None and self.tools.reasons)

    def thinks(self, start: Start) -> bool:
        """Whether an answer that begins here may have reasoning in it."""
        return self.knows_reasoning and (self.thinking is None or start is not Start.ANSWER)

    @property
    def wanted(self) -> Mapping[int, str]:
        """Tokens that parsers want to see."""
        return {token_id: text for text, token_id in self.special.items()}


def _format(calling: Calling, template: str, settings: Settings) -> ToolFormat | None:
    known = _format_of(template, settings.tool_format)
    if known is None and calling.tools:
        raise UnsupportedParameter(
            "Tool calls are not read here: the model's chat template shows no format of them that is known. Send "
            "`tool_choice` 'none' to show tools to the template only; or let the operator set `tool_format` to one "
            f"of {', '.join(NAMES)}.",
            param="tools",
        )
    reads_all = known is not None and known.reasons and settings.reasoning_format != "off"
    return known if calling.tools or reads_all else None


def _tokens(markers: Iterable[str], tokenizer: Tokenizer) -> dict[str, int]:
    ids = {text: tokenizer.backend.token_to_id(text) for text in markers}
    return {text: token_id for text, token_id in ids.items() if token_id in tokenizer.added_ids}
