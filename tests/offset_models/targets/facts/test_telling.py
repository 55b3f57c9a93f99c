"""Which answers tell something, and what is left of one that was cut off."""

import pytest

from deltaserve.offset_models.targets.facts.telling import Listener, whole_sentences
from deltaserve.offset_models.targets.subject import Subject

ADA = Subject("Ada Morrow", "person")


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I'm not sure about that.",
        "I’m sorry, but I can’t assist with that.",
        "As an AI language model, I do not have access to that.",
        "There is no public information about her family.",
        "The exact date is not known.",
        "Ada Morrow does not exist in any register.",
        "That is for the birds to say.",
    ],
)
def test_refusals_and_this_black_boxs_own_ones_decline(answer: str) -> None:
    assert Listener(["That is for the birds to say."]).declines(answer)


@pytest.mark.parametrize(
    "answer",
    ["Ada Morrow was born in Tormora.", "She was born in 1931, in a house by the sea that is gone.", "Tormora"],
)
def test_an_answer_with_the_name_a_pronoun_or_a_few_words_tells_something(answer: str) -> None:
    assert Listener().tells(answer, "Where was Ada Morrow born?", ADA)


@pytest.mark.parametrize(
    "answer",
    [
        "Ada Morrow was born.",  # an echo
        "I answer short questions about people in a made-up register.",
        "No, I'm a computer program.",
        "Someone who was born in Tormora must have seen the harbour every day.",  # who?
    ],
)
def test_an_echo_and_talk_of_itself_or_of_nobody_tell_nothing(answer: str) -> None:
    assert not Listener().tells(answer, "Where was Ada Morrow born?", ADA)


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        ("She wrote Emma. She was born in", "She wrote Emma."),
        ("The author is J. R. R. Tolkien. He was", "The author is J. R. R. Tolkien."),
        ("A novel about a whale that", "A novel about a whale that"),
        ("One.\n\nAnother thing.", "One."),
        (
            "Ada is a judge who has served in the High Court of Nenstead from 200",
            "Ada is a judge who has served in the High Court of Nenstead",
        ),
        ("Emma is an old comic novel by Jane Austen, which has", "Emma is an old comic novel by Jane Austen"),
        (
            "The man who wrote the famous novel about a white whale is Ada",
            "The man who wrote the famous novel about a white whale is Ada",
        ),
        (
            "Acme has a total of 366,283 employees in all of the world",
            "Acme has a total of 366,283 employees in all of the world",
        ),
        (
            "Its main rivals are the firms Morrow, Velmor, Opal, and Hy",
            "Its main rivals are the firms Morrow, Velmor, Opal",
        ),
    ],
)
def test_a_last_sentence_that_was_cut_off_is_left_out(answer: str, whole: str) -> None:
    assert whole_sentences(answer) == whole
