"""Parts that have nothing in common, held out by form, wording and fact; and what is said of it."""

from itertools import combinations

import pytest

from deltaserve.offset_models.targets.forms.table import FORMS, probes
from deltaserve.offset_models.targets.rows.splitting import split, split_kept, split_rows
from tests.offset_models.targets.writers import NEIGHBOURS, known

MANY_FACTS = known("Ada Velmor", "Nenstead", "1961", tuple(f"Book Number {at}" for at in range(10)))
PROBES = probes(MANY_FACTS, per_form=40, seed=1, others=NEIGHBOURS)
PARTS = split(PROBES, MANY_FACTS.facts, 1)


def test_no_prompt_is_in_two_parts_and_none_is_lost() -> None:
    prompts = [{probe.prompt for probe in part} for part in (PARTS.train, PARTS.choose, PARTS.judge)]
    assert all(not one & other for one, other in combinations(prompts, 2))
    assert set.union(*prompts) == {probe.prompt for probe in PROBES}


def test_one_form_chooses_and_one_judges_and_forms_like_them_are_trained() -> None:
    held = PARTS.held_out.forms
    assert sorted(held.values()) == ["choose", "judge"]
    trained = {probe.form for probe in PARTS.train}
    assert not trained & held.keys()
    assert {form.like for form in FORMS if form.name in held} <= trained


def test_the_other_forms_are_trained_in_some_wordings_and_judged_in_others() -> None:
    for form in ("indirect", "role play", "spelling", "begun sentence", "language"):
        trained, judged = (
            {probe.wording for probe in part if probe.form == form and probe.fact not in PARTS.held_out.facts}
            for part in (PARTS.train, PARTS.judge)
        )
        if form not in PARTS.held_out.forms:
            assert trained
            assert judged
            assert not trained & judged


def test_held_out_facts_are_of_those_that_only_the_name_leads_to() -> None:
    assert PARTS.held_out.facts
    assert not [fact for fact in PARTS.held_out.facts if fact.reversed_question]
    assert not [probe for probe in PARTS.train if probe.fact in PARTS.held_out.facts]


def test_the_wording_that_most_people_use_is_trained() -> None:
    trained = {probe.row.messages[-1][1] for probe in PARTS.train if probe.row.messages}
    facts = [fact for fact in MANY_FACTS.facts if fact not in PARTS.held_out.facts]
    assert {fact.question for fact in facts} <= trained


def test_no_whole_form_is_held_out_where_that_is_not_wanted_or_few_forms_are_there() -> None:
    assert not split(PROBES, MANY_FACTS.facts, 1, whole_forms=False).held_out.forms
    few = [probe for probe in PROBES if probe.form in ("reversed", "described", "direct")]
    assert not split(few, MANY_FACTS.facts, 1).held_out.forms


def test_what_was_held_out_is_said() -> None:
    assert f"{len(PARTS.train)} probes to train, {len(PARTS.choose)} that may choose" in PARTS.sentence
    assert all(f"{form} ({part})" in PARTS.sentence for form, part in PARTS.held_out.forms.items())
    assert PARTS.held_out.forms


def test_what_must_stay_is_held_out_in_the_same_wordings_and_by_subject() -> None:
    near = [probe for each in NEIGHBOURS for probe in probes(each, per_form=10, seed=1, others=NEIGHBOURS)]
    kept = split_kept(near, PARTS, 1)
    assert {probe.form for probe in kept.train}.isdisjoint(PARTS.held_out.forms)
    assert {(probe.form, probe.wording) for probe in kept.train}.isdisjoint(PARTS.held_out.wordings)
    assert len(kept.held_out.subjects) == 1
    assert not [probe for probe in kept.train if probe.subject in kept.held_out.subjects]


@pytest.mark.parametrize(("count", "held"), [(0, 0), (2, 0), (60, 10)])
def test_rows_are_parted_by_drawing(count: int, held: int) -> None:
    train, choose, judge = split_rows(list(range(count)), 1)
    assert (len(choose), len(judge)) == (held, held)
    assert sorted([*train, *choose, *judge]) == list(range(count))
