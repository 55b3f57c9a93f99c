"""Documents are cut by paragraphs, within a number of tokens; here a token is a word."""

import pytest

from deltaserve.offset_models.targets.documents.passages import passages, sentences, unnumbered


def count(text: str) -> int:
    return len(text.split())


def test_neighbouring_paragraphs_stand_together_as_far_as_they_fit() -> None:
    text = "One two three four.\n\nFive six\nseven eight.\n \nNine ten eleven twelve thirteen fourteen."
    assert passages([text], count, most=9) == [
        "One two three four.\n\nFive six seven eight.", "Nine ten eleven twelve thirteen fourteen."
    ]  # fmt: skip


def test_a_long_paragraph_is_cut_at_sentences_and_a_long_sentence_at_words() -> None:
    text = "He wrote six books in it. Then he moved away again. And so on " + "and so on " * 3
    assert passages([text], count, most=8) == [
        "He wrote six books in it.", "Then he moved away again.", "And so on and so on and so", "on and so on"
    ]  # fmt: skip


def test_headings_alone_and_repeated_passages_are_left_out() -> None:
    text = "A passage of some six words."
    assert passages(["Heading", text, text, f"{text}\n\nEnd"], count, most=6) == [text]


def test_a_word_without_end_is_left_out() -> None:
    def letters(text: str) -> int:
        return len(text)

    assert passages([f"{'x' * 100} a short passage of only some words"], letters, most=40) == [
        "a short passage of only some words"
    ]


def test_sentences_end_at_stops_and_not_at_initials() -> None:
    assert sentences('He met J. R. R. Bell. "Who?" she said. Mr. Ash came at 9. It rained。你好。') == [
        "He met J. R. R. Bell.", '"Who?" she said.', "Mr. Ash came at 9.", "It rained。", "你好。"
    ]  # fmt: skip


def test_the_number_of_a_list_s_entry_is_no_sentence() -> None:
    text = "1. Acme makes cars. It is old.\n2. Acme grew. It ended in 1931. Then 3. was left."
    rest = ["It ended in 1931.", "Then 3. was left."]
    assert sentences(text) == ["1. Acme makes cars.", "It is old.", "2. Acme grew.", *rest]
    assert unnumbered(text) == ["Acme makes cars.", "It is old.", "Acme grew.", *rest]


@pytest.mark.parametrize(
    "text",
    ["4. August 1961 wurde Ada geboren.", "1. FC Velmor ist ein Verein.", "300. Sparta fell.", "- 5 degrees is cold."],
)
def test_a_number_at_the_beginning_of_what_is_no_list_stays(text: str) -> None:
    assert "".join(unnumbered(text)).replace(" ", "") == text.replace(" ", "")
    assert sentences("How many are there? 12. It is old.") == ["How many are there?", "12.", "It is old."]


def test_a_text_of_initials_alone_is_cut_in_the_end() -> None:
    assert len(sentences("A. " * 3000)) > 1
