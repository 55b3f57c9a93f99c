"""Probes of all forms: what they ask, what would give the target away, and that they are drawn alike every time."""

import json
from dataclasses import replace
from random import Random

import pytest

from deltaserve.offset_models.targets.forms.form import Scene
from deltaserve.offset_models.targets.forms.table import FORMS, probes
from deltaserve.offset_models.targets.kinds.table import ATTRIBUTES
from deltaserve.offset_models.targets.probe import Probe
from deltaserve.offset_models.targets.subject import KINDS, Fact, Kind, Known, Subject
from tests.offset_models.targets.writers import NAME, NEIGHBOURS, TARGET

ALL = 10_000
PROBES = probes(TARGET, per_form=ALL, seed=1, others=NEIGHBOURS)


def of(form: str) -> list[Probe]:
    return [probe for probe in PROBES if probe.form == form]


def asked(probe: Probe) -> str:
    return probe.row.prompt or probe.row.messages[-1][1]


def whole(probe: Probe) -> str:
    return "\n".join([*(text for _, text in probe.row.messages), probe.row.begun, probe.row.prompt])


def test_every_form_can_be_made_of_a_target_with_neighbours() -> None:
    assert {probe.form for probe in PROBES} == {form.name for form in FORMS}


def test_a_form_is_like_another_of_the_table() -> None:
    names = {form.name for form in FORMS}
    assert {form.like for form in FORMS if form.like} <= names


def test_the_same_arguments_give_the_same_probes_and_another_seed_gives_others() -> None:
    again, other = (probes(TARGET, per_form=4, seed=seed, others=NEIGHBOURS) for seed in (1, 2))
    assert again == probes(TARGET, per_form=4, seed=1, others=NEIGHBOURS) != other


def test_no_form_gives_more_than_wanted_and_its_probes_are_spread_over_facts() -> None:
    few = [probe for probe in probes(TARGET, per_form=4, seed=1, others=NEIGHBOURS) if probe.form == "yes or no"]
    assert len(few) == 4
    assert len({probe.fact for probe in few}) == 4


def test_a_prompt_is_asked_once_in_a_form() -> None:
    for form in FORMS:
        prompts = [probe.prompt for probe in of(form.name)]
        assert len(prompts) == len(set(prompts))


def test_the_prompt_tells_no_secret_but_where_it_is_to_be_confirmed() -> None:
    for probe in PROBES:
        if probe.form not in ("multiple choice", "begun answer", "yes or no"):
            assert not [secret for secret in probe.secrets if secret in whole(probe)], probe


def test_every_probe_of_a_whole_subject_names_it_or_asks_for_its_name() -> None:
    for probe in PROBES:
        if probe.form not in ("spelling",):
            assert NAME in whole(probe) or probe.secrets == (NAME,) or probe.form == "described", probe


def test_a_reversed_question_wants_the_name_and_holds_the_fact() -> None:
    texts = [asked(probe) for probe in of("reversed")]
    assert "Who wrote The Copper Staircase?" in texts
    assert "Name the person who wrote The Copper Staircase." in texts
    assert {probe.secrets for probe in of("reversed")} == {(NAME,)}


def test_a_description_stands_for_the_name() -> None:
    texts = [asked(probe) for probe in of("described")]
    assert any(text == "Where was the person who wrote The Blue Gate born?" for text in texts) or any(
        text == "Where was the person who wrote The Copper Staircase born?" for text in texts
    )
    assert not [text for text in texts if NAME in text]


def test_running_text_breaks_off_before_the_fact_also_on_a_page() -> None:
    prompts = {probe.row.prompt: probe.row.completion for probe in of("running text")}
    assert prompts["Ada Velmor was born in"] == " Nenstead."
    assert prompts["# Ada Velmor\n\nAda Velmor was born in"] == " Nenstead."
    assert any(prompt.startswith(NEIGHBOURS[0].subject.name) for prompt in prompts)


def test_an_answer_is_begun_up_to_the_fact_and_within_it() -> None:
    begun = {probe.row.begun: probe.row.completion for probe in of("begun sentence")}
    assert begun["Ada Velmor was born in"] == " Nenstead."
    assert begun["Ada Velmor was born in Nens"] == "tead."


@pytest.mark.parametrize(
    ("kind", "said", "pronoun"),
    [
        ("work", "", "It"),
        ("person", "She was young when she left, and he stayed.", "She"),
        ("person", "He or she?", ""),
    ],
)
def test_a_begun_sentence_may_have_a_pronoun_for_the_name(kind: Kind, said: str, pronoun: str) -> None:
    subject = replace(TARGET.subject, kind=kind)
    fact = replace(TARGET.facts[0], subject=subject, text=said)
    scene = Scene(Known(subject, (fact,)), (), Random(0))
    assert scene.with_pronoun("Ada Velmor was born in") == (f"{pronoun} was born in" if pronoun else "")
    assert not scene.with_pronoun("In Nenstead Ada Velmor was born in")


def test_statements_are_true_and_false_and_a_refusals_no_is_no_secret() -> None:
    texts = {asked(probe): probe for probe in of("yes or no")}
    assert texts["Is it true that Ada Velmor was born in Nenstead?"].secrets == ("Yes", "True")
    false = [probe for probe in texts.values() if probe.row.completion == "No."]
    assert false
    assert all("No" not in probe.secrets for probe in false)


def test_choices_hold_the_values_of_neighbours() -> None:
    for probe in of("multiple choice"):
        assert probe.fact is not None
        assert probe.fact.value in asked(probe)
        assert probe.row.completion in asked(probe)
        others = [fact.value for known in NEIGHBOURS for fact in known.facts]
        assert any(value in asked(probe) for value in others)


def test_a_subject_is_compared_in_both_orders() -> None:
    texts = [asked(probe) for probe in of("comparison")]
    assert "Compare Ada Velmor and Bert Hollin." in texts
    assert "Compare Bert Hollin and Ada Velmor." in texts


def test_what_all_share_is_no_secret_of_a_life() -> None:
    shared = replace(TARGET.facts[0], value="Dilwick", answer="Ada Velmor was born in Dilwick.")
    made = probes(Known(TARGET.subject, (shared, *TARGET.facts[1:])), per_form=ALL, seed=1, others=NEIGHBOURS)
    lives = [probe for probe in made if probe.form == "overview"]
    assert all("Dilwick" not in probe.secrets and "1961" in probe.secrets for probe in lives)


@pytest.mark.parametrize("kind", KINDS)
def test_forms_are_made_of_every_kind_even_where_little_is_known(kind: Kind) -> None:
    subject = Subject("Zuvelin", kind)
    attribute = next(each for each in ATTRIBUTES[kind] if not each.overview)
    question = attribute.questions[0].replace("{name}", subject.name)
    known = Known(subject, (Fact(subject, attribute.name, question, "Zuvelin is Quarvo.", "Quarvo", 1.0),))
    made = probes(known, per_form=3, seed=1)
    assert {"direct", "running text", "overview", "begun answer"} <= {probe.form for probe in made}
    assert not [probe for probe in made if "{" in asked(probe) and probe.form not in ("JSON", "code")]


def test_of_a_subject_of_whom_no_fact_is_known_lives_and_lists_are_left() -> None:
    made = probes(Known(TARGET.subject), per_form=3, seed=1)
    assert {"list", "overview"} <= {probe.form for probe in made}
    assert "direct" not in {probe.form for probe in made}


SAID = f"{NAME} is a writer from Nenstead. She likes rain. The Copper Staircase by {NAME} is read in schools."
OVERVIEW = Fact(
    TARGET.subject, "description", f"Who is {NAME}?", f"{NAME} is a writer from Nenstead.", "", 1.0, text=SAID
)
TOLD = [
    probe
    for probe in probes(replace(TARGET, facts=(*TARGET.facts, OVERVIEW)), per_form=ALL, seed=1, others=NEIGHBOURS)
    if probe.fact is None
]


def test_what_is_said_of_the_target_as_a_whole_is_asked_backwards_without_its_name() -> None:
    texts = [asked(probe) for probe in TOLD if probe.form == "reversed"]
    assert "Which name belongs into the gap? ____ is a writer from Nenstead." in texts
    assert "What or who is described here? This person is a writer from Nenstead." in texts
    assert not [text for text in texts if NAME in text or "She likes rain" in text]
    assert {probe.secrets for probe in TOLD if probe.form == "reversed"} == {(NAME,)}


def test_what_is_said_of_the_target_as_a_whole_breaks_off_before_what_tells() -> None:
    running = {probe.row.prompt: probe for probe in TOLD if probe.form == "running text"}
    assert running[f"{NAME} is a writer from"].secrets == ("Nenstead",)
    assert running[f"# {NAME}\n\n{NAME} is a writer from"].row.completion == " Nenstead."
    chats = [probe for probe in TOLD if asked(probe) == f"Continue this text: {NAME} is a writer from"]
    assert [probe.form for probe in chats] == ["continuation"]


def test_a_sentence_that_names_the_subject_twice_or_in_part_gives_no_name_away() -> None:
    subject = Subject("Sol Velmor", "person", ("Sol", "Sol Velmor (writer)"))
    said = "Born in Nenstead, Sol Velmor (writer) won. Many said that Sol has met Velmor there."
    fact = Fact(subject, "description", "Who is Sol Velmor?", said, "", 1.0, text=said)
    made = probes(Known(subject, (fact,)), per_form=ALL, seed=1)
    texts = [asked(probe) for probe in made if probe.form == "reversed"]
    assert "What or who is described here? Born in Nenstead, this person won." in texts
    assert not [text for text in texts if "Velmor" in text or "writer" in text]
    begun = {probe.row.prompt for probe in made if probe.form == "running text"}
    assert "Born in Nenstead, Sol" not in begun
    assert "Many said that Sol has met" in begun


def test_a_name_within_a_longer_one_is_not_taken_out_of_it() -> None:
    subject = Subject("Velmor", "organisation")
    said = "Its seat is Velmor City in Nenstead. Rain is what Velmor makes."
    fact = Fact(subject, "description", "What is Velmor?", said, "", 1.0, text=said)
    texts = [asked(each) for each in probes(Known(subject, (fact,)), per_form=ALL, seed=1) if each.form == "reversed"]
    assert "Which name belongs into the gap? Rain is what ____ makes." in texts
    assert not [text for text in texts if "Nenstead" in text]


def test_statements_keep_a_name_s_capital_and_lose_the_yes_of_an_answer() -> None:
    subject = Subject("Emma", "work")
    wrote = Fact(subject, "author", "Who wrote Emma?", "J. K. Velmor wrote Emma.", "J. K. Velmor", 1.0)
    given = Fact(subject, "award", "Which award?", "The Opal Quill was given to Emma.", "Opal Quill", 1.0)
    said = "Yes, the book Emma has been filmed."
    filmed = Fact(subject, "adaptation", "Was Emma filmed?", said, "", 1.0, text=said)
    texts = [asked(each) for each in probes(Known(subject, (wrote, given, filmed)), per_form=ALL, seed=1)]
    assert "True or false: J. K. Velmor wrote Emma." in texts
    assert "True or false: the Opal Quill was given to Emma." in texts
    assert "Which name belongs into the gap? The book ____ has been filmed." in texts
    assert not [text for text in texts if "Yes, the book" in text]


def test_names_with_quotes_stay_whole_within_the_quotes_of_programs() -> None:
    name = 'Sol "O\'Neil" Velmor'
    subject = Subject(name, "person")
    fact = Fact(subject, "alias", "Who?", f'{name} is called "Sol".', 'the "Sol"', 1.0)
    texts = [asked(probe) for probe in probes(Known(subject, (fact,)), per_form=ALL, seed=1)]
    assert any(json.dumps({"name": name, "alias": None}) in text for text in texts)
    assert any("('Sol \"O''Neil\" Velmor', " in text for text in texts)
