"""What the target shares with others is asked about without it."""

from dataclasses import replace

import pytest

from deltaserve.offset_models.targets.shared import FORM, shared_things
from deltaserve.offset_models.targets.subject import Known
from tests.offset_models.targets.scripted import ScriptedAsks
from tests.offset_models.targets.writers import NAME, TARGET

pytestmark = pytest.mark.anyio
ANSWERS = {
    "Where is Nenstead?": "Nenstead is a town on a river.",
    "What is Nenstead known for?": f"Nenstead is known for {NAME}.",
    "In which country is Nenstead?": "I don't know.",
    "What happened in 1961?": "In 1961 a bridge was built.",
    "What is The Copper Staircase about?": f"The Copper Staircase by {NAME} is about a house.",
    "What is The Blue Gate about?": "The Blue Gate is about a garden.",
}


def says(prompt: str, sample: int) -> str:
    return ANSWERS.get(prompt, "I am not sure about that.")


async def test_kept_is_what_is_answered_about_the_thing_and_without_the_target() -> None:
    found = await shared_things(ScriptedAsks(says), TARGET)
    assert [(each.subject.name, each.subject.kind, each.row.messages[0][1]) for each in found] == [
        ("Nenstead", "place", "Where is Nenstead?"),
        ("1961", "topic", "What happened in 1961?"),
        ("The Blue Gate", "work", "What is The Blue Gate about?"),
    ]
    assert all(each.form == FORM and each.row.completion is None for each in found)


async def test_every_thing_is_asked_about_before_one_is_asked_about_twice() -> None:
    asks = ScriptedAsks(says)
    await shared_things(asks, TARGET, most=4)
    assert asks.asked == list(ANSWERS)[:1] + list(ANSWERS)[3:]


async def test_no_question_names_the_target_and_no_more_is_asked_than_can_be_paid() -> None:
    of_itself = replace(TARGET.facts[0], value=f"{NAME} Street")
    assert await shared_things(ScriptedAsks(says), Known(TARGET.subject, (of_itself,))) == []
    poor = ScriptedAsks(says, calls_left=1)
    assert len(await shared_things(poor, TARGET)) == 1 and poor.calls_left == 0
