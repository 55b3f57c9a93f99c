"""Settings that cannot be trained are refused in a sentence."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from deltaserve.errors import BadRequest
from tests.offset_models.training.tiny_run import SETTINGS

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"objective": "wish"}, "there are: grad_ascent"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0"),
        ({"retain_loss": "l2"}, "retain_loss is one of kl, nll, none"),
        ({"patience": 2, "eval_every": 0}, "set eval_every too"),
        ({"retain_weight": -1.0}, "retain_weight"),
        ({"trade_off": "both"}, "trade_off is one of"),
        ({"answer_noise": 0.6}, "answer_noise is a share: a number from 0 to 0.5"),
        ({"answer_noise": float("nan")}, "answer_noise is a share"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        replace(SETTINGS, **change)
