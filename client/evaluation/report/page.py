"""The page: all figures and texts are worked out here, the template only lays them out."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deltaserve.client.evaluation.aggregate import geometric_ratio
from deltaserve.client.evaluation.attacks.verdict import REFERENCE, SERVED
from deltaserve.client.evaluation.leakage_results import AttackResult, LeakageReport, OverRefusal
from deltaserve.client.evaluation.metrics.statistics import estimate_mean, kolmogorov_smirnov
from deltaserve.client.evaluation.report import figures
from deltaserve.client.evaluation.report.answers import FORGET, KEPT_SPLITS, cards, figure_of
from deltaserve.client.evaluation.report.changes import marked
from deltaserve.client.evaluation.report.words import ATTACK_FAMILIES, SPLITS, decimal, percent, probability
from deltaserve.client.evaluation.results import EvaluationResult, Figure, SideName

METRICS: Final = (
    ("rouge_l_recall", "of the true answer's words that are said (ROUGE-L recall)"),
    ("probability", "probability of the true answer, per token"),
)
TRUTH_PREFERRED: Final = "of the questions, the true answer is likelier than wrong ones (truth ratio below 1)"
MOST_EXAMPLES: Final = 8
DRAWINGS: Final = ("trade_off", "truth_ratios", "calibration", "attacks")


@dataclass(frozen=True, slots=True)
class Example:
    """One question and both answers, marked."""

    kind: str
    question: str
    before: Markup
    after: Markup


def heading(evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> str:
    """The default title: it names what was measured and nothing else."""
    kept = "what was kept, " if leakage and leakage.over_refusal.get("after") else ""
    if evaluation is None:
        return f"{kept}what still leaks".capitalize()
    return "What was forgotten, what was kept, what still leaks" if leakage else "What was forgotten, what was kept"


def html(evaluation: EvaluationResult | None, leakage: LeakageReport | None, title: str) -> str:
    """The whole page; it loads nothing. At least one of the two is given."""
    template = _environment().get_template("page.html.j2")
    return template.render(title=title, **content(evaluation, leakage))


def markdown(evaluation: EvaluationResult | None, leakage: LeakageReport | None, title: str) -> str:
    """The evaluation card, with the same figures."""
    return _environment().get_template("card.md.j2").render(title=title, **content(evaluation, leakage, drawn=False))


def content(
    evaluation: EvaluationResult | None, leakage: LeakageReport | None, *, drawn: bool = True
) -> dict[str, Any]:
    """The variables of the templates."""
    return {
        "evaluation": evaluation,
        "leakage": leakage,
        "cards": cards(evaluation, leakage),
        "rows": figure_rows(evaluation) if evaluation else [],
        "drawings": dict.fromkeys(DRAWINGS) | (drawings(evaluation, leakage) if drawn else {}),
        "families": by_family(leakage.attacks) if leakage else {},
        "sides": [side for side in figures.NAMES if leakage and side in leakage.sides and side != REFERENCE],
        "judged": [side for side in SERVED if leakage and side in leakage.sides],
        "examples": examples(evaluation, leakage)[:MOST_EXAMPLES] if drawn else [],
        "subject": subject(evaluation, leakage),
        "dates": [str(one)[:10] for one in (evaluation and evaluation.finished, leakage and leakage.created) if one],
        "kolmogorov": kolmogorov(evaluation) if evaluation else None,
        "error": calibration_errors(evaluation) if evaluation else {},
    }


def subject(evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> dict[str, str | None]:
    """What was measured: the served model, and the offset that its fingerprint names."""
    about = evaluation.servers.get("after") if evaluation else None
    side = leakage.sides.get("after") if leakage else None
    server = about or side
    return {"model": server.model if server else None, "fingerprint": server.fingerprint if server else None}


def figure_rows(evaluation: EvaluationResult) -> list[dict[str, Any]]:
    """One row for each split and metric, with both figures."""
    rows = []
    for split in (FORGET, *KEPT_SPLITS):
        for metric, words in METRICS:
            pair = {side: figure_of(evaluation, side, split, metric) for side in ("before", "after")}
            if any(pair.values()):
                rows.append({"split": SPLITS.get(split, split), "metric": words, **pair})
        preferred = {side: _truth_preferred(evaluation, side, split) for side in ("before", "after")}
        if any(preferred.values()):
            rows.append({"split": SPLITS.get(split, split), "metric": TRUTH_PREFERRED, **preferred})
    return rows


def _truth_preferred(evaluation: EvaluationResult, side: SideName, split: str) -> Figure | None:
    """The share of ratios below 1. Ratios have no upper bound, so that one question could decide their mean."""
    below = [float(ratio < 1) for ratio in truth_ratios(evaluation, side, split)]
    return Figure.of(estimate_mean(below), len(below)) if below else None


def drawings(evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> dict[str, Markup]:
    """The SVGs for which there are figures, by name."""
    svgs: dict[str, str] = {}
    if evaluation:
        svgs |= _evaluated(evaluation)
    if leakage:
        svgs["attacks"] = figures.attack_bars([_bar(attack) for attack in leakage.attacks])
    return {name: Markup(_own_ids(svg, name)) for name, svg in svgs.items()}


def _evaluated(evaluation: EvaluationResult) -> dict[str, str]:
    svgs = {}
    recall = {
        split: (before.value, after.value)
        for split in (FORGET, *KEPT_SPLITS)
        if (before := figure_of(evaluation, "before", split, "rouge_l_recall"))
        and (after := figure_of(evaluation, "after", split, "rouge_l_recall"))
    }
    forget = recall.pop(FORGET, None)
    if forget and recall:
        svgs["trade_off"] = figures.trade_off(forget, {SPLITS.get(s, s): pair for s, pair in recall.items()})
    ratios = {side: truth_ratios(evaluation, side) for side in ("before", "after")}
    if all(ratios.values()):
        svgs["truth_ratios"] = figures.truth_ratios(ratios["before"], ratios["after"])
    sides = {side: pairs for side in ("before", "after") if (pairs := confidences(evaluation, side))[0]}
    if sides:
        svgs["calibration"] = figures.calibration(sides)
    return svgs


def truth_ratios(evaluation: EvaluationResult, side: SideName, split: str = FORGET) -> list[float]:
    """Geometric mean of the wrong answers' probabilities ÷ the right one's, of every item that has them."""
    return [ratio for item in evaluation.measurements(side, split) if (ratio := geometric_ratio(item)) is not None]


def confidences(evaluation: EvaluationResult, side: SideName) -> tuple[list[float], list[float]]:
    """Of every kept item: probability of the true answer, and how much of it was said."""
    kept = [item for split in KEPT_SPLITS for item in evaluation.measurements(side, split)]
    said = [(item.mean_logprob, item.rouge_l_recall) for item in kept if item.rouge_l_recall is not None]
    return [min(1.0, math.exp(logprob)) for logprob, _ in said], [recall for _, recall in said]


def calibration_errors(evaluation: EvaluationResult) -> dict[str, float]:
    """Mean distance of both over five bins, weighted by their sizes, before and after."""
    errors = {}
    for side in ("before", "after"):
        likely, right = confidences(evaluation, side)
        if likely:
            x, y, sizes = figures.binned(likely, right, 5)
            errors[side] = math.fsum(abs(a - b) * size for a, b, size in zip(x, y, sizes, strict=True))
    return errors


def kolmogorov(evaluation: EvaluationResult) -> dict[str, Any] | None:
    """The test of the forgotten truth ratios: against a model that never read them, where one was measured."""
    figure = evaluation.figures["after"].forget_quality if "after" in evaluation.figures else None
    before, after = (truth_ratios(evaluation, side) for side in ("before", "after"))
    moved = None
    if before and after:
        moved = kolmogorov_smirnov(before, after)
    return {"quality": figure, "moved": moved} if figure or moved else None


def by_family(attacks: Sequence[AttackResult]) -> dict[str, list[AttackResult]]:
    """Attacks by the name of their family, in the order of the table."""
    grouped: dict[str, list[AttackResult]] = {}
    for attack in attacks:
        grouped.setdefault(ATTACK_FAMILIES.get(attack.family, attack.family), []).append(attack)
    return grouped


def examples(evaluation: EvaluationResult | None, leakage: LeakageReport | None) -> list[Example]:
    """Forgotten first, then kept; of the kept, those that changed first."""
    chosen: list[Example] = []
    if leakage:
        chosen += _attacked(leakage.attacks)
        chosen += _asked(leakage.over_refusal)
    if evaluation and not chosen:
        pairs = [(item, item.sides.get("before"), item.sides.get("after")) for item in evaluation.items]
        for item, before, after in pairs:
            if item.question and before and after and before.answer and after.answer:
                kind = "to be forgotten" if item.split == FORGET else "to be kept"
                chosen.append(_example(kind, item.question, before.answer, after.answer))
    return chosen


def _attacked(attacks: Sequence[AttackResult]) -> list[Example]:
    """Answers to plain questions first; then answers that leaked under other attacks."""
    direct = [attack for attack in attacks if attack.name == "direct"]
    leaking = [attack for attack in attacks if attack.judgement.get("after") == "leaks" and attack not in direct]
    return [example for attack in (*direct, *leaking[:2]) for example in _pairs(attack)[: 3 if attack in direct else 1]]


def _pairs(attack: AttackResult) -> list[Example]:
    texts: dict[str, dict[str, str]] = {}
    for example in attack.examples:
        texts.setdefault(example.question, {}).setdefault(example.side, example.text)
    kind = "to be forgotten" if attack.name == "direct" else f"leaks: {attack.name}"
    return [
        _example(kind, question, sides["before"], sides["after"])
        for question, sides in texts.items()
        if "before" in sides and "after" in sides
    ]


def _asked(over: Mapping[str, Sequence[OverRefusal]]) -> list[Example]:
    answers = [
        answer for one in over.get("after", ()) if one.split != "code" for answer in one.answers if answer.question
    ]
    answers.sort(key=lambda answer: answer.before == answer.after)
    same = [answer for answer in answers if answer.before == answer.after][:2]
    changed = [answer for answer in answers if answer.before != answer.after][:2]
    return [_example("to be kept", a.question, a.before, a.after) for a in (*changed, *same)]


def _example(kind: str, question: str, before: str, after: str) -> Example:
    return Example(kind, question, *marked(before, after))


def _bar(attack: AttackResult) -> tuple[str, dict[str, tuple[float, float, float]], float]:
    sides = {
        name: (one.success.rate, one.success.low, one.success.high)
        for name, one in attack.sides.items()
        if one.blocked < one.success.items and name != REFERENCE
    }
    return attack.name, sides, attack.baseline


def _own_ids(svg: str, name: str) -> str:
    """The SVG with ids that no other drawing of the page has."""
    mark = hashlib.sha256(name.encode()).hexdigest()[:6]
    return svg.replace('id="', f'id="{mark}-').replace('"#', f'"#{mark}-').replace("url(#", f"url(#{mark}-")


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("deltaserve.client.evaluation.report", "templates"),
        autoescape=lambda name: bool(name) and ".html" in str(name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "decimal": decimal, "probability": probability}
    environment.globals |= {"side_names": figures.NAMES, "split_names": SPLITS}
    return environment
