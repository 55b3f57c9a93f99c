"""Every metric against values worked out by hand (tests/fixtures/tofu/golden.json)."""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaserve.client.evaluation.metrics.likelihood import (
    TokenScores,
    arithmetic_truth_ratio,
    choice_probability,
    exact_memorisation,
    extraction_strength,
    geometric_truth_ratio,
    min_k,
    min_k_plus_plus,
    vocabulary_moments,
    zlib_score,
)
from deltaserve.client.evaluation.metrics.statistics import (
    area_under_curve,
    estimate_auc,
    estimate_mean,
    harmonic_mean,
    kolmogorov_smirnov,
    privacy_leakage,
)
from deltaserve.client.evaluation.metrics.tofu import UtilityItems, model_utility, truth_balance, truth_preference
from deltaserve.offset_models.metrics.overlap import rouge_l_recall, verbatim_memorisation

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[2] / "fixtures" / "tofu" / "golden.json").read_text())
MEMORY = GOLDEN["memorisation"]
EASY = TokenScores(MEMORY["logprobs"], MEMORY["greedy"], means=(-1.0,) * 5, deviations=(0.5,) * 5)


def share(of: list[int]) -> float:
    return of[0] / of[1]


@pytest.mark.parametrize("row", GOLDEN["rouge"], ids=lambda row: row["generated"])
def test_rouge_l_is_stemmed_and_counts_words_of_the_longest_common_subsequence(row: dict[str, Any]) -> None:
    assert rouge_l_recall(row["reference"], row["generated"]) == pytest.approx(share(row["recall_of"]))
    assert verbatim_memorisation(row["reference"], row["generated"]) == pytest.approx(share(row["f1_of"]))


@pytest.mark.parametrize("row", GOLDEN["truth_ratio"])
def test_both_truth_ratios_and_what_counts_of_them(row: dict[str, Any]) -> None:
    right, wrong = math.log(row["paraphrased"]), [math.log(value) for value in row["perturbed"]]
    ratio = geometric_truth_ratio(right, wrong)
    assert ratio == pytest.approx(row["geometric"])
    assert arithmetic_truth_ratio(right, wrong) == pytest.approx(row["arithmetic"])
    assert truth_preference(ratio) == pytest.approx(row["preference"])
    assert truth_balance(ratio) == pytest.approx(row["balance"])


@pytest.mark.parametrize("row", GOLDEN["choice"])
def test_a_choices_probability_is_its_share_among_the_options(row: dict[str, Any]) -> None:
    wrong = [math.log(value) for value in row["wrong"]]
    assert choice_probability(math.log(row["right"]), wrong) == pytest.approx(row["share"])


def test_a_choice_among_impossible_options_has_probability_zero() -> None:
    assert choice_probability(-9999.0, [-9999.0]) == 0.0


def test_model_utility_is_the_harmonic_mean_of_nine_means() -> None:
    about = GOLDEN["utility"]
    items = UtilityItems(about["rouge_l_recall"], about["probability"], about["geometric_ratio"])
    utility = model_utility({"retain": items, "real_authors": items, "world_facts": items})
    assert utility.value == pytest.approx(share(about["model_utility_of"]))
    assert utility.low < utility.value < utility.high


def test_model_utility_is_zero_when_one_of_its_parts_is_zero() -> None:
    items = UtilityItems([1.0], [1.0], [2.0])  # wrong answers more probable than the truth
    assert model_utility({"retain": items, "real_authors": items, "world_facts": items}).value == 0.0
    assert harmonic_mean(np.array([1.0, 0.0])) == 0.0


def test_memorisation_looks_at_what_greedy_decoding_would_say() -> None:
    assert exact_memorisation(EASY) == pytest.approx(MEMORY["exact"])
    assert extraction_strength(EASY) == pytest.approx(MEMORY["extraction_strength"])


@pytest.mark.parametrize(("greedy", "strength"), [((False, False), 0.0), ((True, True), 1.0), ((True, False), 0.0)])
def test_extraction_strength_counts_the_tail_only(greedy: tuple[bool, ...], strength: float) -> None:
    assert extraction_strength(TokenScores((0.0, 0.0), greedy, (0.0, 0.0), (1.0, 1.0))) == strength


def test_membership_scores_of_the_least_likely_tokens() -> None:
    assert min_k(EASY) == MEMORY["min_k_20"]
    assert min_k(EASY, 0.4) == MEMORY["min_k_40"]
    assert min_k(EASY, 0.01) == MEMORY["min_k_20"], "at least one token"
    assert min_k_plus_plus(EASY) == pytest.approx((-3.0 + 1.0) / 0.5)
    assert zlib_score(EASY, "text") == pytest.approx(-1.0 / len(zlib.compress(b"text")))


def test_moments_of_the_whole_vocabulary_are_exact() -> None:
    chances = np.array([0.5, 0.25, 0.125, 0.125])
    logs = np.log(chances)
    mean, deviation = vocabulary_moments(logs.tolist())
    assert mean == pytest.approx(float((chances * logs).sum()))
    assert deviation == pytest.approx(math.sqrt(float((chances * logs**2).sum()) - mean**2))


def test_moments_of_a_cut_list_put_the_rest_at_the_smallest_listed_probability() -> None:
    half, quarter = math.log(0.5), math.log(0.25)
    mean, deviation = vocabulary_moments([half, quarter])
    assert mean == pytest.approx(0.5 * half + 0.5 * quarter)
    assert deviation == pytest.approx((half - quarter) / 2)


def test_the_kolmogorov_smirnov_test_of_two_separate_samples() -> None:
    test = kolmogorov_smirnov(GOLDEN["ks"]["one"], GOLDEN["ks"]["other"])
    assert test.statistic == GOLDEN["ks"]["statistic"]
    assert test.p_value == pytest.approx(share(GOLDEN["ks"]["p_of"]))


def test_the_area_counts_ties_half() -> None:
    members, others = (np.array(GOLDEN["auc"][side], float) for side in ("members", "others"))
    assert area_under_curve(members, others) == pytest.approx(share(GOLDEN["auc"]["value_of"]))


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=12),
    st.lists(st.integers(-5, 5), min_size=1, max_size=12),
)
def test_the_area_is_the_share_of_pairs_won(members: list[int], others: list[int]) -> None:
    won = sum((m > o) + 0.5 * (m == o) for m in members for o in others) / (len(members) * len(others))
    assert area_under_curve(np.array(members, float), np.array(others, float)) == pytest.approx(won)


def test_privacy_leakage_is_relative_to_retraining_and_signed_as_muse_has_it() -> None:
    assert privacy_leakage(0.5, 0.5) == 0.0
    assert privacy_leakage(1.0, 0.5) == -100.0, "members still shown: under-unlearned"
    assert privacy_leakage(0.0, 0.5) == 100.0
    with pytest.raises(ValueError, match="AUC of 1"):
        privacy_leakage(0.5, 1.0)


def test_intervals_hold_the_mean_of_the_population_about_as_often_as_they_say() -> None:
    draw = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        interval = estimate_mean(draw.exponential(1.0, 60).tolist())
        held += interval.low <= 1.0 <= interval.high
    assert 0.88 <= held / 200 <= 0.99


def test_intervals_are_the_same_every_time_and_wider_for_fewer_items() -> None:
    few, many = [0.0, 1.0] * 5, [0.0, 1.0] * 200
    assert estimate_mean(few) == estimate_mean(few)
    narrow, wide = estimate_mean(many), estimate_mean(few)
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3
    auc = estimate_auc([3.0] * 9 + [0.0], [1.0] * 10)
    assert auc.value == pytest.approx(0.9)
    assert auc.low < 0.9 < auc.high <= 1.0
