"""What stands around a target is asked for within one number of calls, whether or not the black box can list."""

import pytest

from deltaserve.offset_models.targets.surroundings import surroundings
from tests.offset_models.targets.remembering import USER, RememberingAsks
from tests.offset_models.targets.writers import NAME, TARGET

pytestmark = pytest.mark.anyio
PEOPLE = [
    f"{first} {last}" for last in ("Hollin", "Jemar", "Vilmey") for first in ("Bert", "Cora", "Dov", "Eva", "Ivo")
]


def answers(prompt: str) -> str:
    name = next((each for each in PEOPLE if each in prompt), "")
    if prompt.startswith("Who is"):
        return f"{name} is a writer."
    if name and prompt.startswith("Where was"):
        return f"{name} was born in Dilwick."
    if name and prompt.startswith("Which book"):
        return f"{name} wrote The {name.split()[0]} Letter."
    return "Nenstead is a town." if prompt == "Where is Nenstead?" else "I'm not sure about that."


def lists(prompt: str, sample: int) -> str:
    """Lists people when it is asked for them; begun questions are about the weather."""
    if prompt.startswith(USER):
        return f" the weather of day {sample} in May?" if prompt.endswith("What is") else " mumble"
    if prompt.startswith("What is the weather"):
        return "It is fine."
    return "\n".join([NAME, *PEOPLE]) if "similar" in prompt or "same things" in prompt else answers(prompt)


def only_writes(prompt: str, sample: int) -> str:
    """Cannot list; begun questions are about people."""
    if prompt.startswith(USER):
        return f" {PEOPLE[sample % len(PEOPLE)]} born?" if prompt.endswith("Where was") else " mumble"
    return answers(prompt)


async def test_a_black_box_that_lists_gives_neighbours_by_lists() -> None:
    asks = RememberingAsks(lists)
    around = await surroundings(asks, TARGET, calls=150)
    assert {each.subject.name for each in around.neighbours} <= {*PEOPLE} and len(around.neighbours) >= 8
    assert [each.row.messages[0][1] for each in around.shared] == ["Where is Nenstead?"]
    assert around.sampled and all("weather" in each.question for each in around.sampled)
    assert asks.calls <= 150


async def test_one_that_cannot_list_gives_those_whom_it_asks_about() -> None:
    asks = RememberingAsks(only_writes)
    around = await surroundings(asks, TARGET, calls=300)
    assert len(around.neighbours) >= 10
    assert {each.why for each in around.neighbours} == {"asked about by the black box"}
    assert asks.calls <= 300


async def test_few_calls_give_less_of_everything_and_no_error() -> None:
    asks = RememberingAsks(lists)
    around = await surroundings(asks, TARGET, calls=30)
    assert len(around.neighbours) <= 3 and asks.calls <= 30
    assert (await surroundings(RememberingAsks(lists), TARGET, calls=3)).neighbours == []
