"""The table of objectives: who chooses does not judge, and an offset stands beside direct tuning of the same seeds."""

import pytest

from benchmarks.support.demo_training import SIDES, Questions, whole_register
from benchmarks.support.judging import told
from benchmarks.table_training import beside, of_seed


@pytest.fixture(scope="module")
def register():
    return whole_register(Questions(choosing=180, choosing_retain=720, judging=2000))


def test_as_many_choose_as_were_asked_for(register):
    assert (len(register.validation.forget), len(register.validation.retain)) == (180, 720)


def test_no_question_chooses_and_judges(register):
    chose = {row.messages[-1][1] for row in (*register.validation.forget, *register.validation.retain)}
    judges = [row.messages[-1][1] for side in SIDES for row in register.held[side]]
    assert len(chose) == 900
    assert len(judges) == 306 + 1224
    assert not chose & set(judges)


def test_a_fact_is_told_by_the_true_answer_and_in_babble_and_not_by_words_of_the_question(register):
    tells = told(register)
    for row in register.held["forget"]:
        assert tells(row, row.completion) and tells(row, f"wrote a a {row.completion} of of")
        assert not tells(row, row.messages[-1][1]) and not tells(row, "I'm not sure about that.")


def test_a_mean_is_of_the_seeds_that_are_there():
    found = {
        "npo": {"harmonic": 0.9},
        of_seed("npo", 8): {"harmonic": 0.8},
        of_seed("direct-npo", 8): {"harmonic": 0.7},
    }
    rows = {name: cells for name, *cells in beside(found, [7, 8])}
    assert rows["npo"] == [pytest.approx(0.85), "0.900, 0.800", 0.7, "0.700"]
    assert rows["idk"] == [None, "", None, ""]
