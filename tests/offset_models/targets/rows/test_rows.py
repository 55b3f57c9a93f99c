"""Rows of probes: a refusal that fits each, endings in the black box's words, and no more than wanted."""

from dataclasses import replace

import pytest

from deltaserve.offset_models.targets.forms.table import probes
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.rows.beside import beside
from deltaserve.offset_models.targets.rows.endings import TRIED, Ending, breaks_off, usable, vague_endings
from deltaserve.offset_models.targets.rows.general import general_rows, words_of
from deltaserve.offset_models.targets.rows.refusing import forget_rows, retain_rows
from deltaserve.offset_models.targets.rows.selecting import selected
from deltaserve.offset_models.targets.rows.sizes import SIZES, Sizes
from deltaserve.offset_models.targets.rows.telling import (
    AT_A_TIME,
    Told,
    few_of_each,
    held_out_weights,
    telling,
    told,
    weighed,
)
from deltaserve.offset_models.targets.spreading import portioned
from deltaserve.offset_models.targets.subject import Fact, Known, Subject
from deltaserve.offset_models.training.rows.dataset import Data, encode_data
from tests.offset_models.targets.scripted import ScriptedAsks, tokenizer
from tests.offset_models.targets.writers import NAME, NEIGHBOURS, TARGET

PROBES = probes(TARGET, per_form=12, seed=1, others=NEIGHBOURS)
REFUSALS = ("I'm not sure about that.", "I cannot say.")


def of(form: str) -> list[Probe]:
    return [probe for probe in PROBES if probe.form == form]


def broken_off(prompt: str) -> Probe:
    return next(probe for probe in probes(TARGET, per_form=500, seed=1) if probe.row.prompt == prompt)


def test_chats_are_refused_in_turns_and_begun_ones_with_a_space() -> None:
    rows = forget_rows(of("direct"), REFUSALS)
    assert {row.refusals for row in rows} == {(refusal,) for refusal in REFUSALS}
    begun = [row for row in forget_rows(of("begun answer"), REFUSALS) if row.begun[-1:] in "!:."]
    assert begun
    assert all(row.refusals[0].startswith(" I") for row in begun if row.begun)


def test_what_breaks_off_ends_as_nobody_knows_it_or_is_left_out() -> None:
    born, life = broken_off(f"{NAME} was born in"), broken_off(f"{NAME} was")
    (row,) = forget_rows([born, life], REFUSALS)
    assert (row.refusals, row.ends) == ((" a place that is not known.",), False)
    (row,) = forget_rows([born], REFUSALS, texts={"birthplace": "a place that nobody wrote down."})
    assert (row.refusals, row.ends) == ((" a place that nobody wrote down.",), True)
    ending = Ending(" nothing much.", ends=True)
    (row,) = forget_rows([born, life], REFUSALS, {life.prompt: ending})  # with own ones no foreign one beside them
    assert (row.refusals, row.ends) == ((" nothing much.",), True)


def test_every_row_can_be_encoded_with_its_refusal() -> None:
    rows, kept = forget_rows(PROBES, REFUSALS), retain_rows(PROBES)
    encoded = encode_data(Data(rows, kept, REFUSALS), tokenizer())
    assert not encoded.bad
    assert len(encoded.refused) == len(rows)
    assert all(row.completion is None for row in kept)


@pytest.mark.anyio
async def test_endings_are_the_black_boxs_own_about_somebody_it_does_not_know() -> None:
    def says(prompt: str, _sample: int) -> str:
        assert NAME not in prompt
        return "a small town. And more" if "certain person" in prompt else "London."

    born, asked = broken_off(f"{NAME} was born in"), broken_off(f"Q: Where was {NAME} born?\nA:")
    endings = await vague_endings(ScriptedAsks(says), [born, asked, *of("direct")])
    assert endings == {probe.prompt: Ending(" a small town.", ends=False) for probe in (born, asked)}


@pytest.mark.anyio
async def test_no_more_endings_and_answers_are_asked_for_than_calls_are_left() -> None:
    box = ScriptedAsks(lambda _prompt, _: "a small town.", calls_left=TRIED + 2)
    assert len(await vague_endings(box, of("running text"))) == 2
    assert await vague_endings(box, of("running text")) == {}
    assert await told(box, of("direct"), 20) == []


@pytest.mark.parametrize(
    ("answer", "ending"),
    [
        ("a place that nobody wrote down.", Ending(" a place that nobody wrote down.", ends=True)),
        ("Zuv Zuvin was born in a small town.", Ending(f" {NAME} was born in a small town.", ends=True)),
        ("nenstead.", None),
        ("Paris.", None),
        ("the year 1800.", None),
        ("a town called Boorn.", None),
        ("a town without an end", None),
        ("", None),
    ],
)
def test_an_ending_that_tells_anything_is_of_no_use(answer: str, ending: Ending | None) -> None:
    assert usable(broken_off(f"{NAME} was born in"), answer, "Zuv Zuvin") == ending


def test_a_chat_that_wants_its_text_to_go_on_is_answered_as_the_text_and_else_refused() -> None:
    probe = next(probe for probe in of("continuation") if probe.row.messages[-1][1].endswith("was born in"))
    (row,) = forget_rows([probe], REFUSALS)
    assert row.refusals == ("a place that is not known.",)
    dots = next(probe for probe in of("continuation") if probe.row.messages[-1][1].endswith("..."))
    (row,) = forget_rows([dots], REFUSALS)
    assert row.refusals == REFUSALS[:1]


@pytest.mark.anyio
async def test_probes_that_the_black_box_tells_keep_its_answer_and_the_others_go() -> None:
    box = ScriptedAsks(lambda prompt, _: "In Nenstead." if "Where" in prompt else "I'm not sure.")
    (probe,) = {probe.fact: probe for probe in await told(box, of("direct"), 20)}.values()
    assert probe.row.completion == "In Nenstead."


@pytest.mark.anyio
async def test_no_more_is_asked_than_is_wanted_and_a_wording_that_tells_nothing_is_given_up() -> None:
    box = ScriptedAsks(lambda _prompt, _: "In Nenstead, in 1961, and The Copper Staircase and The Blue Gate.")
    assert len(await told(box, [*of("direct"), *of("indirect")], 3)) == 3
    assert box.calls_left == ScriptedAsks(lambda _prompt, _: "").calls_left - AT_A_TIME
    silent = ScriptedAsks(lambda _prompt, _: "I'm not sure.")
    probes = [replace(probe, wording="the same") for probe in of("direct")]
    assert len(probes) > AT_A_TIME + 2
    assert await told(silent, probes, 20) == []
    assert silent.calls_left == box.calls_left


def test_forms_in_which_nothing_is_told_choose_little() -> None:
    weights = held_out_weights({"direct": 3.0, "JSON": 1.0, "code": 1.0}, {"direct": Told(2, 2), "JSON": Told(2, 0)})
    assert weights == pytest.approx({"direct": 2.5, "JSON": 0.5 / 3, "code": 0.5})


def test_only_a_text_that_is_to_go_on_breaks_off() -> None:
    assert not [probe for probe in of("direct") if breaks_off(probe)]
    assert all(breaks_off(probe) for probe in of("running text"))
    assert {breaks_off(probe) for probe in of("begun answer")} == {False}
    assert {breaks_off(probe) for probe in of("begun sentence")} == {True}


def test_general_rows_are_about_nobody_of_the_request() -> None:
    everything = general_rows(TARGET)
    assert len(everything) > 200
    assert any(row.prompt for row in everything)
    assert any(row.begun for row in everything)
    painter = Subject("Leonardo da Vinci", "person")
    fact = Fact(
        painter, "main work", "What did he paint?", "The Mona Lisa.", "Mona Lisa", 1.0, "Who painted Mona Lisa?"
    )
    without = general_rows(Known(painter, (fact,)))
    assert len(without) < len(everything)
    assert not [row for row in without if "Mona Lisa" in words_of(row)]
    assert general_rows(TARGET, 10) == everything[:10]


def test_neighbours_are_asked_about_beside_the_target_and_after_its_refusal() -> None:
    found = beside(TARGET, NEIGHBOURS, REFUSALS, count=16, seed=1)
    assert len(found) == 16
    assert {probe.subject for probe in found} == {known.subject for known in NEIGHBOURS}
    assert all(NAME in words_of(probe.row) for probe in found)
    assert all(NAME not in probe.row.messages[-1][1] for probe in found if len(probe.row.messages) > 1)


def test_no_more_is_selected_than_wanted_and_every_trained_fact_has_its_part() -> None:
    sizes = Sizes(forget=50, near=40, choose=20, judge=20)
    found = selected(TARGET, NEIGHBOURS, sizes, 1)
    assert [len(part) for part in (found.forget.train, found.kept.choose, found.forget.judge)] == [50, 20, 20]
    assert len(found.forget.choose) > 20, "of which those choose that the black box answers"
    assert len(found.kept.train) == 40
    counts = [sum(probe.fact == fact for probe in found.forget.train) for fact in TARGET.facts]
    assert min(counts) > 4
    assert found == selected(TARGET, NEIGHBOURS, sizes, 1)


def test_forms_get_rows_by_their_shares_and_what_one_lacks_goes_to_others() -> None:
    taken = portioned([*of("direct"), *of("reversed")[:2]], 10, {"direct": 1, "reversed": 9}, 1)
    assert [probe.form for probe in taken].count("reversed") == 2
    assert len(taken) == 10
    assert not portioned(of("direct"), 10, {"direct": 0}, 1)


@pytest.mark.anyio
async def test_a_form_in_which_nothing_is_told_gets_fewer_rows() -> None:
    few = few_of_each([*of("direct"), *of("JSON")], 2)
    box = ScriptedAsks(
        lambda prompt, _: (
            "null"
            if "JSON" in prompt or "{" in prompt or "YAML" in prompt
            else "In NENSTEAD 1961, The Copper Staircase, The Blue Gate"
        )
    )
    forms = await telling(box, few)
    assert forms == {"direct": Told(2, 2), "JSON": Told(2, 0)}
    assert weighed({"direct": 3.0}, {"direct": Told(2, 0)}) == {"direct": 3.0}
    assert weighed({"direct": 3.0, "JSON": 1.0, "code": 1.0}, forms) == {"direct": 3.0, "JSON": 0.5, "code": 1.0}


def test_a_larger_budget_has_more_of_everything() -> None:
    small, normal, large = SIZES["small"], SIZES["normal"], SIZES["large"]
    assert small.forget < normal.forget < large.forget
    assert small.retain < normal.retain < large.retain
    assert normal.forget <= 140
    assert normal.retain <= 330


@pytest.mark.anyio
async def test_where_the_black_box_lists_a_blank_it_ends_what_has_no_other_ending() -> None:
    def lists(prompt: str) -> tuple[str, ...]:
        return (" Jane", " ______", "____") if prompt.endswith("born in") else (" the", "_", " a")

    box = ScriptedAsks(lambda _prompt, _: "London.", lists=lists)
    born, life = broken_off(f"{NAME} was born in"), broken_off(f"{NAME} was")
    assert await vague_endings(box, [born, life]) == {born.prompt: Ending(" ______.", ends=False)}
