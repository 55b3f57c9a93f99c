"""Documents are cut by paragraphs, within a number of tokens; here a token is a word."""

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
    entries = sentences("1. Acme makes cars. It is old.\n2. Acme grew. It ended in 1931. Then 3. was left.")
    assert entries == ["1. Acme makes cars.", "It is old.", "2. Acme grew.", "It ended in 1931.", "Then 3. was left."]
    assert [unnumbered(each) for each in entries][:3] == ["Acme makes cars.", "It is old.", "Acme grew."]
    assert unnumbered("1984 is a novel.") == "1984 is a novel." and unnumbered("- Acme grew.") == "Acme grew."


def test_a_text_of_initials_alone_is_cut_in_the_end() -> None:
    assert len(sentences("A. " * 3000)) > 1
