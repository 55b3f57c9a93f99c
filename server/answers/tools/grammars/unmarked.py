"""Calls that need no mark: an answer that begins as one is one, and any other is text."""

from collections.abc import Mapping, Sequence

from deltaserve.server.answers.tools.grammars.lark import mark
from deltaserve.server.answers.tools.protocol import ToolChoice


def unmarked(
    calls: str, rules: Sequence[str], begun: str, tag: str, choice: ToolChoice, special: Mapping[str, int]
) -> str:
    """`calls` defines the rule `calls`; `begun`: how they begin, as a regex; `tag`: may stand before them."""
    tagged = f"{mark(tag, special)}" if tag in special else ""
    lines = ["%llguidance {}", calls, *rules]
    if choice != "auto":
        return "\n".join([f"start: {tagged + '? ' if tagged else ''}calls", *lines[1:]])
    start = f"start: text | calls{f' | TEXT {tagged} calls' if tagged else ''}"
    text = ["text: TEXT", rf"TEXT: /(.|\n)*/ & ~/\s*{begun}(.|\n)*/"]
    return "\n".join([lines[0], start, *text, *lines[1:]])
