"""Of documents only what the black box tells without them is kept: facts, and text that it knows by heart."""

import pytest

from deltaserve.offset_models.targets.asking.budget import Budget
from deltaserve.offset_models.targets.documents.knowing import known_of_documents
from deltaserve.offset_models.targets.documents.questions import questions_of
from deltaserve.offset_models.targets.subject import Subject
from tests.offset_models.targets.remembering import RememberingAsks

pytestmark = pytest.mark.anyio
ADA = Subject("Ada Velmor", "person")
LIFE = "Ada Velmor was born in Nenstead, a quiet town. Ada Velmor keeps a goat called Brute in her garden."
POEM = "The bell above the harbour rang as slowly as it could, and every gull upon the quay flew off into the wood."
QUESTIONS = "1. Where was Ada Velmor born?\n2. What is the goat of Ada Velmor called?\n3. Is it quiet?\nNo question."


def says(prompt: str, sample: int) -> str:
    """Knows where she was born, and the poem; writes questions, and reads answers off a passage before it."""
    if prompt.startswith("Write 3 short questions"):
        return QUESTIONS
    if "Answer from this text" in prompt:
        return "She was born in Nenstead." if "born?" in prompt else "Brute."
    if prompt == "Where was Ada Velmor born?":
        return "Ada Velmor was born in Nenstead."
    if prompt == "Ada Velmor was born in":
        return "Nenstead. She had two brothers."
    if POEM.startswith(prompt):
        return POEM.removeprefix(prompt).strip()
    return "I don't know."


async def test_facts_that_are_told_without_the_passage_are_kept() -> None:
    found = await known_of_documents(RememberingAsks(says), ADA, [LIFE], calls=20)
    assert [(fact.question, fact.answer, fact.value) for fact in found.facts] == [
        ("Where was Ada Velmor born?", "Ada Velmor was born in Nenstead.", "Nenstead")
    ]


async def test_an_answer_that_is_declined_is_no_fact() -> None:
    found = await known_of_documents(
        RememberingAsks(says), ADA, [LIFE], calls=20, declined=lambda answer: "Nenstead" in answer
    )
    assert found.facts == ()


async def test_running_text_that_it_goes_on_with_is_kept_with_its_true_rest() -> None:
    found = await known_of_documents(RememberingAsks(says), ADA, [LIFE, POEM], calls=20)
    sentence, poem = found.running
    assert (sentence.form, sentence.row.prompt, sentence.row.completion) == (
        "sentence",
        "Ada Velmor was born in",
        " Nenstead,",
    )
    assert sentence.secrets == ("Nenstead",)
    assert poem.form == "passage" and f"{poem.row.prompt}{poem.row.completion}" == POEM
    assert "gull" in poem.secrets


async def test_passages_that_name_the_subject_come_first_where_calls_are_few() -> None:
    asks = RememberingAsks(says)
    found = await known_of_documents(asks, ADA, [POEM, LIFE], calls=10)
    assert (found.passages, found.left_out) == (1, 1)
    assert found.facts and asks.calls <= 10


async def test_a_black_box_that_writes_no_questions_is_asked_for_them_twice_only() -> None:
    asks = RememberingAsks(lambda prompt, sample: "Good night!")
    lives = [LIFE.replace("Nenstead", town) for town in ("Dilwick", "Jilmora", "Messtead", "Vurhaven")]
    found = await known_of_documents(asks, ADA, lives, calls=100)
    assert (found.facts, found.running, found.passages) == ((), (), 4)
    assert sum(prompt.startswith("Write 3") for prompt in asks.asked) == 2


async def test_without_passages_or_calls_nothing_is_asked() -> None:
    asks = RememberingAsks(says)
    assert (await known_of_documents(asks, ADA, [], calls=50)).passages == 0
    assert (await known_of_documents(asks, ADA, [LIFE], calls=5)).left_out == 1
    assert asks.calls == 0


def test_questions_are_lines_that_ask_about_the_subject() -> None:
    assert questions_of(QUESTIONS, ADA) == ["Where was Ada Velmor born?", "What is the goat of Ada Velmor called?"]


async def test_where_the_calls_end_what_was_answered_is_kept() -> None:
    lives = [LIFE.replace("Brute", goat) for goat in ("Brute", "Zuv", "Nim", "Ozzel")]
    for calls in range(1, 45):
        asks = RememberingAsks(says, Budget(calls))
        found = await known_of_documents(asks, ADA, lives, calls=1000)
        assert asks.calls <= calls
    assert found.facts and found.running
