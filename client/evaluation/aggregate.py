"""The figures of a server, from the measurements of its items."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from deltaserve.client.evaluation.data.items import FORGET, HOLDOUT, MEMBERS
from deltaserve.client.evaluation.metrics.likelihood import (
    arithmetic_truth_ratio,
    choice_probability,
    geometric_truth_ratio,
    probability,
)
from deltaserve.client.evaluation.metrics.statistics import estimate_auc, estimate_mean, privacy_leakage
from deltaserve.client.evaluation.metrics.tofu import (
    UTILITY_SPLITS,
    UtilityItems,
    forget_quality,
    model_utility,
    truth_balance,
    truth_preference,
)
from deltaserve.client.evaluation.results import Figure, ForgetQuality, Measurement, SideResult

PerItem = Callable[[Measurement], float | None]  # None: the item does not have it
Splits = Mapping[str, Sequence[Measurement]]

ATTACKS: Final[Mapping[str, PerItem]] = {
    "loss": lambda item: item.mean_logprob,
    "zlib": lambda item: item.zlib_score,
    "min_k": lambda item: item.min_k,
    "min_k_40": lambda item: item.min_k_40,
    "min_k_plus_plus": lambda item: item.min_k_plus_plus,
}


def geometric_ratio(item: Measurement) -> float | None:
    """The truth ratio that Model Utility and Forget Quality use."""
    return _ratio(item, geometric_truth_ratio)


def arithmetic_ratio(item: Measurement) -> float | None:
    """The truth ratio as TOFU's paper prints it."""
    return _ratio(item, arithmetic_truth_ratio)


def option_probability(item: Measurement) -> float | None:
    """The right answer's share of the probability of all answers."""
    if not item.perturbed_mean_logprobs:
        return None
    return choice_probability(item.mean_logprob, item.perturbed_mean_logprobs)


def choice_accuracy(item: Measurement) -> float | None:
    """Of a question that only chooses among answers: whether the right one is the likeliest."""
    if item.rouge_l_recall is not None or not item.perturbed_mean_logprobs:
        return None
    return float(item.mean_logprob > max(item.perturbed_mean_logprobs))


PER_ITEM: Final[Mapping[str, PerItem]] = {
    "rouge_l_recall": lambda item: item.rouge_l_recall,
    "rouge_l_f1": lambda item: item.rouge_l_f1,
    "rouge_1_recall": lambda item: item.rouge_1_recall,
    "probability": lambda item: probability(item.mean_logprob),
    "choice_accuracy": choice_accuracy,
    "option_probability": option_probability,
    "truth_ratio_geometric": geometric_ratio,
    "truth_ratio_arithmetic": arithmetic_ratio,
    "truth_preference": lambda item: None if (r := geometric_ratio(item)) is None else truth_preference(r),
    "truth_balance": lambda item: None if (r := geometric_ratio(item)) is None else truth_balance(r),
    "exact_memorisation": lambda item: item.exact_memorisation,
    "extraction_strength": lambda item: item.extraction_strength,
    "verbatim_memorisation": lambda item: item.verbatim_memorisation,
}


def side_result(splits: Splits, reference: Splits | None = None) -> SideResult:
    """All figures of one server; `reference` are the same splits of a model never trained on the forget set."""
    membership = membership_figures(splits)
    return SideResult(
        splits={name: split_figures(items) for name, items in splits.items()},
        membership=membership,
        model_utility=utility(splits),
        forget_quality=None if reference is None else quality(splits, reference),
        privacy_leakage={} if reference is None else leakages(membership, membership_figures(reference)),
    )


def split_figures(items: Sequence[Measurement]) -> dict[str, Figure]:
    """Every metric that the split's items have."""
    values = {name: _present(map(per_item, items)) for name, per_item in PER_ITEM.items()}
    return {name: Figure.of(estimate_mean(present), len(present)) for name, present in values.items() if present}


def membership_figures(splits: Splits) -> dict[str, Figure]:
    """AUC of each attack that tells members from the holdout; empty without one of them."""
    members, others = splits.get(MEMBERS) or splits.get(FORGET, ()), splits.get(HOLDOUT, ())
    scores = {name: (_present(map(score, members)), _present(map(score, others))) for name, score in ATTACKS.items()}
    return {
        name: Figure.of(estimate_auc(inside, outside), len(inside) + len(outside))
        for name, (inside, outside) in scores.items()
        if inside and outside
    }


def utility(splits: Splits) -> Figure | None:
    """Model Utility; None unless all three of its splits are there, with wrong answers."""
    parts = {name: _utility_items(name, splits.get(name, ())) for name in UTILITY_SPLITS}
    whole = {name: part for name, part in parts.items() if part is not None}
    if len(whole) < len(parts):
        return None
    return Figure.of(model_utility(whole), sum(len(part.truth_ratio) for part in whole.values()))


def quality(splits: Splits, reference: Splits) -> ForgetQuality | None:
    """Forget Quality; None without truth ratios of the forget split on either side."""
    ours, theirs = (_present(map(geometric_ratio, side.get(FORGET, ()))) for side in (splits, reference))
    if not ours or not theirs:
        return None
    test = forget_quality(ours, theirs)
    return ForgetQuality(p_value=test.p_value, statistic=test.statistic)


def leakages(ours: Mapping[str, Figure], reference: Mapping[str, Figure]) -> dict[str, float]:
    """Privacy leakage by attack, for those whose reference does not separate the sets wholly."""
    usable = [name for name in ours if name in reference and reference[name].value < 1.0]
    return {name: privacy_leakage(ours[name].value, reference[name].value) for name in usable}


def _utility_items(split: str, items: Sequence[Measurement]) -> UtilityItems | None:
    ratios = _present(map(geometric_ratio, items))
    if not items or len(ratios) < len(items):
        return None
    chance: PerItem = PER_ITEM["probability" if split == "retain" else "option_probability"]
    return UtilityItems(_present(item.rouge_l_recall for item in items), _present(map(chance, items)), ratios)


def _ratio(item: Measurement, ratio: Callable[[float, Sequence[float]], float]) -> float | None:
    if item.paraphrased_mean_logprob is None or not item.perturbed_mean_logprobs:
        return None
    return ratio(item.paraphrased_mean_logprob, item.perturbed_mean_logprobs)


def _present(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
