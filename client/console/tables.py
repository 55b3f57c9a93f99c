"""Tables on stdout: rich at a terminal, plain lines anywhere else."""

import sys
from collections.abc import Sequence

from deltaserve.client.console.terminal import say

Pair = tuple[str, str, str, str]  # heading, question, the black box's answer, the served one


def say_pairs(pairs: Sequence[Pair]) -> None:
    """Answers before and after, side by side."""
    if sys.stdout.isatty():
        columns = ("", "question", "black box", "served")
        say_rich(columns, pairs)
        return
    for heading, question, before, after in pairs:
        say(f"{heading + ': ' if heading else ''}{question}")
        say(f"  black box: {_indented(before)}\n  served:    {_indented(after)}")


def say_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Figures and short words."""
    if sys.stdout.isatty():
        say_rich(columns, rows)
        return
    widths = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def say_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """At a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, show_lines=True)
    for row in rows:
        table.add_row(*map(Text, row))  # Text: an answer's brackets are no markup
    Console().print(table)


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 13)
