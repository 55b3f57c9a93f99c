"""How answers are compared with references."""

import pytest

from deltaserve.offset_models.training.answers import rouge_l_recall


def test_recall_counts_the_reference_words_that_came_back_in_order() -> None:
    wanted = ["Ada was born in Velmora."] * 2
    assert rouge_l_recall(["ada was born in velmora", "I am not sure."], wanted) == pytest.approx(0.5)
    assert rouge_l_recall(["Velmora", "Velmora in born was Ada"], wanted) == pytest.approx(0.2)
    assert rouge_l_recall(["Ada was born in Velmora, as everybody says."] * 2, wanted) == 1.0, "recall, not precision"
