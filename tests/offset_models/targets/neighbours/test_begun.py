"""Who is asked about in the questions that a black box writes itself."""

from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES
from deltaserve.offset_models.targets.neighbours.begun import beginnings_of, names_asked


def test_names_stand_where_questions_about_the_kind_have_them() -> None:
    questions = [
        "Where was Bert Hollin born?",
        "When was Bert Hollin born?",
        "Which book did Cora Jemar write?",
        "Where was the first ship built?",
        "What is the capital of Egypt?",
        "Where was she born?",
    ]
    assert names_asked(questions, "person") == ["Bert Hollin", "Cora Jemar"]


def test_each_kind_has_beginnings_that_end_behind_a_word() -> None:
    for kind in ATTRIBUTES:
        beginnings = beginnings_of(kind)
        assert len(beginnings) >= 3 and all(each == each.strip() and "{" not in each for each in beginnings)
