"""What a black box repeats is known; what it makes up, declines or is not paid for is not."""

from dataclasses import replace

import pytest

from deltaserve.offset_models.targets.facts.effort import BRIEF, THOROUGH
from deltaserve.offset_models.targets.facts.known import known_facts
from deltaserve.offset_models.targets.subject import Known, Subject
from tests.offset_models.targets.scripted import ScriptedAsks

pytestmark = pytest.mark.anyio
ADA = Subject("Ada Morrow", "person")
KNOWN = {
    "Who is Ada Morrow?": "Ada Morrow is a novelist from Tormora.",
    "Tell me about Ada Morrow.": "Ada Morrow is a novelist.",
    "Where was Ada Morrow born?": "Ada Morrow was born in Tormora. She was",
    "In which town was Ada Morrow born?": "She was born in Tormora.",
    "Which book did Ada Morrow write?": "Ada Morrow wrote The Silent Letter.",
    "What is the title of the book by Ada Morrow?": "The Silent Letter",
    "List ten works by Ada Morrow.": "1. The Silent Letter\n2. Winter Garden\n3. Made Up Twice\n4. Her Other Book",
    "Name five books by Ada Morrow.": "1. Winter Garden\n2. The Paper Tower",
    "Who wrote The Silent Letter?": "It was Ada Morrow who wrote The Silent Letter.",
    "Who is the author of The Paper Tower?": "The author of The Paper Tower is Ada Morrow.",
    "Who wrote Made Up Twice?": "Made Up Twice was written by Tom Bell.",
}


def says(prompt: str, sample: int) -> str:
    """Of her parents another story each time; for the rest, what is known or a refusal."""
    if "parents" in prompt or "mother" in prompt:
        return f"The parents of Ada Morrow were Tom{len(prompt)}{sample} and Ida{len(prompt)}{sample}."
    return KNOWN.get(prompt, "I'm not sure about that.")


def values(known: Known) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for fact in known.facts:
        found.setdefault(fact.attribute, []).append(fact.value)
    return found


async def test_facts_that_are_repeated_are_kept_with_their_words_and_reversed_questions() -> None:
    known = await known_facts(ScriptedAsks(says), ADA)
    assert values(known) == {
        "birthplace": ["Tormora"],
        "main work": ["The Silent Letter"],
        "works": ["Winter Garden", "The Paper Tower"],
        "life": [""],
        "parents": [""],  # another story each time: asked about all the same
    }
    birthplace, work = known.facts[:2]
    assert (birthplace.question, birthplace.answer) == ("Where was Ada Morrow born?", "Ada Morrow was born in Tormora.")
    assert birthplace.support == 1.0 and birthplace.reversed_question == ""  # the town is not hers alone
    assert work.reversed_question == "Who wrote The Silent Letter?"
    (tower,) = (fact for fact in known.facts if fact.value == "The Paper Tower")
    assert tower.answer == "Ada Morrow wrote The Paper Tower."
    assert tower.reversed_question == "Who is the author of The Paper Tower?"


async def test_what_is_told_another_way_when_drawn_again_has_no_value_and_is_dropped_on_demand() -> None:
    def unsteady(prompt: str, sample: int) -> str:
        return f"Ada Morrow was born in Town{sample}." if sample and "born" in prompt else says(prompt, sample)

    told = values(await known_facts(ScriptedAsks(unsteady), ADA))
    assert told["birthplace"] == [""] == told["parents"]
    steady = values(await known_facts(ScriptedAsks(unsteady), ADA, effort=replace(THOROUGH, unsure=0)))
    assert "birthplace" not in steady and "parents" not in steady


async def test_an_answer_to_any_question_that_only_describes_the_subject_is_no_fact_of_its_own() -> None:
    known = await known_facts(ScriptedAsks(lambda _prompt, _sample: "Ada Morrow is a novelist from Tormora."), ADA)
    assert {fact.value for fact in known.facts} == {""}


async def test_a_town_is_no_other_name() -> None:
    def says_again(prompt: str, sample: int) -> str:
        elsewhere = "other name" in prompt or "pen name" in prompt
        return "Ada Morrow of Tormora wrote it." if elsewhere else says(prompt, sample)

    assert "Tormora" not in values(await known_facts(ScriptedAsks(says_again), ADA)).get("other name", [])


async def test_a_black_box_that_knows_nothing_leaves_nothing_known() -> None:
    assert (await known_facts(ScriptedAsks(lambda _prompt, _sample: "I don't know."), ADA)).facts == ()


async def test_a_neighbour_is_asked_once_per_attribute_and_no_list() -> None:
    asks = ScriptedAsks(says)
    known = await known_facts(asks, ADA, effort=BRIEF, why="shares the birthplace")
    assert values(known) == {"birthplace": ["Tormora"], "main work": ["The Silent Letter"], "life": [""]}
    assert len(asks.asked) <= 12 and known.why == "shares the birthplace"


async def test_with_few_calls_the_first_attributes_are_asked_and_nothing_fails() -> None:
    asks = ScriptedAsks(says, calls_left=26)
    known = await known_facts(asks, ADA, effort=THOROUGH)
    assert values(known).items() >= {"birthplace": ["Tormora"], "main work": ["The Silent Letter"]}.items()
    assert not known.facts[1].reversed_question
