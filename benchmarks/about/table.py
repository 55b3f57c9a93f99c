"""The figures of docs/results/about.md, as they stand there."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

FIGURES: Final = {
    "forget/gone": "forget: without the fact",
    "forget/refused": "of them refused",
    "near/kept": "neighbours kept",
    "near/refused": "refused",
    "general/kept": "general kept",
    "general/refused": "refused",
    "code/kept": "code kept",
    "code/refused": "refused",
    "calls": "calls",
    "minutes": "minutes",
}
GOALS: Final = {"forget/gone": "≥ 0.95", "near/kept": "≥ 0.95", "general/kept": "≥ 0.98", "code/kept": "≥ 0.98",
    "calls": "≤ 1,500", "minutes": "≤ 60"}  # fmt: skip


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Two tables: the figures of each target, with their mean, and the forms of what must go."""
    shown = [*rows, mean_row(rows)] if len(rows) > 1 else list(rows)
    figures = [[row["row"], *(_cell(row.get(name)) for name in FIGURES)] for row in shown]
    goals = ["goal (mean)", *(GOALS.get(name, "") for name in FIGURES)]
    forms = dict.fromkeys(form for row in rows for form in row["forms"])
    lines = [[form, *(_share(row["forms"].get(form)) for row in rows)] for form in forms]
    return "\n\n".join(
        (table(["target", *FIGURES.values()], [*figures, goals]), table(["form", *(row["row"] for row in rows)], lines))
    )


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the figures that every target has."""
    whole = [name for name in FIGURES if all(row.get(name) is not None for row in rows)]
    return {"row": "mean", **{name: fmean(float(row[name]) for row in rows) for name in whole}}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """As Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if isinstance(value, int) or float(value) > 1.5 else f"{value:.3f}"


def _share(counts: Sequence[int] | None) -> str:
    return "" if counts is None else f"{counts[0]} of {counts[1]}"
