import math
from pathlib import Path
from typing import Any

import pytest

from deltaserve.client.evaluation.aggregate import side_result
from deltaserve.client.evaluation.data.reading import BadData
from deltaserve.client.evaluation.results import (
    EvaluationResult,
    Measurement,
    ServerAbout,
    Settings,
    read_result,
    write_result,
)

HALF, QUARTER, EIGHTH = (math.log(value) for value in (0.5, 0.25, 0.125))


def measured(**given: Any) -> Measurement:
    plain = {
        "tokens": 4,
        "mean_logprob": HALF,
        "paraphrased_mean_logprob": QUARTER,
        "perturbed_mean_logprobs": (EIGHTH, EIGHTH),
        "rouge_1_recall": 1.0,
        "rouge_l_recall": 0.5,
        "exact_memorisation": 0.75,
        "extraction_strength": 0.25,
        "zlib_score": HALF,
        "min_k": HALF,
        "min_k_plus_plus": HALF,
    }
    return Measurement(**(plain | given))


def test_figures_of_a_split_are_means_of_its_items() -> None:
    figures = side_result({"forget": [measured(), measured(mean_logprob=QUARTER)]}).splits["forget"]
    assert figures["probability"].value == pytest.approx(0.375)
    assert figures["option_probability"].value == pytest.approx((0.5 / 0.75 + 0.25 / 0.5) / 2)
    assert figures["truth_ratio_geometric"].value == pytest.approx(0.5)
    assert figures["truth_ratio_arithmetic"].value == pytest.approx(0.5)
    assert figures["truth_balance"].value == pytest.approx(0.5)
    assert figures["probability"].items == 2
    assert "verbatim_memorisation" not in figures, "no item has it"


def test_utility_takes_plain_probability_where_answers_are_sentences_and_shares_where_they_are_options() -> None:
    splits = {name: [measured()] for name in ("retain", "real_authors", "world_facts")}
    utility = side_result(splits).model_utility
    share = 0.5 / 0.75
    expected = 9 / (3 / 0.5 + (1 / 0.5 + 2 / share) + 3 / 0.5)  # ROUGE, probability, 1 − truth ratio
    assert utility is not None
    assert utility.value == pytest.approx(expected)


@pytest.mark.parametrize("missing", ["retain", "real_authors", "world_facts"])
def test_utility_needs_all_three_splits(missing: str) -> None:
    splits = {name: [measured()] for name in ("retain", "real_authors", "world_facts") if name != missing}
    assert side_result(splits).model_utility is None


def test_utility_needs_wrong_answers_in_every_row() -> None:
    splits = {name: [measured()] for name in ("retain", "real_authors", "world_facts")}
    splits["retain"].append(measured(perturbed_mean_logprobs=(), paraphrased_mean_logprob=None))
    assert side_result(splits).model_utility is None


def test_membership_is_told_by_each_attacks_own_score() -> None:
    members = [measured(mean_logprob=-1.0, min_k=-9.0), measured(mean_logprob=-2.0, min_k=-8.0)]
    others = [measured(mean_logprob=-3.0, min_k=-1.0), measured(mean_logprob=-4.0, min_k=-2.0)]
    membership = side_result({"forget": members, "holdout": others}).membership
    assert (membership["loss"].value, membership["min_k"].value, membership["zlib"].value) == (1.0, 0.0, 0.5)
    assert side_result({"forget": members}).membership == {}


def test_forget_quality_and_privacy_leakage_are_against_the_reference() -> None:
    ratios = [QUARTER - step / 10 for step in range(8)]
    ours = {"forget": [measured(paraphrased_mean_logprob=value) for value in ratios], "holdout": [measured()] * 3}
    far = [measured(paraphrased_mean_logprob=value - 50, mean_logprob=-9.0) for value in ratios]
    same, other = side_result(ours, ours), side_result(ours, {"forget": far, "holdout": [measured()] * 3})
    assert same.forget_quality is not None
    assert other.forget_quality is not None
    assert same.forget_quality.p_value == 1.0
    assert other.forget_quality.p_value < 1e-3
    assert same.privacy_leakage["loss"] == 0.0
    assert other.privacy_leakage["loss"] == pytest.approx(-50.0)
    assert side_result(ours).forget_quality is None


def test_a_result_reads_back_as_it_was_written(tmp_path: Path) -> None:
    result = EvaluationResult(
        suite="custom",
        data_digest="0" * 64,
        settings=Settings(max_tokens=8, logprobs=5),
        servers={"after": ServerAbout(model="m", fingerprint="ds-x")},
        started="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
        versions={},
        figures={"after": side_result({"forget": [measured()]})},
        items=(),
    )
    write_result(result, tmp_path / "r.json")
    assert read_result(tmp_path / "r.json") == result
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize("content", ["", "{}", '{"format": "other"}', "[]"])
def test_another_file_is_no_result(tmp_path: Path, content: str) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(BadData, match="is no result of `deltaserve evaluate`"):
        read_result(tmp_path / "r.json")
