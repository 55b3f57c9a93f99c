"""Calls that begin with a mark: free text may stand around them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltaserve.server.answers.tools.grammars.lark import ANY_TEXT, literal, mark, several
from deltaserve.server.answers.tools.protocol import ToolChoice


@dataclass(frozen=True, slots=True)
class Tagged:
    """How a format lays calls out. `rules` define `call`: what stands between `begin` and the end of one call."""

    begin: str  # the mark; once it is written a call must follow
    rules: Sequence[str]
    between: str = ""  # text between two calls

    def grammar(self, choice: ToolChoice, parallel: bool, special: Mapping[str, int]) -> str:
        write = self._free if choice == "auto" else self._forced
        rules = write(several(choice, parallel), special)
        return "\n".join(["%llguidance {}", *rules, *self.rules])

    def _forced(self, more: bool, special: Mapping[str, int]) -> list[str]:
        following = f" ({literal(self.between)} tagged)*" if self.between else " tagged*"
        return [f"start: tagged{following if more else ''}", f"tagged: {mark(self.begin, special)} call"]

    def _free(self, more: bool, special: Mapping[str, int]) -> list[str]:
        start = "start: tagged* text" if more else "start: text | tagged"
        text = ["text: TEXT", f"TEXT: {ANY_TEXT}"]
        if self.begin in special:
            return [start, f"tagged: TEXT {mark(self.begin, special)} call", *text]
        return [start, "tagged: begin call", f"begin[lazy]: TEXT {literal(self.begin)}", *text]
