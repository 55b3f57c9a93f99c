"""What a family's way of writing tool calls has to offer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from deltaserve.server.answers.parts import AnswerParser


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is a JSON Schema; None or empty: it takes none."""

    name: str
    parameters: Mapping[str, Any] | None = None
    strict: bool = False  # a keyword of the schema that grammars do not know is an error, and not left out


@dataclass(frozen=True, slots=True)
class NamedTool:
    """`tool_choice` that names the one tool to call."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


class ToolFormat(Protocol):
    """One family's format. It holds no state and serves all requests.

    `special` maps those of `markers()` that the tokenizer has as added tokens to their ids. Of these the token alone
    is a mark, and the same letters are text; any other marker is recognised by its letters.
    """

    @property
    def name(self) -> str:
        """What the setting `tool_format` calls it."""

    @property
    def reasons(self) -> bool:
        """Whether its parser tells reasoning too: then it reads every answer, with tools or without."""

    def matches(self, template: str) -> bool:
        """Whether this chat template asks the model to write calls in this format."""

    def markers(self) -> tuple[str, ...]:
        """Texts of tokens that the parser wants to see as `Special`, where the tokenizer has them."""

    def parser(self, tools: Sequence[Tool], special: Mapping[str, int], /) -> AnswerParser:
        """A parser for one choice."""

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, special: Mapping[str, int], /
    ) -> str | None:
        """llguidance's grammar; None where nothing is constrained: `none`, or no tools.

        Raises `BadRequest` where the choice names no tool of the request.
        """
