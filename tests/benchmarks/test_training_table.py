"""The table of objectives: who chooses does not judge, and an offset stands beside direct tuning of the same seeds."""

import pytest

from benchmarks.support.demo_training import SIDES, Questions, whole_register
from benchmarks.support.judging import harmonic, tells_fact
from benchmarks.table_training import beside, of_seed


@pytest.fixture(scope="module")
def register():
    return whole_register(Questions(choosing=180, choosing_retain=720, judging=2000))


def test_as_many_choose_as_were_asked_for(register):
    assert (len(register.validation.forget), len(register.validation.retain)) == (180, 720)


def test_no_question_both_chooses_and_judges(register):
    chose = {row.messages[-1][1] for row in (*register.validation.forget, *register.validation.retain)}
    judges = [row.messages[-1][1] for side in SIDES for row in register.held[side]]
    assert len(chose) == 900
    assert len(judges) == 306 + 1224
    assert not chose & set(judges)


def test_a_fact_is_told_by_the_true_answer_and_in_babble_and_not_by_words_of_the_question(register):
    tells = tells_fact(register)
    for row in register.held["forget"]:
        assert tells(row, row.completion) and tells(row, f"wrote a a {row.completion} of of")
        assert not tells(row, row.messages[-1][1]) and not tells(row, "I'm not sure about that.")


def cells(recall: float, facts: float, retain: float = 1.0) -> dict[str, float]:
    after = {"recall/forget": recall, "facts/forget": facts, "recall/retain": retain}
    before = {"recall/forget": 0.8, "facts/forget": 0.5, "recall/retain": 0.8}
    told_of = {"black_box": before, "corrected": after}
    return {f"{name}/{when}": value for when, figures in told_of.items() for name, value in figures.items()}


def test_a_harmonic_mean_is_of_what_is_forgotten_and_kept_of_the_black_boxs_own():
    row = cells(recall=0.4, facts=0.1, retain=0.6)  # half forgotten, three quarters kept
    assert harmonic(row) == pytest.approx(2 * 0.5 * 0.75 / 1.25)
    assert harmonic(row, "facts told") == pytest.approx(2 * 0.8 * 0.75 / 1.55)


def test_keeping_more_than_the_black_box_had_counts_for_nothing():
    assert harmonic(cells(recall=0.4, facts=0.0, retain=0.9)) == pytest.approx(2 * 0.5 / 1.5)


def test_a_mean_is_of_the_seeds_that_are_there():
    found = {"npo": cells(0.4, 0.0), of_seed("npo", 8): cells(0.0, 0.0), of_seed("direct-npo", 8): cells(0.8, 0.0)}
    rows = {name: row for name, *row in beside(found, [7, 8], "ROUGE-L recall")}
    assert rows["npo"] == [pytest.approx((2 / 3 + 1) / 2), "0.667, 1.000", 0.0, "0.000"]
    assert rows["idk"] == [None, "", None, ""]
    rows = {name: row for name, *row in beside(found, [7, 8], "facts told")}
    assert rows["npo"] == [1.0, "1.000, 1.000", 1.0, "1.000"]
