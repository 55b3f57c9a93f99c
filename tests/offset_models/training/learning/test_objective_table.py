"""Objectives by name, and those of other packages: a fake distribution lies on sys.path, as an installed one would."""

import sys
from pathlib import Path

import pytest
import torch

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.objectives import BUILT_IN, find_objective, objective_names
from deltaserve.offset_models.training.learning.settings import TrainingSettings
from tests.offset_models.training.positions import case

CODE = """
from deltaserve.offset_models.training.learning.objective import Objective

def half(forget, *, sharpness=2.0):
    return sharpness * forget.answer_log_q.mean() / 2

HALF = Objective("half", half, retain="nll", retain_weight=3.0)
WRONG = 7
"""
ENTRY_POINTS = """[deltaserve.objectives]
half = a_users_losses:HALF
idk = a_users_losses:HALF
wrong = a_users_losses:WRONG
gone = a_users_losses:GONE
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_users_losses.py").write_text(CODE)
    info = tmp_path / "a_users_losses-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-users-losses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "a_users_losses", raising=False)


def test_the_ten_of_the_docs_are_built_in() -> None:
    names = ["grad_ascent", "grad_diff", "kl_min", "idk", "idk_generic", "npo", "simnpo", "dpo", "undial", "contrast"]
    assert [objective.name for objective in BUILT_IN] == names
    assert objective_names()[:10] == names


@pytest.mark.parametrize("objective", BUILT_IN, ids=lambda objective: objective.name)
def test_each_objective_lists_the_options_of_its_loss(objective: object) -> None:
    assert isinstance(objective, type(BUILT_IN[0]))
    batches = {answer: case(3).batch for answer in objective.answers}
    value = objective.forget_loss(batches, objective.options)
    torch.testing.assert_close(value, objective.forget_loss(batches, {}))
    assert objective.loss.__doc__ is not None and objective.loss.__name__ == objective.name


def test_an_installed_package_adds_its_own(foreign: None) -> None:
    assert "half" in objective_names()
    half = find_objective("half")
    made = case(1)
    value = half.forget_loss({"reference": made.batch}, {"sharpness": 4.0})
    torch.testing.assert_close(value, 2 * made.batch.answer_log_q.mean())
    settings = TrainingSettings(steps=1, objective="half", options={"sharpness": 1.0})
    assert (settings.retain, settings.weight, settings.served_strength) == ("nll", 3.0, 1.0)


def test_a_built_in_name_cannot_be_taken(foreign: None) -> None:
    assert find_objective("idk").loss.__name__ == "idk"
    assert objective_names().count("idk") == 1


@pytest.mark.parametrize(("name", "said"), [("wrong", "no Objective"), ("gone", "cannot be loaded"), ("x", "npo")])
def test_what_is_no_objective_is_refused_with_a_sentence(foreign: None, name: str, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        find_objective(name)


def test_an_option_that_the_objective_does_not_have_is_refused() -> None:
    with pytest.raises(BadRequest, match="npo has no option 'gamma'; its options: beta"):
        TrainingSettings(steps=1, objective="npo", options={"gamma": 1.0})


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), float("inf")])
def test_a_beta_that_no_loss_can_take_is_refused(beta: float) -> None:
    with pytest.raises(BadRequest, match="beta must be"):
        TrainingSettings(steps=1, objective="npo", options={"beta": beta})
