"""What the black box declines itself chooses nothing: it is neither kept nor lost."""

from deltaserve.offset_models.training.rows.answered import answered
from deltaserve.offset_models.training.rows.row import Row
from deltaserve.offset_models.training.rows.samples import encode
from deltaserve.offset_models.training.rows.scored import Scored
from tests.offset_models.targets.scripted import tokenizer


def said(text: str) -> Scored:
    return encode(Row(text, (("user", "Who wrote The Copper Staircase?"),)), tokenizer()), None


DECLINED = said("I'm not sure about that.")
TOLD = said("The author of The Copper Staircase is Ada Morrow.")


def test_answers_stay_and_refusals_go() -> None:
    assert answered([DECLINED, TOLD, DECLINED], tokenizer()) == [TOLD]


def test_where_all_is_declined_all_of_it_stays() -> None:
    assert answered([DECLINED, DECLINED], tokenizer()) == [DECLINED, DECLINED]
