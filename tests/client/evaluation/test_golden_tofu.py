"""Published evaluation logs of TOFU and ULD, row by row. They are large: DELTASERVE_TOFU names the folder of TOFU's
files, with the logs below golden/ (make golden-tofu TOFU=DIR).
"""

import csv
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deltaserve.client.evaluation.metrics.likelihood import (
    choice_probability,
    geometric_truth_ratio,
    probability,
)
from deltaserve.client.evaluation.metrics.tofu import UtilityItems, forget_quality, model_utility, truth_balance
from deltaserve.offset_models.metrics.overlap import overlap

FOLDER = os.environ.get("DELTASERVE_TOFU")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="DELTASERVE_TOFU does not name a folder with TOFU's files and golden/"
)

FULL = "tofu_llama2-7b_full_wd0.01"
RETAIN90 = "tofu_llama2-7b_retain90_wd0.01"
ULD = "uld_retain90_llama2-7b_wd0.01"
RETAIN, FORGET = "eval_log.json", "eval_log_forget.json"
AUTHORS, FACTS = "eval_real_author_wo_options.json", "eval_real_world_wo_options.json"
SPLITS = {"retain": RETAIN, "real_authors": AUTHORS, "world_facts": FACTS}
CSV_NAMES = {RETAIN: "Retain", AUTHORS: "Real Authors", FACTS: "Real World", FORGET: "Forget"}


def log(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(
        (Path(str(FOLDER)) / "golden" / f"{name}_eval_log_aggregated.json").read_text()
    )
    return content


def column(part: Mapping[str, Any], name: str) -> list[Any]:
    """Logs hold lists, or maps from the row's number."""
    values = part[name]
    return list(values.values()) if isinstance(values, dict) else values


def truth_ratios(part: Mapping[str, Any]) -> list[float]:
    losses = zip(column(part, "avg_paraphrased_loss"), column(part, "average_perturb_loss"), strict=True)
    return [geometric_truth_ratio(-right, [-loss for loss in wrong]) for right, wrong in losses]


def probabilities(part: Mapping[str, Any], *, of_options: bool) -> list[float]:
    losses = zip(column(part, "avg_gt_loss"), column(part, "average_perturb_loss"), strict=True)
    if of_options:
        return [choice_probability(-right, [-loss for loss in wrong]) for right, wrong in losses]
    return [probability(-right) for right, _ in losses]


def utility_items(name: str) -> dict[str, UtilityItems]:
    parts = log(name)
    return {
        split: UtilityItems(
            column(parts[file], "rougeL_recall"),
            probabilities(parts[file], of_options=split != "retain"),
            truth_ratios(parts[file]),
        )
        for split, file in SPLITS.items()
    }


def generations(name: str) -> Iterable[tuple[str, str, float, float]]:
    for part in log(name).values():
        columns = (column(part, key) for key in ("generated_text", "rouge1_recall", "rougeL_recall"))
        for (_, generated, reference), rouge_1, rouge_l in zip(*columns, strict=True):
            yield reference, generated, rouge_1, rouge_l


@pytest.mark.parametrize("name", [FULL, RETAIN90, ULD])
def test_rouge_is_the_logged_one_on_every_row(name: str) -> None:
    rows = list(generations(name))
    found = [overlap(reference, generated) for reference, generated, _, _ in rows]
    assert [score.rouge_l_recall for score in found] == [rouge_l for *_, rouge_l in rows]
    assert [score.rouge_1_recall for score in found] == [rouge_1 for *_, rouge_1, _ in rows]
    assert len(rows) == 817


def test_the_nine_parts_and_model_utility_of_uld_are_those_it_published() -> None:
    with (Path(str(FOLDER)) / "golden" / f"{ULD}_aggregated_stat.csv").open() as file:
        published = next(csv.DictReader(file))
    items = utility_items(ULD)
    for split, file_name in SPLITS.items():
        for part, title in (
            ("rouge_l_recall", "ROUGE"),
            ("probability", "Probability"),
            ("truth_ratio", "Truth Ratio"),
        ):
            expected = float(published[f"{CSV_NAMES[file_name]} {title}"])
            assert np.mean(items[split].values()[part]) == pytest.approx(expected, abs=1e-7)
    assert model_utility(items).value == pytest.approx(0.6203436, abs=5e-8)
    assert model_utility(items).value == pytest.approx(float(published["Model Utility"]), abs=1e-7)


def test_the_forget_truth_ratio_of_uld_is_the_published_one() -> None:
    with (Path(str(FOLDER)) / "golden" / f"{ULD}_aggregated_stat.csv").open() as file:
        expected = float(next(csv.DictReader(file))["Forget Truth Ratio"])
    found = np.mean([truth_balance(ratio) for ratio in truth_ratios(log(ULD)[FORGET])])
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("name", "expected"), [(FULL, 0.622677), (RETAIN90, 0.613745)])
def test_model_utility_of_tofus_own_models(name: str, expected: float) -> None:
    assert model_utility(utility_items(name)).value == pytest.approx(expected, abs=5e-7)


def test_forget_quality_of_the_full_model_against_the_retained_one() -> None:
    full, retained = (truth_ratios(log(name)[FORGET]) for name in (FULL, RETAIN90))
    assert len(full) == len(retained) == 300
    assert forget_quality(full, retained).p_value == pytest.approx(1.834e-21, rel=5e-4)
    assert forget_quality(retained, retained).p_value == 1.0
