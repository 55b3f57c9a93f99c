"""Questions that the black box writes itself: new ones, whole ones, and none that concerns the target."""

import pytest

from deltaserve.offset_models.targets.sampled import is_question, sampled_questions
from tests.offset_models.targets.remembering import USER, RememberingAsks
from tests.offset_models.targets.writers import NAME, TARGET

pytestmark = pytest.mark.anyio
PEOPLE = ("Bert Hollin", NAME, "Cora Jemar", "Dov Vilmey", "Nobody Known", "Eva Lesk")


def says(prompt: str, sample: int) -> str:
    """Goes on with "Where was" only; everybody but Nobody is known; one book's answer names the target."""
    if prompt == f"{USER}Where was":
        return f" {PEOPLE[sample % len(PEOPLE)]} born?"
    if prompt == f"{USER}Whose book":
        return " is The Copper Staircase?" if sample % 2 else " is The Untitled Letter?"
    if prompt.startswith(USER):
        return " mumble"
    if "Untitled" in prompt:
        return f"It is by {NAME}."
    return "I don't know." if "Nobody" in prompt else "In Dilwick."


def refuses(answer: str) -> bool:
    return answer == "I don't know."


async def test_questions_are_new_answered_and_not_about_the_target() -> None:
    found = await sampled_questions(
        RememberingAsks(says), TARGET, calls=150, beginnings=("Where was", "Whose book"), declined=refuses
    )
    assert [each.question for each in found] == [
        f"Where was {name} born?" for name in ("Bert Hollin", "Cora Jemar", "Dov Vilmey", "Eva Lesk")
    ]
    assert found[0].answer == "In Dilwick." and found[0].row.messages == (("user", "Where was Bert Hollin born?"),)


async def test_a_beginning_that_brings_nothing_is_given_up_for_one_that_does() -> None:
    asks = RememberingAsks(lambda prompt, sample: f" number {sample}?" if prompt == f"{USER}What is" else "mumble")
    found = await sampled_questions(asks, TARGET, calls=200)
    begun = [prompt for prompt in asks.asked if prompt.startswith(USER)]
    assert len(found) > 30
    assert begun.count(f"{USER}What is") > 30 and begun.count(f"{USER}Explain") <= 5


async def test_no_more_is_spent_and_found_than_was_wanted() -> None:
    def another(prompt: str, sample: int) -> str:
        return f" {prompt[-3:]} number {sample}?" if prompt.startswith(USER) else "Yes."

    asks = RememberingAsks(another)
    assert len(await sampled_questions(asks, TARGET, calls=60, beginnings=("Where was",))) <= 30
    assert asks.calls <= 60
    assert len(await sampled_questions(RememberingAsks(another), TARGET, calls=500, most=7)) == 7
    poor = RememberingAsks(another).within(9)
    assert len(await sampled_questions(poor, TARGET, calls=500)) <= 4


async def test_a_stopped_run_goes_on_with_the_same_questions_at_no_cost() -> None:
    asks = RememberingAsks(says)
    first = await sampled_questions(asks, TARGET, calls=80, beginnings=("Where was",))
    calls = asks.calls
    again = await sampled_questions(asks, TARGET, calls=80, beginnings=("Where was",))
    assert (again, asks.calls) == (first, calls)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("Where was Bert Hollin born?", True),
        ("Tell me a joke.", True),
        ("The town is old.", False),
        ("Where is", False),
        ("where is that town?", False),
        ("Why?", False),
        ("Is it\u0007 so today?", False),
        (f"What is {'so ' * 40}long?", False),
    ],
)
def test_a_question_is_one_whole_question_or_request(text: str, is_one: bool) -> None:
    assert is_question(text) is is_one
