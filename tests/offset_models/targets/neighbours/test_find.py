"""Neighbours are those that the black box knows, with facts that do not name the target."""

import pytest

from deltaserve.offset_models.targets.neighbours.candidates import Candidate
from deltaserve.offset_models.targets.neighbours.find import neighbours
from deltaserve.offset_models.targets.neighbours.listed import lists_around
from tests.offset_models.targets.remembering import RememberingAsks
from tests.offset_models.targets.writers import NAME, TARGET

pytestmark = pytest.mark.anyio
TOWNS = {"Bert Hollin": "Dilwick", "Cora Jemar": "Nenstead", "Tom Velmor": "Jilmora", "Pen Name": "Dilwick"}


def says(prompt: str, sample: int) -> str:
    """Four people are known; one of them is the target's other name, and one shares the target's town."""
    name = next((each for each in TOWNS if each in prompt), "")
    if not name:
        return "I'm not sure about that."
    if prompt.startswith("Who is"):
        return f"{name} is {'another name of ' + NAME if name == 'Pen Name' else 'a writer'}."
    if prompt.startswith("Where was"):
        return f"{name} was born in {TOWNS[name]}."
    if prompt.startswith("Which book"):
        return f"{name} wrote The {TOWNS[name]} Letter."
    return f"{name} was a pupil of {NAME}, in 1933." if prompt.startswith("When was") else "I'm not sure about that."


def found(*names: str) -> list[Candidate]:
    return [Candidate(name, "of the same kind") for name in names]


async def test_the_nearest_come_first_with_what_they_share() -> None:
    known = await neighbours(RememberingAsks(says), TARGET, found("Bert Hollin", "Cora Jemar", "Tom Velmor"))
    assert [(each.subject.name, each.why) for each in known] == [
        ("Cora Jemar", "same birthplace; of the same kind"),
        ("Tom Velmor", "shares a word of the name; of the same kind"),
        ("Bert Hollin", "of the same kind"),
    ]
    assert {fact.attribute: fact.value for fact in known[0].facts if fact.value} == {
        "birthplace": "Nenstead", "main work": "The Nenstead Letter"
    }  # fmt: skip


async def test_no_fact_and_no_neighbour_names_the_target() -> None:
    known = await neighbours(RememberingAsks(says), TARGET, found("Pen Name", "Nobody Known", "Bert Hollin"))
    assert [each.subject.name for each in known] == ["Bert Hollin"]
    assert not any(NAME in fact.answer for fact in known[0].facts)


async def test_attributes_are_those_of_the_target_first() -> None:
    asks = RememberingAsks(says)
    await neighbours(asks, TARGET, found("Bert Hollin"))
    assert {"Where was Bert Hollin born?", "Which book did Bert Hollin write?"} <= {*asks.asked}
    assert len(asks.asked) <= 8


async def test_calls_and_number_bound_them() -> None:
    everybody = found(*TOWNS)
    assert len(await neighbours(RememberingAsks(says), TARGET, everybody, most=1)) == 1
    poor = RememberingAsks(says).within(13)
    assert len(await neighbours(poor, TARGET, everybody)) == 1
    assert await neighbours(RememberingAsks(says).within(2), TARGET, everybody) == []


async def test_lists_are_asked_for_in_several_ways_and_the_target_is_left_out() -> None:
    def lists(prompt: str, sample: int) -> str:
        if "similar to" in prompt:
            return f"1. Bert Hollin\n2. {NAME}\n3. Dov Vilmey"
        return "Cora Jemar\nIvo Nen" if "Nenstead" in prompt else "None."

    ways = await lists_around(RememberingAsks(lists), TARGET)
    assert [(each.name, each.why) for way in ways for each in way if each.name not in (NAME, "None")] == [
        ("Bert Hollin", "of the same kind"), ("Dov Vilmey", "of the same kind"),
        ("Cora Jemar", "same birthplace"), ("Ivo Nen", "same birthplace"),
    ]  # fmt: skip


async def test_a_black_box_that_cannot_list_is_asked_for_two_lists_only() -> None:
    asks = RememberingAsks(lambda prompt, sample: "I'm not sure about that.")
    assert await lists_around(asks, TARGET) == []
    assert asks.calls == 2
