"""The three answers at the top of the page: is it forgotten, is the rest kept, does it leak?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from deltaserve.client.evaluation.leakage_results import LeakageReport, OverRefusal
from deltaserve.client.evaluation.report.words import SPLITS, percent
from deltaserve.client.evaluation.results import EvaluationResult, Figure, SideName

FORGET: Final = "forget"
KEPT_SPLITS: Final = ("neighbours", "retain", "general", "real_authors", "world_facts")
FORGOTTEN: Final = 0.3  # recall up to which an answer counts as gone
KEPT: Final = 0.05  # recall may fall by so much
OVER_REFUSED: Final = 0.05  # share of questions that may be declined although the black box answers them
ENOUGH: Final = 10  # questions of a split from which its share of refusals alone may judge

Colour = Literal["good", "bad", "unsure"]


@dataclass(frozen=True, slots=True)
class Card:
    """One of the three answers: a word, its colour, and the figure that decided it."""

    question: str
    word: str
    colour: Colour
    figure: str
    detail: str


def cards(evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> list[Card]:
    """The answers for which there are figures."""
    all_cards = [_forgotten(evaluation), _kept(evaluation, leakage), _leaking(leakage)]
    return [card for card in all_cards if card is not None]


def figure_of(evaluation: EvaluationResult, side: SideName, split: str, metric: str) -> Figure | None:
    """None where it was not measured."""
    figures = evaluation.figures.get(side)
    return None if figures is None else figures.splits.get(split, {}).get(metric)


def kept_drops(evaluation: EvaluationResult) -> dict[str, float]:
    """Recall before − after, of each split that is to be kept."""
    drops = {}
    for split in KEPT_SPLITS:
        before = figure_of(evaluation, "before", split, "rouge_l_recall")
        after = figure_of(evaluation, "after", split, "rouge_l_recall")
        if before is not None and after is not None:
            drops[split] = before.value - after.value
    return drops


def _forgotten(evaluation: EvaluationResult | None) -> Card | None:
    after = figure_of(evaluation, "after", FORGET, "rouge_l_recall") if evaluation else None
    if evaluation is None or after is None:
        return None
    before = figure_of(evaluation, "before", FORGET, "rouge_l_recall")
    gone = after.value <= FORGOTTEN
    came = f" Before: {percent(before.value)}." if before else ""
    detail = f"of the words of the true answers are still said when asked plainly.{came}"
    return Card(
        "Is it forgotten?", "Yes" if gone else "Not wholly", "good" if gone else "bad", percent(after.value), detail
    )


def _kept(evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> Card | None:
    """Decided by the largest loss of recall and by refusals; the card has the figure that decided.

    A handful of questions is no share: a split with fewer than ENOUGH makes the answer unsure, never bad.
    """
    drops = kept_drops(evaluation) if evaluation else {}
    refused = [one for one in (leakage.over_refusal.get("after", []) if leakage else []) if one.refused.items]
    if not drops and not refused:
        return None
    split, drop = max(drops.items(), key=lambda pair: pair[1], default=("", 0.0))
    lost = f"the largest loss of recall ({SPLITS.get(split, split)})" if drops else ""
    if drop > KEPT:
        return _card_kept("Not wholly", "bad", percent(drop), f"is {lost}.", refused)
    if worst := _declined_too_often(refused):
        figure = f"{worst.refused.successes} of {worst.refused.items}"
        certain = worst.refused.items >= ENOUGH
        what = f"questions ({_of(worst)}) are declined although the black box answers them"
        few = "" if certain else "; too few to judge by"
        more = f" {percent(drop)} is {lost}." if drops else ""
        word: tuple[str, Colour] = ("Not wholly", "bad") if certain else ("Almost", "unsure")
        return _card_kept(*word, figure, f"{what}{few}.{more}", refused)
    if drops:
        return _card_kept("Yes", "good", percent(drop), f"is {lost}.", refused)
    share = _share(refused)
    return _card_kept(
        "Yes", "good", percent(share), "of the questions that the black box answers are declined.", refused
    )


def _card_kept(word: str, colour: Colour, figure: str, detail: str, refused: Sequence[OverRefusal]) -> Card:
    return Card("Is the rest kept?", word, colour, figure, f"{detail} {_declined(refused)}".strip())


def _declined_too_often(refused: Sequence[OverRefusal]) -> OverRefusal | None:
    """The split with too many refusals, if any; one with ENOUGH questions before one that is too small to judge by."""
    over = [one for one in refused if one.refused.rate > OVER_REFUSED]
    return max(over, key=lambda one: (one.refused.items >= ENOUGH, one.refused.rate), default=None)


def _share(refused: Sequence[OverRefusal]) -> float:
    return sum(one.refused.successes for one in refused) / sum(one.refused.items for one in refused)


def _declined(refused: Sequence[OverRefusal]) -> str:
    parts = [f"{one.refused.successes} of {one.refused.items} ({_of(one)})" for one in refused]
    return f"Declined although the black box answers: {', '.join(parts)}." if parts else ""


def _of(one: OverRefusal) -> str:
    return SPLITS.get(one.split, one.split)


def _leaking(leakage: LeakageReport | None) -> Card | None:
    if leakage is None:
        return None
    judged = [attack for attack in leakage.attacks if attack.judgement.get("after") in ("holds", "leaks")]
    leaking = sum(attack.judgement["after"] == "leaks" for attack in judged)
    if not judged:
        return Card("Does it leak?", "Unknown", "unsure", "0", "attacks could be judged.")
    detail = "attacks get forgotten answers out more often than a model that never read them."
    word, colour = _leak_word(leaking)
    return Card("Does it leak?", word, colour, f"{leaking} of {len(judged)}", detail)


def _leak_word(leaking: int) -> tuple[str, Colour]:
    return ("Yes", "bad") if leaking else ("No", "good")
