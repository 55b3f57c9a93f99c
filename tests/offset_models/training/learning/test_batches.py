"""Which rows a step sees."""

import pytest
import torch

from deltaserve.errors import BadRequest
from deltaserve.offset_models.training.learning.batches import Shuffle, TrainingData
from tests.offset_models.training.tiny_run import DATA, RETAIN

torch.set_num_threads(1)


def test_every_row_is_drawn_once_before_any_comes_again() -> None:
    draw = Shuffle(5, 2, "seed")
    drawn = [row for number in range(5) for row in draw.batch(number)]
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == list(range(5))
    assert drawn[:5] != drawn[5:]
    assert Shuffle(5, 2, "seed").batch(3) == drawn[6:8]  # whatever was drawn before


def test_training_without_rows_is_refused() -> None:
    for forget, retain in (({"reference": []}, RETAIN), ({}, RETAIN), (DATA.forget, [])):
        with pytest.raises(BadRequest, match="forget rows and retain rows"):
            TrainingData(forget, retain)  # type: ignore[arg-type]
