"""A result's figures as a table on stdout."""

from collections.abc import Iterator
from typing import Final

from deltaserve.client.console.tables import say_table
from deltaserve.client.evaluation.data.items import FORGET
from deltaserve.client.evaluation.results import EvaluationResult, Figure, SideName, SideResult

SIDES: Final[tuple[SideName, ...]] = ("before", "after")
# In the file. Truth ratios have no upper bound, and their means say little; what is made of them lies between 0 and 1.
NOT_SHOWN: Final = ("rouge_1_recall", "truth_ratio_arithmetic", "truth_ratio_geometric")


def show_result(result: EvaluationResult) -> None:
    """One row per figure, one column per side, each with its 95 % interval."""
    sides = [side for side in SIDES if side in result.figures]
    names = dict.fromkeys(name for side in sides for name in _cells(result.figures[side]))
    cells = {side: _cells(result.figures[side]) for side in sides}
    rows = [(*name, *(cells[side].get(name, "") for side in sides)) for name in names]
    say_table(("split", "figure", *sides), rows)


def _cells(figures: SideResult) -> dict[tuple[str, str], str]:
    return dict(_rows(figures))


def _rows(figures: SideResult) -> Iterator[tuple[tuple[str, str], str]]:
    for split, metrics in figures.splits.items():
        hidden = (*NOT_SHOWN, "truth_preference" if split == FORGET else "truth_balance")
        yield from (((split, name), _interval(figure)) for name, figure in metrics.items() if name not in hidden)
    for attack, figure in figures.membership.items():
        yield ("forget / holdout", f"membership AUC, {attack}"), _interval(figure)
    for attack, leak in figures.privacy_leakage.items():
        yield ("forget / holdout", f"privacy leakage, {attack}"), f"{leak:+.1f} %"
    if figures.model_utility is not None:
        yield ("all kept", "model utility"), _interval(figures.model_utility)
    if figures.forget_quality is not None:
        quality = figures.forget_quality
        yield ("forget", "forget quality"), f"p = {quality.p_value:.3g} (distance {quality.statistic:.3f})"


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"
